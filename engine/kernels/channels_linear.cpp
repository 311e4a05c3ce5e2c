// Fully connected layers for a few pictures, lanes along the inputs: torch's rows of weights are read once, in order, as
// they lie. A picture's inputs are neighbouring floats, filled up with zeros to a whole register.
#include "kernels/enter.h"
#include "simd/reduce.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

template <bool Distances>
inline Vec product(Vec sum, Vec weight, Vec value) {
    if constexpr (Distances) {
        const Vec difference = value - weight;
        return sum + difference * difference;
    } else {
        return sum + weight * value;
    }
}

// Rows outputs × Pictures sums. The last inputs, fewer than a register, are copied together first: the row behind them
// may be the end of the buffer.
template <int Rows, int Pictures, bool Distances>
inline void tile(const ChannelLinear& a, Index output, Index picture) {
    const float* const weights = a.weights + output * a.inputs;
    const float* const input = a.input + picture * a.input_step;
    Vec sums[Rows][Pictures];
    CONVSCOPE_UNROLL for (int r = 0; r < Rows; ++r)
        CONVSCOPE_UNROLL for (int n = 0; n < Pictures; ++n) sums[r][n] = zero();
    Index i = 0;
    for (; i + kLanes <= a.inputs; i += kLanes) {
        Vec x[Pictures];
        CONVSCOPE_UNROLL for (int n = 0; n < Pictures; ++n) x[n] = in_register(load(input + n * a.input_step + i));
        CONVSCOPE_UNROLL for (int r = 0; r < Rows; ++r) {
            const Vec w = in_register(load_unaligned(weights + r * a.inputs + i));
            CONVSCOPE_UNROLL for (int n = 0; n < Pictures; ++n) sums[r][n] = product<Distances>(sums[r][n], w, x[n]);
        }
    }
    if (i < a.inputs) {
        alignas(64) float rest[Rows][kLanes] = {};
        alignas(64) float values[Pictures][kLanes] = {};
        for (int n = 0; n < Pictures; ++n)
            for (Index lane = 0; i + lane < a.inputs; ++lane) values[n][lane] = input[n * a.input_step + i + lane];
        for (int r = 0; r < Rows; ++r)
            for (Index lane = 0; i + lane < a.inputs; ++lane) rest[r][lane] = weights[r * a.inputs + i + lane];
        CONVSCOPE_UNROLL for (int r = 0; r < Rows; ++r)
            CONVSCOPE_UNROLL for (int n = 0; n < Pictures; ++n)
                sums[r][n] = product<Distances>(sums[r][n], load(rest[r]), load(values[n]));
    }
    for (int n = 0; n < Pictures; ++n)
        for (int r = 0; r < Rows; ++r) a.output[(picture + n) * a.output_step + output + r] = sum_of(sums[r][n]);
}

template <int Pictures, bool Distances>
void for_pictures(const ChannelLinear& a, Index picture) {
    constexpr int kRows = Pictures == 1 ? 8 : Pictures == 2 ? 4 : kRegisters == 32 ? 4 : 2;
    Index output = 0;
    for (; output + kRows <= a.outputs; output += kRows) tile<kRows, Pictures, Distances>(a, output, picture);
    for (; output < a.outputs; ++output) tile<1, Pictures, Distances>(a, output, picture);
}

template <bool Distances>
void all(const ChannelLinear& a) {
    Index picture = 0;
    for (; picture + 4 <= a.pictures; picture += 4) for_pictures<4, Distances>(a, picture);
    for (; picture + 2 <= a.pictures; picture += 2) for_pictures<2, Distances>(a, picture);
    for (; picture < a.pictures; ++picture) for_pictures<1, Distances>(a, picture);
}

void channel_linear(const ChannelLinear& a) {
    if (a.distances) all<true>(a);
    else all<false>(a);
}

}  // namespace

void enter_channels_linear(KernelTable& table) { table.channel_linear = channel_linear; }

}  // namespace convscope::CONVSCOPE_ISA
