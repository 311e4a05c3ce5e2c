// The convolution tile: CB output maps × XB positions kept in registers while all taps pass by.
//
// Each tap loads XB positions and CB weights for CB·XB fused multiply-adds, so that with 6 × 4 of them the loads take
// a third of the cycles the arithmetic takes. Which taps, in what order, is data: strides, dilation, groups and
// connection tables differ only in the offsets.
#include "kernels/enter.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

template <int CB, int XB>
void convolution_row(const ConvolutionRow& a) {
    const Index columns = a.columns;
    const Index column_step = a.column_step;
    const Index position_step = a.position_step;
    for (Index tile = 0; tile < a.tiles; ++tile) {
        for (Index v = 0; v < kVectors; ++v) {
            const float* const input = a.input + tile * XB * position_step + v * kLanes;
            float* const output = a.output + tile * XB * a.output_step + v * kLanes;
            Vec sums[CB][XB];
            if (a.accumulate) {
                CONVSCOPE_UNROLL for (int c = 0; c < CB; ++c)
                    CONVSCOPE_UNROLL for (int i = 0; i < XB; ++i)
                        sums[c][i] = load(output + c * a.map_step + i * a.output_step);
            } else {
                CONVSCOPE_UNROLL for (int c = 0; c < CB; ++c) {
                    const Vec start = a.bias ? broadcast(a.bias[c]) : zero();
                    CONVSCOPE_UNROLL for (int i = 0; i < XB; ++i) sums[c][i] = start;
                }
            }
            const float* weight_row = a.weights;
            for (Index row = 0; row < a.tap_row_count; ++row) {
                const float* x = input + a.tap_rows[row];
                const float* w = weight_row;
                for (Index column = 0; column < columns; ++column) {
                    Vec values[XB];
                    CONVSCOPE_UNROLL for (int i = 0; i < XB; ++i) values[i] = load(x + i * position_step);
                    CONVSCOPE_UNROLL for (int c = 0; c < CB; ++c) {
                        const Vec weight = broadcast(w[c]);
                        CONVSCOPE_UNROLL for (int i = 0; i < XB; ++i) sums[c][i] += weight * values[i];
                    }
                    x += column_step;
                    w += CB;
                }
                weight_row += a.weight_row_step;
            }
            const Vec floor = broadcast(a.floor);
            CONVSCOPE_UNROLL for (int c = 0; c < CB; ++c)
                CONVSCOPE_UNROLL for (int i = 0; i < XB; ++i)
                    store(output + c * a.map_step + i * a.output_step, at_least(floor, sums[c][i]));
        }
    }
}

// CB·XB sums, XB positions and one weight have to fit in the registers.
template <int CB, int XB>
constexpr bool fits() {
    return CB * XB + XB + 1 <= kRegisters && (CB != 7);
}

template <int CB, int XB>
constexpr void enter(KernelTable& table) {
    if constexpr (CB <= kMostMaps) {
        if constexpr (XB <= kMostPositions) {
            if constexpr (fits<CB, XB>()) table.convolution[CB][XB] = convolution_row<CB, XB>;
            enter<CB, XB + 1>(table);
        } else {
            enter<CB + 1, 1>(table);
        }
    }
}

}  // namespace

void enter_convolution(KernelTable& table) { enter<1, 1>(table); }

}  // namespace convscope::CONVSCOPE_ISA
