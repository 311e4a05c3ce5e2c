// The numbers of Winograd's short correlations (Winograd 1980; Lavin and Gray 2016), worked out by the compiler.
//
// m outputs of a correlation with r taps are the coefficients of a product of two polynomials, known from its values at
// n = m + r − 1 points: y = Aᵀ[(G·taps) ⊙ (Bᵀ·inputs)], n products instead of m·r. Points are 0, pairs ±a, and ∞, so
// that rows of a pair differ only in the sign of every other coefficient. Small fractions keep the sums from cancelling:
// with ±1/2 and ±3/2 the error of F(4, 5) is half of that with ±2 and ±1/2. Of six points ±2/3 and ±3/2 leave F(4 × 4,
// 3 × 3) a third of the error that ±1 and ±2 do: 0.4 instead of 1.2·10⁻⁵ of the largest sum of 512 maps, directly 0.2.
#pragma once

#include <array>

namespace convscope::winograd {

template <int N>
consteval std::array<double, N - 1> finite_points() {
    static_assert(N == 4 || N == 6 || N == 8);
    if constexpr (N == 4) return {0, 1, -1};
    else if constexpr (N == 6) return {0, 2.0 / 3, -2.0 / 3, 1.5, -1.5};
    else return {0, 1, -1, 0.5, -0.5, 1.5, -1.5};
}

consteval double power(double base, int exponent) {
    double product = 1;
    for (int i = 0; i < exponent; ++i) product *= base;
    return product;
}

// Values of a polynomial with `Size` coefficients at the points; at ∞, its last coefficient.
template <int N, int Size>
consteval std::array<std::array<float, Size>, N> value_matrix() {
    std::array<std::array<float, Size>, N> rows{};
    constexpr auto points = finite_points<N>();
    for (int p = 0; p < N - 1; ++p)
        for (int k = 0; k < Size; ++k) rows[p][k] = static_cast<float>(power(points[p], k));
    rows[N - 1][Size - 1] = 1;
    return rows;
}

// G: the same, each finite point's row over Π (point − other point).
template <int N, int Size>
consteval std::array<std::array<float, Size>, N> filter_matrix() {
    std::array<std::array<float, Size>, N> rows{};
    constexpr auto points = finite_points<N>();
    for (int p = 0; p < N - 1; ++p) {
        double scale = 1;
        for (int q = 0; q < N - 1; ++q)
            if (q != p) scale *= points[p] - points[q];
        for (int k = 0; k < Size; ++k) rows[p][k] = static_cast<float>(power(points[p], k) / scale);
    }
    rows[N - 1][Size - 1] = 1;
    return rows;
}

// Bᵀ: row p holds the coefficients of Π (x − other point), the last those of Π (x − point) over all finite ones.
template <int N>
consteval std::array<std::array<float, N>, N> input_matrix() {
    std::array<std::array<float, N>, N> rows{};
    constexpr auto points = finite_points<N>();
    for (int p = 0; p < N; ++p) {
        std::array<double, N> product{1};
        int degree = 0;
        for (int q = 0; q < N - 1; ++q) {
            if (q == p) continue;
            ++degree;
            for (int k = degree; k > 0; --k) product[k] = product[k - 1] - points[q] * product[k];
            product[0] *= -points[q];
        }
        for (int k = 0; k < N; ++k) rows[p][k] = static_cast<float>(product[k]);
    }
    return rows;
}

}  // namespace convscope::winograd
