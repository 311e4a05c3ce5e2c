// Regions of interest on maps (n, c, h, w) as torch keeps them, and the choice among overlapping boxes; called by
// themselves, outside any network.
#pragma once

#include "dispatch/isa.h"
#include "kernels/regions.h"

namespace convscope {

// n maps of `channels`, and k regions of `rows` × `columns` bins, each of the picture it names.
struct Regions {
    Index channels = 0, height = 0, width = 0;
    Index count = 0, rows = 0, columns = 0;
    const std::int64_t* pictures = nullptr;
    Index picture_count = 0;
    int threads = 1;
};

// Bins o of region r: places first[r, o] to end[r, o] − 1, on the map or empty.
struct Bins {
    const std::int64_t *top, *bottom, *left, *right;
};

// y and chosen (k, c, rows, columns); chosen is a place of a map, −1 where a bin is empty and y 0.
void pool_regions(const Regions& regions, const Bins& bins, const float* x, float* y, std::int32_t* chosen);
// Adds δ to delta_x where it was chosen.
void pool_regions_back(const Regions& regions, const float* delta, const std::int32_t* chosen, float* delta_x);

// y_r = A_r·x·B_rᵀ, with A (k, rows, h) and B (k, columns, w), and back: delta_x = Σ_r A_rᵀ·δ_r·B_r.
void mix_regions(const Regions& regions, const float* down, const float* across, const float* x, float* y);
void mix_regions_back(const Regions& regions, const float* down, const float* across, const float* delta,
                      float* delta_x);

// Positions of the boxes that stay into `kept`; how many. Corners and areas are columns of `count`, by falling score.
Index suppress_boxes(const float* corners, const float* areas, const std::int64_t* groups, Index count, float most,
                     std::int64_t* kept);

}  // namespace convscope
