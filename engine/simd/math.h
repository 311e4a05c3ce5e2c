// exp, log, tanh and the logistic function on registers, to about 2 units in the last place.
#pragma once

#include "simd/vec.h"

namespace convscope::CONVSCOPE_ISA {

// e^x = 2^n e^r with |r| ≤ ln2/2 and a degree-6 polynomial for e^r (Cephes). Saturates to 0 and to +infinity.
inline Vec exp(Vec x) {
    const Vec limited = at_most(broadcast(88.72284f), at_least(broadcast(-87.33655f), x));
    const Vec scaled = limited * 1.44269504088896341f;
    const Vec rounding = broadcast(12582912.0f);  // 1.5 * 2^23: adding and subtracting it rounds to an integer
    const Vec n = (scaled + rounding) - rounding;
    Vec r = limited - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    Vec p = broadcast(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    // 2^n in two factors: n = 128 alone would overflow the exponent field.
    const IntVec whole = to_int(n);
    const IntVec half = whole >> 1;
    const Vec power = as_floats((half + 127) << 23) * p * as_floats((whole - half + 127) << 23);
    const Vec low = select(x < -87.33655f, zero(), power);
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

inline Vec logistic(Vec x) { return 1.0f / (1.0f + exp(-x)); }

// Odd polynomial below 0.625, where 1 - 2/(e^2x + 1) would cancel (Cephes tanhf).
inline Vec tanh(Vec x) {
    const Vec z = x * x;
    Vec p = broadcast(-5.70498872745e-3f);
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    const Vec near_zero = p * z * x + x;
    const Vec magnitude = as_floats(as_bits(x) & 0x7fffffff);
    const Vec saturating = 1.0f - 2.0f / (exp(magnitude + magnitude) + 1.0f);
    const Vec far = as_floats(as_bits(saturating) | (as_bits(x) & static_cast<std::int32_t>(0x80000000u)));
    return select(magnitude < 0.625f, near_zero, far);
}

// x^y for x > 0.
inline Vec power(Vec x, Vec y) { return exp(y * log(x)); }

inline Vec square_root(Vec x) {
    Vec result{};
    for (int lane = 0; lane < CONVSCOPE_LANES; ++lane) result[lane] = __builtin_sqrtf(x[lane]);
    return result;
}

}  // namespace convscope::CONVSCOPE_ISA
