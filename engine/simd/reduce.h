// Sums over the lanes of registers.
#pragma once

#include <utility>

#include "simd/vec.h"

namespace convscope::CONVSCOPE_ISA {

// Where lane `lane` of fold<Half>(a, b) takes its first addend: the folded groups of a first, then those of b.
template <int Half>
constexpr int fold_source(int lane) {
    const int within = lane % (CONVSCOPE_LANES / 2);
    const int source = within / Half * 2 * Half + within % Half;
    return lane < CONVSCOPE_LANES / 2 ? source : source + CONVSCOPE_LANES;
}

template <int Half, int... Lane>
inline Vec fold(Vec a, Vec b, std::integer_sequence<int, Lane...>) {
    return __builtin_shufflevector(a, b, fold_source<Half>(Lane)...) +
           __builtin_shufflevector(a, b, (fold_source<Half>(Lane) + Half)...);
}

// Lane i of the result (i < Count) is the sum of the lanes of vectors[i]; for Count < lanes each sum is left in
// lanes/Count parts side by side. Three instructions an addend, where one register at a time takes eight.
template <int Count = CONVSCOPE_LANES>
inline Vec sums_of(const Vec* vectors) {
    if constexpr (Count == 1) {
        return vectors[0];
    } else {
        return fold<CONVSCOPE_LANES / Count>(sums_of<Count / 2>(vectors), sums_of<Count / 2>(vectors + Count / 2),
                                             std::make_integer_sequence<int, CONVSCOPE_LANES>{});
    }
}

inline float sum_of(Vec value) {
    alignas(64) float lanes[CONVSCOPE_LANES];
    store(lanes, value);
    for (int half = CONVSCOPE_LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

}  // namespace convscope::CONVSCOPE_ISA
