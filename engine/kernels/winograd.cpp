// Into and out of Winograd's form, a row of one map at a time: tiles of positions become N planes of products.
#include "kernels/enter.h"
#include "kernels/winograd_points.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

template <int N>
struct InputRows {
    static constexpr auto rows = winograd::input_matrix<N>();
    static constexpr int columns = N;
};
template <int N, int Size>
struct FilterRows {
    static constexpr auto rows = winograd::filter_matrix<N, Size>();
    static constexpr int columns = Size;
};

// sum + Σ over k = K, K + Step, … of the matrix's row P times d[k]; zeros cost nothing.
template <class Matrix, int P, int K, int Step>
inline Vec add_products(const Vec* d, Vec sum) {
    if constexpr (K >= Matrix::columns) {
        return sum;
    } else {
        constexpr float factor = Matrix::rows[P][K];
        if constexpr (factor == 1) sum += d[K];
        else if constexpr (factor == -1) sum -= d[K];
        else if constexpr (factor != 0) sum += factor * d[K];
        return add_products<Matrix, P, K + Step, Step>(d, sum);
    }
}

// The matrix times d. Rows P and P + 1 belong to points ±a: even and odd coefficients are added up once for both.
template <class Matrix, int N, int P = 1>
inline void values_at_pairs(const Vec* d, Vec* values) {
    if constexpr (P == 1) {
        values[0] = add_products<Matrix, 0, 0, 1>(d, zero());
        values[N - 1] = add_products<Matrix, N - 1, 0, 1>(d, zero());
    }
    if constexpr (P < N - 1) {
        const Vec even = add_products<Matrix, P, 0, 2>(d, zero());
        const Vec odd = add_products<Matrix, P, 1, 2>(d, zero());
        values[P] = even + odd;
        values[P + 1] = even - odd;
        values_at_pairs<Matrix, N, P + 2>(d, values);
    }
}

template <int N, int Size, int P, int K>
inline Vec add_pairs(const Vec* sums, const Vec* differences, Vec total) {
    if constexpr (P >= N - 1) {
        return total;
    } else {
        constexpr float factor = winograd::value_matrix<N, Size>()[P][K];
        const Vec both = K % 2 == 0 ? sums[P / 2] : differences[P / 2];
        return add_pairs<N, Size, P + 2, K>(sums, differences, factor == 1 ? total + both : total + factor * both);
    }
}

// Aᵀ times the products: coefficients K, K + 1, … of the polynomial with these values.
template <int N, int Size, int K = 0>
inline void coefficients(const Vec* products, const Vec* sums, const Vec* differences, Vec* y) {
    if constexpr (K < Size) {
        const Vec start = K == 0 ? products[0] : zero();
        y[K] = add_pairs<N, Size, 1, K>(sums, differences, K == Size - 1 ? start + products[N - 1] : start);
        coefficients<N, Size, K + 1>(products, sums, differences, y);
    }
}

template <int N, int Size>
inline void coefficients_of(const Vec* products, Vec* y) {
    Vec sums[N / 2], differences[N / 2];
    CONVSCOPE_UNROLL for (int pair = 0; pair < N / 2 - 1; ++pair) {
        sums[pair] = products[1 + 2 * pair] + products[2 + 2 * pair];
        differences[pair] = products[1 + 2 * pair] - products[2 + 2 * pair];
    }
    coefficients<N, Size>(products, sums, differences, y);
}

template <class Matrix, int N>
void to_planes(const WinogradRow& a) {
    constexpr int kWidth = Matrix::columns;
    for (Index tile = 0; tile < a.tiles; ++tile) {
        const Index first = a.first + tile * a.step;
        const bool inside = first >= 0 && first + kWidth <= a.columns;
        for (Index v = 0; v < kVectors; ++v) {
            const float* const from = a.from + first * kImages + v * kLanes;
            Vec d[kWidth], values[N];
            if (inside) {
                CONVSCOPE_UNROLL for (int k = 0; k < kWidth; ++k) d[k] = load(from + k * kImages);
            } else {
                for (int k = 0; k < kWidth; ++k)
                    d[k] = first + k >= 0 && first + k < a.columns ? load(from + k * kImages) : zero();
            }
            values_at_pairs<Matrix, N>(d, values);
            float* const to = a.planes + tile * kImages + v * kLanes;
            CONVSCOPE_UNROLL for (int p = 0; p < N; ++p) store(to + p * a.plane_step, values[p]);
        }
    }
}

template <int N, int Size>
void from_planes(const WinogradSums& a) {
    const Vec bias = broadcast(a.bias), floor = broadcast(a.floor);
    for (Index tile = 0; tile < a.tiles; ++tile) {
        const Index first = tile * Size;
        const Index count = a.columns - first;
        for (Index v = 0; v < kVectors; ++v) {
            const float* const from = a.planes + tile * kImages + v * kLanes;
            float* const to = a.to + first * kImages + v * kLanes;
            Vec products[N], y[Size];
            CONVSCOPE_UNROLL for (int p = 0; p < N; ++p) products[p] = load(from + p * a.plane_step);
            coefficients_of<N, Size>(products, y);
            CONVSCOPE_UNROLL for (int k = 0; k < Size; ++k) {
                if (k >= count) break;
                const Vec start = a.accumulate ? load(to + k * kImages) : bias;
                store(to + k * kImages, at_least(floor, start + y[k]));
            }
        }
    }
}

// Products summed over everything, already over the images: [plane][kernel row] → gradients [kernel row][tap].
template <int N, int Size>
void taps_from_planes(const WinogradTaps& a) {
    for (Index first = 0; first < a.rows; first += kLanes) {
        Vec products[N], y[Size];
        CONVSCOPE_UNROLL for (int p = 0; p < N; ++p) products[p] = load(a.planes + p * a.plane_step + first);
        coefficients_of<N, Size>(products, y);
        alignas(64) float taps[Size][kLanes];
        CONVSCOPE_UNROLL for (int k = 0; k < Size; ++k) store(taps[k], y[k]);
        const Index rows = a.rows - first < kLanes ? a.rows - first : kLanes;
        float* gradient = a.gradient + first * Size;
        for (Index row = 0; row < rows; ++row, gradient += Size)
            for (int k = 0; k < Size; ++k) {
                float& to = gradient[a.rotated ? Size - 1 - k : k];
                to = taps[k][row] + (a.accumulate ? to : 0.0f);
            }
    }
}

template <int N, int Size>
constexpr void enter(KernelTable& table) {
    table.winograd_delta[N][Size] = to_planes<FilterRows<N, Size>, N>;
    table.winograd_output[N][Size] = from_planes<N, Size>;
    table.winograd_taps[N][Size] = taps_from_planes<N, Size>;
}

}  // namespace

void enter_winograd(KernelTable& table) {
    table.winograd_input[6] = to_planes<InputRows<6>, 6>;
    table.winograd_input[8] = to_planes<InputRows<8>, 8>;
    enter<6, 2>(table);
    enter<6, 3>(table);
    enter<6, 4>(table);
    enter<6, 5>(table);
    enter<8, 2>(table);
    enter<8, 3>(table);
    enter<8, 4>(table);
    enter<8, 5>(table);
    enter<8, 6>(table);
    enter<8, 7>(table);
}

}  // namespace convscope::CONVSCOPE_ISA
