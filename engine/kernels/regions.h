// What the kernels of boxes and regions of interest take. Maps lie channels innermost, (height, width, channels), the
// channels a multiple of 16, so that one place of the map is a row of full vectors.
#pragma once

#include "kernels/arguments.h"

namespace convscope {

// Places rows × columns of a map: a column is `step` floats on, a row `row_step`; `channels` of each, a multiple of 16.
struct Places {
    Index rows = 0;
    Index columns = 0;
    Index row_step = 0;
    Index step = 0;
    Index channels = 0;
};

// The largest of some places and which it was, counted in places through the map of `width` columns from `first`.
struct RegionMax {
    Places places;
    const float* at = nullptr;
    Index first = 0;
    Index width = 0;
    float* value = nullptr;
    std::int32_t* place = nullptr;
};

// A sum of places, each weighted (rows · columns weights), into `sum`; or back, the same shares of `sum` added to them.
struct RegionSum {
    Places places;
    float* at = nullptr;
    const float* weights = nullptr;
    float* sum = nullptr;
};

// Boxes by falling score, as columns of numbers padded to 16; `alive` is −1 or 0, `group` may be null.
struct Rivals {
    const float* x1 = nullptr;
    const float* y1 = nullptr;
    const float* x2 = nullptr;
    const float* y2 = nullptr;
    const float* area = nullptr;
    const std::int32_t* group = nullptr;
    std::int32_t* alive = nullptr;
    Index count = 0;
};

}  // namespace convscope
