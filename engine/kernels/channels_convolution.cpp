// The convolution tile of the channels-blocked layout: B blocks of output channels × X positions kept in registers while
// all taps pass by, each a scalar of the input times B registers of weights.
//
// Two blocks by 14 positions of AVX-512 take 16 loads for 28 multiply-adds and run at 92 of the 102 GMAC/s that an
// endless row of multiply-adds reaches; 7 positions 85; one block 81. AVX2: 2 by 6 and 3 by 4 reach 53 and 55 of 55.
#include "kernels/enter.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

template <int B, int X>
inline void finish(const ChannelRow& a, const float* skip, Vec (&sums)[B][X], float* output) {
    if (skip) {
        CONVSCOPE_UNROLL for (int b = 0; b < B; ++b)
            CONVSCOPE_UNROLL for (int p = 0; p < X; ++p) sums[b][p] += load(skip + b * a.skip_block_step + p * kLanes);
    }
    const Vec floor = broadcast(a.floor), ceiling = broadcast(a.ceiling);
    CONVSCOPE_UNROLL for (int b = 0; b < B; ++b)
        CONVSCOPE_UNROLL for (int p = 0; p < X; ++p)
            store(output + b * a.block_step + p * kLanes, at_most(ceiling, at_least(floor, sums[b][p])));
}

// Step is that between positions in the input, where it is known here: constant offsets are 6 % quicker.
template <int B, int X, Index Step>
void channel_row(const ChannelRow& a) {
    const Index position_step = Step > 0 ? Step : a.position_step;
    const float* ahead = a.ahead;
    for (Index tile = 0; tile < a.tiles; ++tile) {
        const float* const input = a.input + tile * X * position_step;
        float* const output = a.output + tile * X * kLanes;
        Vec sums[B][X];
        if (a.accumulate) {
            CONVSCOPE_UNROLL for (int b = 0; b < B; ++b)
                CONVSCOPE_UNROLL for (int p = 0; p < X; ++p) sums[b][p] = load(output + b * a.block_step + p * kLanes);
        } else {
            CONVSCOPE_UNROLL for (int b = 0; b < B; ++b) {
                const Vec start = a.bias ? load(a.bias + b * kLanes) : zero();
                CONVSCOPE_UNROLL for (int p = 0; p < X; ++p) sums[b][p] = start;
            }
        }
        const float* weights = a.weights;
        for (Index tap = 0; tap < a.tap_count; ++tap) {
            const float* x = input + a.taps[tap];
            for (Index line = 0; line < a.ahead_lines && ahead < a.ahead_end; ++line, ahead += 16)
                __builtin_prefetch(ahead, 0, 2);
            for (Index i = 0; i < a.inner; ++i) {
                Vec w[B];
                CONVSCOPE_UNROLL for (int b = 0; b < B; ++b) w[b] = in_register(load(weights + b * kLanes));
                CONVSCOPE_UNROLL for (int p = 0; p < X; ++p) {
                    Vec value = broadcast(x[p * position_step]);
                    if constexpr (B > 1) value = in_register(value);
                    CONVSCOPE_UNROLL for (int b = 0; b < B; ++b) sums[b][p] += w[b] * value;
                }
                x += a.inner_step;
                weights += B * kLanes;
            }
        }
        finish<B, X>(a, a.skip ? a.skip + tile * X * kLanes : nullptr, sums, output);
    }
}

// B·X sums, B registers of weights and one scalar have to fit.
template <int B, int X>
constexpr void enter(KernelTable& table) {
    if constexpr (B <= kMostChannelBlocks) {
        if constexpr (X <= kMostChannelPositions && B * X + B + 1 <= kRegisters) {
            table.channel_row[B][X] = channel_row<B, X, kLanes>;
            table.channel_row_apart[B][X] = channel_row<B, X, 0>;
            enter<B, X + 1>(table);
        } else {
            enter<B + 1, 1>(table);
        }
    }
}

// One kernel of its own a channel. X sums; a tap is a register of weights and X of the input.
template <int X>
inline void depthwise_tile(const DepthwiseRow& a, Index first) {
    const float* const input = a.input + first * a.position_step;
    const Vec start = load(a.bias);
    Vec sums[X];
    CONVSCOPE_UNROLL for (int p = 0; p < X; ++p) sums[p] = start;
    const float* weights = a.weights;
    for (Index y = 0; y < a.kernel_height; ++y) {
        const float* row = input + y * a.row_step;
        for (Index x = 0; x < a.kernel_width; ++x) {
            const Vec w = in_register(load(weights));
            CONVSCOPE_UNROLL for (int p = 0; p < X; ++p) sums[p] += w * load(row + p * a.position_step);
            row += a.column_step;
            weights += kLanes;
        }
    }
    const Vec floor = broadcast(a.floor), ceiling = broadcast(a.ceiling);
    float* const output = a.output + first * kLanes;
    CONVSCOPE_UNROLL for (int p = 0; p < X; ++p) {
        const Vec y = a.skip ? sums[p] + load(a.skip + (first + p) * kLanes) : sums[p];
        store(output + p * kLanes, at_most(ceiling, at_least(floor, y)));
    }
}

void depthwise_row(const DepthwiseRow& a) {
    constexpr int kTile = kRegisters == 32 ? 14 : 7;
    Index first = 0;
    for (; first + kTile <= a.positions; first += kTile) depthwise_tile<kTile>(a, first);
    for (; first + 4 <= a.positions; first += 4) depthwise_tile<4>(a, first);
    for (; first < a.positions; ++first) depthwise_tile<1>(a, first);
}

}  // namespace

void enter_channels_convolution(KernelTable& table) {
    enter<1, 1>(table);
    table.depthwise_row = depthwise_row;
}

}  // namespace convscope::CONVSCOPE_ISA
