// Winograd's matrices times registers: values at the points, and the way back to sums.
#pragma once

#include "kernels/winograd_points.h"
#include "simd/vec.h"

namespace convscope::CONVSCOPE_ISA {

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

}  // namespace convscope::CONVSCOPE_ISA
