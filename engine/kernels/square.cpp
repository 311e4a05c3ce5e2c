// F(m × m, 3 × 3) in blocks of 16 images (Lavin and Gray 2016): positions, δ, weights and sums change form here, and
// between that each of the (m + 2)² points is a product of matrices. Lanes are images, but for δ of weight gradients and for
// weights, where they are output maps, so that a product over images needs no sum over lanes.
#include "kernels/enter.h"
#include "kernels/turned.h"
#include "kernels/winograd_forms.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

constexpr int R = 3;  // taps a side
constexpr Index kPanel = kImages;  // output maps

// The matrix times each column, then times each row: `at(y, x)` gives what stands there.
template <class Matrix, int N, class At>
inline void to_points(At at, float* planes, Index point_step) {
    constexpr int kSide = Matrix::columns;
    Vec half[N][kSide];
    CONVSCOPE_UNROLL for (int x = 0; x < kSide; ++x) {
        Vec d[kSide], values[N];
        CONVSCOPE_UNROLL for (int y = 0; y < kSide; ++y) d[y] = at(y, x);
        values_at_pairs<Matrix, N>(d, values);
        CONVSCOPE_UNROLL for (int p = 0; p < N; ++p) half[p][x] = values[p];
    }
    for (int p = 0; p < N; ++p) {
        Vec values[N];
        values_at_pairs<Matrix, N>(half[p], values);
        CONVSCOPE_UNROLL for (int q = 0; q < N; ++q) store(planes + (p * N + q) * point_step, values[q]);
    }
}

template <int N, int Side>
inline void from_points(const float* planes, Index point_step, Vec (&sums)[Side][Side]) {
    Vec half[Side][N];
    for (int q = 0; q < N; ++q) {
        Vec products[N], y[Side];
        CONVSCOPE_UNROLL for (int p = 0; p < N; ++p) products[p] = load(planes + (p * N + q) * point_step);
        coefficients_of<N, Side>(products, y);
        CONVSCOPE_UNROLL for (int k = 0; k < Side; ++k) half[k][q] = y[k];
    }
    CONVSCOPE_UNROLL for (int k = 0; k < Side; ++k) coefficients_of<N, Side>(half[k], sums[k]);
}

alignas(64) constexpr float kZeros[(kMostSquare + 2) * kImages] = {};

template <int M>
void square_input(const SquareTiles& a) {
    constexpr int N = M + 2;
    for (Index map = 0; map < a.maps.count; ++map)
        for (Index tile = 0; tile < a.count; ++tile) {
            const Index top = (a.first + tile) / a.across * M + a.top, left = (a.first + tile) % a.across * M + a.left;
            const float* rows[N];
            for (int y = 0; y < N; ++y) {
                const bool inside = top + y >= 0 && top + y < a.maps.height;
                rows[y] = inside ? a.maps.data + map * a.maps.map_step + (top + y) * a.maps.row_step + left * kImages
                                 : kZeros;
            }
            const bool whole = left >= 0 && left + N <= a.maps.width;
            for (Index v = 0; v < kVectors; ++v) {
                float* const planes = a.planes + map * a.map_step + tile * kImages + v * kLanes;
                if (whole) {
                    to_points<InputRows<N>, N>(
                        [&](int y, int x) { return load(rows[y] + x * kImages + v * kLanes); }, planes, a.point_step);
                } else {
                    to_points<InputRows<N>, N>(
                        [&](int y, int x) {
                            const bool inside = left + x >= 0 && left + x < a.maps.width;
                            return inside ? load(rows[y] + x * kImages + v * kLanes) : zero();
                        },
                        planes, a.point_step);
                }
            }
        }
}

// δ of one panel: a tile's positions are transposed, so that lanes are maps; then each image changes form.
template <int M>
void square_delta(const SquareTiles& a) {
    constexpr int N = M + 2;
    alignas(64) float turned[M * M][kImages][kPanel];
    for (Index tile = 0; tile < a.count; ++tile) {
        const Index top = (a.first + tile) / a.across * M, left = (a.first + tile) % a.across * M;
        for (int y = 0; y < M; ++y)
            for (int x = 0; x < M; ++x) {
                const bool inside = top + y < a.maps.height && left + x < a.maps.width;
                const float* const from = a.maps.data + (top + y) * a.maps.row_step + (left + x) * kImages;
                turn_images(from, a.maps.map_step, inside ? a.maps.count : 0, kPanel, turned[y * M + x][0], kPanel);
            }
        for (Index image = 0; image < kImages; ++image)
            for (Index map = 0; map < kPanel; map += kLanes)
                to_points<FilterRows<N, M>, N>([&](int y, int x) { return load(turned[y * M + x][image] + map); },
                                            a.planes + (tile * kImages + image) * a.map_step + map, a.point_step);
    }
}

template <int M>
void square_sums(const SquareSums& a) {
    constexpr int N = M + 2;
    const Vec floor = broadcast(a.floor);
    for (Index map = 0; map < a.maps.count; ++map) {
        const Vec bias = broadcast(a.bias ? a.bias[map] : 0.0f);
        for (Index tile = 0; tile < a.count; ++tile) {
            const Index top = (a.first + tile) / a.across * M, left = (a.first + tile) % a.across * M;
            const Index rows = a.maps.height - top, columns = a.maps.width - left;
            for (Index v = 0; v < kVectors; ++v) {
                Vec sums[M][M];
                from_points<N, M>(a.planes + map * a.map_step + tile * kImages + v * kLanes, a.point_step, sums);
                float* const to = a.maps.data + map * a.maps.map_step + top * a.maps.row_step + left * kImages + v * kLanes;
                CONVSCOPE_UNROLL for (int y = 0; y < M; ++y) {
                    if (y >= rows) break;
                    CONVSCOPE_UNROLL for (int x = 0; x < M; ++x) {
                        if (x >= columns) break;
                        float* const place = to + y * a.maps.row_step + x * kImages;
                        const Vec start = a.accumulate ? load(place) : bias;
                        store(place, at_least(floor, start + sums[y][x]));
                    }
                }
            }
        }
    }
}

