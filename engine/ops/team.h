// The share of one thread in a block of 16 images that several threads pass together.
#pragma once

#include <algorithm>

#include "kernels/arguments.h"

namespace convscope {

struct Team {
    struct Own {
        Index begin = 0, end = 0;
        Index size() const { return end - begin; }
    };

    int part = 0, parts = 1;

    // Of `count` things, in whole `unit`s: this one's.
    Own of(Index count, Index unit = 1) const {
        const Index units = (count + unit - 1) / unit;
        return {std::min(count, units * part / parts * unit), std::min(count, units * (part + 1) / parts * unit)};
    }
    // What the thread with most to do has.
    Index most(Index count, Index unit = 1) const {
        const Index units = (count + unit - 1) / unit;
        return std::min(count, (units + parts - 1) / parts * unit);
    }
};

}  // namespace convscope
