// Euclidean radial-basis units: y_i = Σ_j (x_j − w_ij)².
#include "kernels/enter.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

void rbf_forward(const Linear& a) {
    for (Index v = 0; v < kImages; v += kLanes)
        for (Index o = 0; o < a.outputs; ++o) {
            Vec total = zero();
            for (Index i = 0; i < a.inputs; ++i) {
                const Vec difference = load(a.input + i * kImages + v) - a.weights[o * a.inputs + i];
                total += difference * difference;
            }
            store(a.output + o * kImages + v, total);
        }
}

// δx_j = Σ_i 2 δ_i (x_j − w_ij), and with a weight gradient ∂J/∂w_ij = −Σ_n 2 δ_i (x_j − w_ij).
void rbf_input_delta(const Linear& a) {
    if (a.input_delta && !a.accumulate)
        for (Index i = 0; i < a.inputs * kImages; i += kLanes) store(a.input_delta + i, zero());
    for (Index o = 0; o < a.outputs; ++o)
        for (Index i = 0; i < a.inputs; ++i) {
            Vec total = zero();
            for (Index v = 0; v < kImages; v += kLanes) {
                const Vec difference = load(a.input + i * kImages + v) - a.weights[o * a.inputs + i];
                const Vec share = 2.0f * load(a.delta + o * kImages + v) * difference;
                total += share;
                if (a.input_delta)
                    store(a.input_delta + i * kImages + v, load(a.input_delta + i * kImages + v) + share);
            }
            if (a.weight_gradient) {
                float sum = a.accumulate_gradient ? a.weight_gradient[o * a.inputs + i] : 0.0f;
                for (int lane = 0; lane < CONVSCOPE_LANES; ++lane) sum -= total[lane];
                a.weight_gradient[o * a.inputs + i] = sum;
            }
        }
}

}  // namespace

void enter_rbf(KernelTable& table) {
    table.rbf_forward = rbf_forward;
    table.rbf_input_delta = rbf_input_delta;
}

}  // namespace convscope::CONVSCOPE_ISA
