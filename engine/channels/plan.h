// Places in one arena for everything that lives while a network runs; memory is used again as soon as its content is
// dead.
#pragma once

#include "channels/build.h"

namespace convscope::channels {

// For so many pictures at once, in floats.
struct Plan {
    std::vector<Index> storages;  // by storage
    std::vector<Index> shared;    // by op
    std::vector<bool> alone;  // by op: too little work for several threads
    Index arena_floats = 0;
    Index scratch_floats = 0;  // of each thread
};

Plan make_plan(const Net& net, Index lanes, Index pictures, int threads);

}  // namespace convscope::channels
