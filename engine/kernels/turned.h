// Blocks of 16 images turned, so that lanes are maps: what sums over images multiply needs no sum over lanes then.
#pragma once

#include "kernels/arguments.h"
#include "simd/transpose.h"

namespace convscope::CONVSCOPE_ISA {

// One position: [map][16 images], `step` from map to map → [16 images][map], `to_step` from image to image. Of `count`
// maps, a multiple of the lanes, the first `present` are there; the others are zeros.
inline void turn_images(const float* from, Index step, Index present, Index count, float* to, Index to_step) {
    for (Index map = 0; map < count; map += kLanes)
        for (Index v = 0; v < kVectors; ++v) {
            Vec square[CONVSCOPE_LANES];
            CONVSCOPE_UNROLL for (int i = 0; i < CONVSCOPE_LANES; ++i)
                square[i] = map + i < present ? load(from + (map + i) * step + v * kLanes) : zero();
            transpose(square);
            CONVSCOPE_UNROLL for (int i = 0; i < CONVSCOPE_LANES; ++i)
                store(to + (v * kLanes + i) * to_step + map, square[i]);
        }
}

}  // namespace convscope::CONVSCOPE_ISA
