// Weight gradients of a convolution: CB output maps × T taps of sums in registers, over all positions of some rows.
//
// The sixteen lanes (images) of a sum are only added together at the end, by the tree of simd/reduce.h: with 100
// positions that is 5 % of the work, with 784 it does not show.
#include "kernels/enter.h"
#include "simd/reduce.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

template <int CB, int T>
void weight_gradient(const WeightGradient& a) {
    constexpr int kSums = CB * T;
    constexpr int kRounded = (kSums + CONVSCOPE_LANES - 1) / CONVSCOPE_LANES * CONVSCOPE_LANES;
    Vec sums[CB][T];
    CONVSCOPE_UNROLL for (int c = 0; c < CB; ++c)
        CONVSCOPE_UNROLL for (int t = 0; t < T; ++t) sums[c][t] = zero();
    for (Index row = 0; row < a.rows; ++row) {
        const float* delta = a.delta + row * a.delta_row_step;
        const float* input[T];
        CONVSCOPE_UNROLL for (int t = 0; t < T; ++t) input[t] = a.input + row * a.input_row_step + a.taps[t];
        Index at = 0;
        for (Index column = 0; column < a.columns; ++column) {
            for (Index v = 0; v < kVectors; ++v) {
                // The shorter side waits in registers, the longer one streams.
                if constexpr (CB <= T) {
                    Vec d[CB];
                    CONVSCOPE_UNROLL for (int c = 0; c < CB; ++c)
                        d[c] = in_register(load(delta + c * a.delta_map_step + v * kLanes));
                    CONVSCOPE_UNROLL for (int t = 0; t < T; ++t) {
                        const Vec x = in_register(load(input[t] + at + v * kLanes));
                        CONVSCOPE_UNROLL for (int c = 0; c < CB; ++c) sums[c][t] += d[c] * x;
                    }
                } else {
                    Vec x[T];
                    CONVSCOPE_UNROLL for (int t = 0; t < T; ++t) x[t] = in_register(load(input[t] + at + v * kLanes));
                    CONVSCOPE_UNROLL for (int c = 0; c < CB; ++c) {
                        const Vec d = in_register(load(delta + c * a.delta_map_step + v * kLanes));
                        CONVSCOPE_UNROLL for (int t = 0; t < T; ++t) sums[c][t] += d * x[t];
                    }
                }
            }
            delta += kImages;
            at += a.position_step;
        }
    }
    Vec flat[kRounded];
    CONVSCOPE_UNROLL for (int i = 0; i < kRounded; ++i) flat[i] = i < kSums ? sums[i / T][i % T] : zero();
    alignas(64) float totals[kRounded];
    for (int i = 0; i < kRounded; i += CONVSCOPE_LANES) store(totals + i, sums_of<CONVSCOPE_LANES>(flat + i));
    for (int c = 0; c < CB; ++c) {
        float* gradient = a.gradient + c * a.gradient_step;
        for (int t = 0; t < T; ++t) gradient[t] = totals[c * T + t] + (a.accumulate ? gradient[t] : 0.0f);
    }
}

template <int CB, int T>
constexpr bool fits() {
    constexpr int kept = CB < T ? CB : T;
    constexpr bool offered = T <= 6 || T == 8 || T == 9 || T == 12 || T == 16;
    return CB * T + kept + 1 <= kRegisters && CB != 7 && offered;
}

template <int CB, int T>
constexpr void enter(KernelTable& table) {
    if constexpr (CB <= kMostMaps) {
        if constexpr (T <= kMostTaps) {
            if constexpr (fits<CB, T>()) table.weight_gradient[CB][T] = weight_gradient<CB, T>;
            enter<CB, T + 1>(table);
        } else {
            enter<CB + 1, 1>(table);
        }
    }
}

}  // namespace

void enter_weight_gradient(KernelTable& table) { enter<1, 1>(table); }

}  // namespace convscope::CONVSCOPE_ISA
