// exp, log, tanh and the logistic function on registers, to about 2 units in the last place.
#pragma once

#include "simd/vec.h"

namespace convscope::CONVSCOPE_ISA {

// x = n ln2 + r with |r| ≤ ln2/2, for |x| ≤ 88; e^x = 2^n e^r.
struct Reduced {
    Vec n, r;
};
inline Reduced reduce(Vec x) {
    const Vec rounding = broadcast(12582912.0f);  // 1.5 * 2^23: adding and subtracting it rounds to an integer
    const Vec n = (x * 1.44269504088896341f + rounding) - rounding;
    return {n, x - n * 0.693359375f - n * -2.12194440e-4f};
}

// e^r - 1 by a degree-6 polynomial (Cephes), for |r| ≤ ln2/2.
inline Vec exp_minus_1_reduced(Vec r) {
    Vec p = broadcast(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return p * (r * r) + r;
}

inline Vec power_of_2(IntVec n) { return as_floats((n + 127) << 23); }

// Saturates to 0 and to +infinity.
inline Vec exp(Vec x) {
    const Vec limited = at_most(broadcast(88.72284f), at_least(broadcast(-87.33655f), x));
    const auto [n, r] = reduce(limited);
    const Vec p = exp_minus_1_reduced(r) + 1.0f;
    // 2^n in two factors: n = 128 alone would overflow the exponent field.
    const IntVec whole = to_int(n);
    const IntVec half = whole >> 1;
    const Vec low = select(x < -87.33655f, zero(), power_of_2(half) * p * power_of_2(whole - half));
    const Vec result = select(x > 88.72284f, broadcast(__builtin_inff()), low);
    return select(x != x, x, result);
}

// ln x for x > 0 (Cephes logf); -infinity at 0, NaN below.
inline Vec log(Vec x) {
    const Vec subnormal_scale = select(x < 1.17549435e-38f, broadcast(8388608.0f), broadcast(1.0f));
    const IntVec bits = as_bits(x * subnormal_scale);
    Vec exponent = to_float(((bits >> 23) & 255) - 126);
    exponent = exponent - select(subnormal_scale > 1.0f, broadcast(23.0f), zero());
    Vec m = as_floats((bits & 0x007fffff) | 0x3f000000);  // in [0.5, 1)
    const IntVec small = m < 0.707106781186547524f;
    exponent = exponent - select(small, broadcast(1.0f), zero());
    m = m + select(small, m, zero()) - 1.0f;
    const Vec z = m * m;
    Vec p = broadcast(7.0376836292e-2f);
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    Vec y = m * z * p;
    y = y + exponent * -2.12194440e-4f - 0.5f * z;
    Vec result = m + y + exponent * 0.693359375f;
    result = select(x == zero(), broadcast(-__builtin_inff()), result);
    result = select(x == __builtin_inff(), x, result);
    return select(!(x >= 0.0f), broadcast(__builtin_nanf("")), result);
}

// Beyond ±87 as there, where it differs from 0 and 1 by 1e-38.
inline Vec logistic(Vec x) {
    const auto [n, r] = reduce(at_most(broadcast(87.0f), at_least(broadcast(-87.0f), -x)));
    const Vec power = power_of_2(to_int(n));
    return 1.0f / (exp_minus_1_reduced(r) * power + power + 1.0f);
}

// (e^2x - 1) / (e^2x + 1), the numerator as 2^n (e^r - 1) + (2^n - 1), which is exact to rounding also near 0. Beyond ±9
// it is ±1. One path for all x takes half the time of a polynomial near 0 beside the quotient elsewhere.
inline Vec tanh(Vec x) {
    const auto [n, r] = reduce(at_most(broadcast(18.0f), at_least(broadcast(-18.0f), x + x)));
    const Vec power = power_of_2(to_int(n));
    const Vec numerator = exp_minus_1_reduced(r) * power + (power - 1.0f);
    return numerator / (numerator + 2.0f);
}

// Least-squares fits, weighted towards equal errors, to erf(x)/x as a polynomial in x² below 0.927 and to −ln(1 − erf x)/x as one in
// x from there to 4, where erf is 1 in float: 1.2e-7 off at most.
inline Vec erf(Vec x) {
    const Vec magnitude = as_floats(as_bits(x) & 0x7fffffff);
    const Vec t = at_most(broadcast(4.0f), magnitude);
    const Vec s = t * t;
    Vec p = broadcast(8.3623094558e-5f);
    p = p * s - 8.1414808981e-4f;
    p = p * s + 5.2009900319e-3f;
    p = p * s - 2.6859413505e-2f;
    p = p * s + 1.1283696496e-1f;
    p = p * s - 3.7612633861e-1f;
    p = p * s + 1.1283791667f;
    Vec q = broadcast(1.0764383443e-5f);
    q = q * t - 3.1807123114e-4f;
    q = q * t + 3.6229633164e-3f;
    q = q * t - 2.3720275148e-2f;
    q = q * t + 1.0618770838e-1f;
    q = q * t + 6.3518144261e-1f;
    q = q * t + 1.1286409767f;
    const Vec far = 1.0f - exp(-(q * t));
    const Vec result = select(t < 0.9274f, p * t, far);
    return select(x < 0.0f, -result, result) + (x - x);  // NaN stays
}

// x^y for x > 0.
inline Vec power(Vec x, Vec y) { return exp(y * log(x)); }

inline Vec square_root(Vec x) {
    Vec result{};
    for (int lane = 0; lane < CONVSCOPE_LANES; ++lane) result[lane] = __builtin_sqrtf(x[lane]);
    return result;
}

}  // namespace convscope::CONVSCOPE_ISA
