// A square of lanes × lanes floats held in registers, transposed in log2(lanes) rounds of two-source shuffles.
#pragma once

#include <utility>

#include "simd/vec.h"

namespace convscope::CONVSCOPE_ISA {

template <int Half, int... Lane>
inline void exchange(Vec& a, Vec& b, std::integer_sequence<int, Lane...>) {
    // Lanes with the bit `Half` clear come from a, the others from b; and the other way round.
    const Vec first = __builtin_shufflevector(a, b, ((Lane & Half) ? Lane - Half + CONVSCOPE_LANES : Lane)...);
    const Vec second = __builtin_shufflevector(a, b, ((Lane & Half) ? Lane + CONVSCOPE_LANES : Lane + Half)...);
    a = first;
    b = second;
}

template <int Half = 1>
inline void transpose(Vec (&rows)[CONVSCOPE_LANES]) {
    if constexpr (Half < CONVSCOPE_LANES) {
        CONVSCOPE_UNROLL for (int i = 0; i < CONVSCOPE_LANES; ++i)
            if (!(i & Half))
                exchange<Half>(rows[i], rows[i + Half], std::make_integer_sequence<int, CONVSCOPE_LANES>{});
        transpose<Half * 2>(rows);
    }
}

}  // namespace convscope::CONVSCOPE_ISA