constexpr Index kTaps = R * R;
constexpr Index kTogether = 16;  // input maps whose weights are transposed at once

// Rows of `count` floats to columns of 16, and back. What is beyond them is not touched.
void turn_rows(const float* rows, Index row_step, Index present, Index count, float (*columns)[kPanel]) {
    for (Index row = 0; row < kPanel; row += kLanes) {
        Index at = 0;
        for (; at + kLanes <= count && row + kLanes <= present; at += kLanes) {
            Vec square[CONVSCOPE_LANES];
            CONVSCOPE_UNROLL for (int i = 0; i < CONVSCOPE_LANES; ++i)
                square[i] = load_unaligned(rows + (row + i) * row_step + at);
            transpose(square);
            CONVSCOPE_UNROLL for (int i = 0; i < CONVSCOPE_LANES; ++i) store(columns[at + i] + row, square[i]);
        }
        for (; at < count; ++at)
            for (Index i = 0; i < kLanes; ++i)
                columns[at][row + i] = row + i < present ? rows[(row + i) * row_step + at] : 0.0f;
    }
}

void turn_columns(const float (*columns)[kPanel], Index count, Index present, bool accumulate, float* rows,
                  Index row_step) {
    for (Index row = 0; row < present; row += kLanes) {
        Index at = 0;
        for (; at + kLanes <= count && row + kLanes <= present; at += kLanes) {
            Vec square[CONVSCOPE_LANES];
            CONVSCOPE_UNROLL for (int i = 0; i < CONVSCOPE_LANES; ++i) square[i] = load(columns[at + i] + row);
            transpose(square);
            CONVSCOPE_UNROLL for (int i = 0; i < CONVSCOPE_LANES; ++i) {
                float* const to = rows + (row + i) * row_step + at;
                store_unaligned(to, accumulate ? load_unaligned(to) + square[i] : square[i]);
            }
        }
        for (; at < count; ++at)
            for (Index i = row; i < row + kLanes && i < present; ++i) {
                float& to = rows[i * row_step + at];
                to = columns[at][i] + (accumulate ? to : 0.0f);
            }
    }
}

template <int M>
void square_weights(const SquareWeights& a) {
    constexpr int N = M + 2;
    alignas(64) float taps[kTogether * kTaps][kPanel];
    for (Index first = 0; first < a.sources; first += kTogether) {
        const Index sources = a.sources - first < kTogether ? a.sources - first : kTogether;
        turn_rows(a.weights + first * kTaps, a.row_step, a.rows, sources * kTaps, taps);
        for (Index source = 0; source < sources; ++source)
            for (Index map = 0; map < kPanel; map += kLanes) {
                float* const to = a.panel + (first + source) * kPanel + map;
                const float(*own)[kPanel] = taps + source * kTaps;
                if (a.rotated)
                    to_points<FilterRows<N, R>, N>(
                        [&](int y, int x) { return load(own[kTaps - 1 - y * R - x] + map); }, to, a.point_step);
                else
                    to_points<FilterRows<N, R>, N>([&](int y, int x) { return load(own[y * R + x] + map); }, to,
                                                a.point_step);
            }
    }
}

template <int M>
void square_gradient(const SquareGradient& a) {
    constexpr int N = M + 2;
    alignas(64) float taps[kTogether * kTaps][kPanel];
    for (Index first = 0; first < a.sources; first += kTogether) {
        const Index sources = a.sources - first < kTogether ? a.sources - first : kTogether;
        for (Index source = 0; source < sources; ++source)
            for (Index map = 0; map < kPanel; map += kLanes) {
                Vec sums[R][R];
                from_points<N, R>(a.panel + (first + source) * a.source_step + map, a.point_step, sums);
                float(*own)[kPanel] = taps + source * kTaps;
                for (int tap = 0; tap < kTaps; ++tap)
                    store(own[a.rotated ? kTaps - 1 - tap : tap] + map, sums[tap / R][tap % R]);
            }
        turn_columns(taps, sources * kTaps, a.rows, a.accumulate, a.gradient + first * kTaps, a.row_step);
    }
}

template <int M>
void enter(KernelTable& table) {
    table.square_input[M] = square_input<M>;
    table.square_delta[M] = square_delta<M>;
    table.square_sums[M] = square_sums<M>;
    table.square_weights[M] = square_weights<M>;
    table.square_gradient[M] = square_gradient<M>;
}

// Maps in the lanes instead of images: what sums over images multiply.
void turn_maps(const Maps& maps, float* to, Index step) {
    for (Index row = 0; row < maps.height; ++row)
        for (Index column = 0; column < maps.width; ++column, to += kImages * step)
            turn_images(maps.data + row * maps.row_step + column * kImages, maps.map_step, maps.count, maps.count, to, step);
}

}  // namespace

void enter_square(KernelTable& table) {
    enter<2>(table);
    enter<4>(table);
    table.turn_maps = turn_maps;
}

}  // namespace convscope::CONVSCOPE_ISA
