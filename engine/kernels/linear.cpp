// Fully connected layers on blocks of 16 images, straight from torch's (outputs, inputs) weights.
//
// Nothing is packed: a row of weights serves 16 images only, so packing would cost as much as it saves.
#include "kernels/enter.h"
#include "kernels/turned.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

constexpr int kRows = kRegisters == 32 ? 12 : 8;  // outputs at once; the latency of an FMA asks for 8

template <int Rows>
void forward_rows(const Linear& a, Index first) {
    for (Index v = 0; v < kVectors; ++v) {
        Vec sums[Rows];
        const float* weights[Rows];
        CONVSCOPE_UNROLL for (int r = 0; r < Rows; ++r) {
            sums[r] = a.bias ? broadcast(a.bias[first + r]) : zero();
            weights[r] = a.weights + (first + r) * a.inputs;
        }
        const float* x = a.input + v * kLanes;
        for (Index i = 0; i < a.inputs; ++i) {
            const Vec value = load(x + i * kImages);
            CONVSCOPE_UNROLL for (int r = 0; r < Rows; ++r) sums[r] += weights[r][i] * value;
        }
        CONVSCOPE_UNROLL for (int r = 0; r < Rows; ++r) store(a.output + (first + r) * kImages + v * kLanes, sums[r]);
    }
}

void linear_forward(const Linear& a) {
    Index first = 0;
    for (; first + kRows <= a.outputs; first += kRows) forward_rows<kRows>(a, first);
    for (; first + 4 <= a.outputs; first += 4) forward_rows<4>(a, first);
    for (; first < a.outputs; ++first) forward_rows<1>(a, first);
}

// δ of `Columns` inputs from `Rows` outputs, whose δ wait in registers.
template <int Rows, int Columns>
void delta_tile(const Linear& a, Index output, Index input, bool accumulate) {
    for (Index v = 0; v < kVectors; ++v) {
        Vec sums[Columns];
        float* const to = a.input_delta + input * kImages + v * kLanes;
        CONVSCOPE_UNROLL for (int c = 0; c < Columns; ++c) sums[c] = accumulate ? load(to + c * kImages) : zero();
        const float* weights = a.weights + output * a.inputs + input;
        const float* const delta = a.delta + output * kImages + v * kLanes;
        CONVSCOPE_UNROLL for (int r = 0; r < Rows; ++r, weights += a.inputs) {
            const Vec d = load(delta + r * kImages);
            CONVSCOPE_UNROLL for (int c = 0; c < Columns; ++c) sums[c] += weights[c] * d;
        }
        CONVSCOPE_UNROLL for (int c = 0; c < Columns; ++c) store(to + c * kImages, sums[c]);
    }
}

template <int Rows>
void delta_rows(const Linear& a, Index output, Index first, Index last, bool accumulate) {
    Index input = first;
    for (; input + 8 <= last; input += 8) delta_tile<Rows, 8>(a, output, input, accumulate);
    for (; input < last; ++input) delta_tile<Rows, 1>(a, output, input, accumulate);
}

// Stretches of 1,024 inputs: their δ stay in the second-level cache, and weights are read a page at a time, not a
// cache line of every row.
void linear_input_delta(const Linear& a) {
    constexpr Index kStretch = 1024;
    constexpr int kOutputs = 16;
    for (Index first = a.first_input; first < a.last_input; first += kStretch) {
        const Index last = first + kStretch < a.last_input ? first + kStretch : a.last_input;
        Index output = 0;
        for (; output + kOutputs <= a.outputs; output += kOutputs)
            delta_rows<kOutputs>(a, output, first, last, a.accumulate || output > 0);
        for (; output < a.outputs; ++output) delta_rows<1>(a, output, first, last, a.accumulate || output > 0);
    }
}

// Outer products of 16 images: Rows outputs × Columns registers of inputs.
template <int Rows, int Columns>
void gradient_tile(const Linear& a, Index output, Index input, Index stride) {
    Vec sums[Rows][Columns];
    float* const to = a.weight_gradient + output * a.inputs + input;
    CONVSCOPE_UNROLL for (int r = 0; r < Rows; ++r)
        CONVSCOPE_UNROLL for (int c = 0; c < Columns; ++c) sums[r][c] = zero();
    const float* x = a.transposed + input;
    const float* delta = a.delta + output * kImages;
    for (Index n = 0; n < kImages; ++n) {
        Vec values[Columns];
        CONVSCOPE_UNROLL for (int c = 0; c < Columns; ++c) values[c] = load(x + c * kLanes);
        CONVSCOPE_UNROLL for (int r = 0; r < Rows; ++r) {
            const Vec d = broadcast(delta[r * kImages + n]);
            CONVSCOPE_UNROLL for (int c = 0; c < Columns; ++c) sums[r][c] += d * values[c];
        }
        x += stride;
    }
    const Index present = a.inputs - input;
    CONVSCOPE_UNROLL for (int r = 0; r < Rows; ++r)
        CONVSCOPE_UNROLL for (int c = 0; c < Columns; ++c) {
            float* const place = to + r * a.inputs + c * kLanes;
            if ((c + 1) * kLanes <= present) {
                store_unaligned(place, a.accumulate_gradient ? load_unaligned(place) + sums[r][c] : sums[r][c]);
            } else {
                alignas(64) float lanes[kLanes];
                store(lanes, sums[r][c]);
                for (Index lane = 0; c * kLanes + lane < present; ++lane)
                    place[lane] = lanes[lane] + (a.accumulate_gradient ? place[lane] : 0.0f);
            }
        }
}

template <int Rows>
void gradient_rows(const Linear& a, Index output, Index first, Index last, Index stride) {
    constexpr int kColumns = kRegisters == 32 ? 4 : 3;
    Index input = first;
    for (; input + kColumns * kLanes <= last; input += kColumns * kLanes)
        gradient_tile<Rows, kColumns>(a, output, input, stride);
    for (; input < last && input < a.inputs; input += kLanes) gradient_tile<Rows, 1>(a, output, input, stride);
}

void linear_weight_gradient(const Linear& a) {
    if (a.weight_gradient) {
        const Index stride = (a.inputs + kImages - 1) / kImages * kImages;
        turn_images(a.input, kImages, a.inputs, stride, a.transposed, stride);
        constexpr int kOutputs = kRegisters == 32 ? 6 : 3;
        constexpr Index kStretch = 2048;  // of inputs, which stay in the second-level cache
        for (Index first = 0; first < stride; first += kStretch) {
            const Index last = first + kStretch < stride ? first + kStretch : stride;
            Index output = 0;
            for (; output + kOutputs <= a.outputs; output += kOutputs)
                gradient_rows<kOutputs>(a, output, first, last, stride);
            for (; output < a.outputs; ++output) gradient_rows<1>(a, output, first, last, stride);
        }
    }
    if (a.bias_gradient) {
        for (Index o = 0; o < a.outputs; ++o) {
            float total = a.accumulate_gradient ? a.bias_gradient[o] : 0.0f;
            for (Index n = 0; n < kImages; ++n) total += a.delta[o * kImages + n];
            a.bias_gradient[o] = total;
        }
    }
}

}  // namespace

void enter_linear(KernelTable& table) {
    table.linear_forward = linear_forward;
    table.linear_input_delta = linear_input_delta;
    table.linear_weight_gradient = linear_weight_gradient;
}

}  // namespace convscope::CONVSCOPE_ISA
