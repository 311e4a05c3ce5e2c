// Winograd's F(m × m, 3 × 3) for blocks of channels: tiles of (m + 2)² positions, m apart, to as many points and back, and
// the kernels likewise (Lavin and Gray 2016). Between them each point is a product of matrices, which channel_row
// multiplies: (m + 2)² products for m² sums of nine, 2.25 times fewer with m = 2 and 4 times with m = 4.
#include "kernels/enter.h"
#include "kernels/winograd_forms.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

// Columns, then rows. `corner` is the tile's first position.
template <int N>
inline void window_to_planes(const float* corner, Index row_step, float* planes, Index plane_step) {
    Vec half[N][N];
    CONVSCOPE_UNROLL for (int x = 0; x < N; ++x) {
        Vec d[N], values[N];
        CONVSCOPE_UNROLL for (int y = 0; y < N; ++y) d[y] = load(corner + y * row_step + x * kLanes);
        values_at_pairs<InputRows<N>, N>(d, values);
        CONVSCOPE_UNROLL for (int p = 0; p < N; ++p) half[p][x] = values[p];
    }
    for (int p = 0; p < N; ++p) {
        Vec values[N];
        values_at_pairs<InputRows<N>, N>(half[p], values);
        CONVSCOPE_UNROLL for (int q = 0; q < N; ++q) store(planes + (p * N + q) * plane_step, values[q]);
    }
}

template <int M>
void channel_tiles(const ChannelTiles& a) {
    constexpr int N = M + 2;
    for (Index tile = 0; tile < a.tiles; ++tile) {
        const Index left = a.left + tile * M;
        float* const planes = a.planes + tile * kLanes;
        if (a.top >= 0 && a.top + N <= a.height && left >= 0 && left + N <= a.width) {
            window_to_planes<N>(a.from + a.top * a.row_step + left * kLanes, a.row_step, planes, a.plane_step);
            continue;
        }
        alignas(64) float window[N * N * kLanes];
        for (int y = 0; y < N; ++y)
            for (int x = 0; x < N; ++x) {
                const Index row = a.top + y, column = left + x;
                const bool inside = row >= 0 && row < a.height && column >= 0 && column < a.width;
                store(window + (y * N + x) * kLanes,
                      inside ? load(a.from + row * a.row_step + column * kLanes) : zero());
            }
        window_to_planes<N>(window, N * kLanes, planes, a.plane_step);
    }
}

// NaN wins over what came before it, as in torch.
inline Vec larger_of(Vec best, Vec value) { return (value <= best) ? best : value; }

template <int M>
void channel_sums(const ChannelSums& a) {
    constexpr int N = M + 2;
    const Vec bias = load(a.bias), floor = broadcast(a.floor), ceiling = broadcast(a.ceiling);
    for (Index tile = 0; tile < a.tiles; ++tile) {
        const float* const planes = a.planes + tile * kLanes;
        const Index columns = a.columns - tile * M;
        Vec half[M][N];
        for (int q = 0; q < N; ++q) {
            Vec products[N], y[M];
            CONVSCOPE_UNROLL for (int p = 0; p < N; ++p) products[p] = load(planes + (p * N + q) * a.plane_step);
            coefficients_of<N, M>(products, y);
            CONVSCOPE_UNROLL for (int k = 0; k < M; ++k) half[k][q] = y[k];
        }
        Vec sums[M][M];
        CONVSCOPE_UNROLL for (int k = 0; k < M; ++k) {
            Vec y[M];
            coefficients_of<N, M>(half[k], y);
            const float* const skip = a.skip ? a.skip + k * a.skip_row_step + tile * M * kLanes : nullptr;
            CONVSCOPE_UNROLL for (int l = 0; l < M; ++l) {
                Vec sum = y[l] + bias;
                if (skip && k < a.rows && l < columns) sum += load(skip + l * kLanes);
                sums[k][l] = at_most(ceiling, at_least(floor, sum));
            }
        }
        if (a.pooled) {
            float* const to = a.to + tile * (M / 2) * kLanes;
            CONVSCOPE_UNROLL for (int k = 0; k < M; k += 2)
                CONVSCOPE_UNROLL for (int l = 0; l < M; l += 2)
                    if (k + 1 < a.rows && l + 1 < columns)
                        store(to + k / 2 * a.row_step + l / 2 * kLanes,
                              larger_of(larger_of(larger_of(sums[k][l], sums[k][l + 1]), sums[k + 1][l]),
                                        sums[k + 1][l + 1]));
        } else {
            float* const to = a.to + tile * M * kLanes;
            CONVSCOPE_UNROLL for (int k = 0; k < M; ++k)
                CONVSCOPE_UNROLL for (int l = 0; l < M; ++l)
                    if (k < a.rows && l < columns) store(to + k * a.row_step + l * kLanes, sums[k][l]);
        }
    }
}

template <int M>
void channel_taps(const ChannelTaps& a) {
    constexpr int N = M + 2;
    for (Index channel = 0; channel < a.channels; ++channel) {
        const float* const taps = a.taps + channel * 9 * kLanes;
        Vec half[N][3];
        CONVSCOPE_UNROLL for (int x = 0; x < 3; ++x) {
            Vec d[3], values[N];
            CONVSCOPE_UNROLL for (int y = 0; y < 3; ++y) d[y] = load(taps + (y * 3 + x) * kLanes);
            values_at_pairs<FilterRows<N, 3>, N>(d, values);
            CONVSCOPE_UNROLL for (int p = 0; p < N; ++p) half[p][x] = values[p];
        }
        float* const to = a.to + channel * a.step;
        for (int p = 0; p < N; ++p) {
            Vec values[N];
            values_at_pairs<FilterRows<N, 3>, N>(half[p], values);
            CONVSCOPE_UNROLL for (int q = 0; q < N; ++q) store(to + (p * N + q) * a.point_step, values[q]);
        }
    }
}

template <int M>
void enter(KernelTable& table) {
    table.channel_tiles[M] = channel_tiles<M>;
    table.channel_sums[M] = channel_sums<M>;
    table.channel_taps[M] = channel_taps<M>;
}

}  // namespace

void enter_channels_winograd(KernelTable& table) {
    enter<2>(table);
    enter<4>(table);
}

}  // namespace convscope::CONVSCOPE_ISA
