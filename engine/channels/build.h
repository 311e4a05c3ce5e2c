// Records → ops, and where their values lie.
#pragma once

#include <vector>

#include "channels/low.h"

namespace convscope::channels {

// One array, of one value or of several that are joined.
struct Storage {
    Index channels = 0, height = 0, width = 0;
    Size border;
    bool planar = false;

    Index row_floats(Index lanes) const { return (width + 2 * border.x) * (planar ? 1 : lanes); }
    Index block_floats(Index lanes) const { return (height + 2 * border.y) * row_floats(lanes); }
    Index blocks(Index lanes) const { return planar ? channels : blocks_of(channels, lanes); }
    Index picture_floats(Index lanes) const { return rounded_up(blocks(lanes) * block_floats(lanes), 16); }
};

struct Value {
    Shape shape;
    int storage = -1;  // −1: nobody needs it
    Index first_channel = 0;
};

struct Net {
    std::vector<OpPointer> ops;  // in order of execution
    std::vector<Value> values;
    std::vector<Storage> storages;
    std::vector<std::string> remarks;  // which layers stay in float32 although low precision was asked for, and why

    // How a value lies in memory, its storage beginning at `base`.
    Tensor tensor(int value, Index lanes, float* base) const;
};

// `low` null: everything in float32.
Net build(const KernelTable& kernels, const Shape& input, const std::vector<Record>& records,
          const std::vector<int>& outputs, const LowOptions* low = nullptr);

}  // namespace convscope::channels
