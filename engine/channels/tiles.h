// How a row of positions and a number of channel blocks are cut into register tiles.
#pragma once

#include <vector>

#include "kernels/table.h"

namespace convscope::channels {

// `wide` tiles of `positions` + 1 positions, then `narrow` of `positions`.
struct RowTiles {
    int positions = 0;
    Index wide = 0, narrow = 0;
    double cycles = 0;  // of one tap scalar
};

// The cheapest for B blocks and so many positions, by the model: two multiply-adds or two loads a cycle, and at least the
// four that a multiply-add takes.
RowTiles row_tiles(const KernelTable& kernels, int blocks, Index positions);

// Sizes of the groups that so many blocks are computed in, for rows of `positions`.
std::vector<int> block_groups(const KernelTable& kernels, Index blocks, Index positions);

// Runs the tiles of a row: `row.tiles` is overwritten, the pointers are those of the first position.
void run_tiles(const KernelTable& kernels, int blocks, const RowTiles& tiles, ChannelRow row);

}  // namespace convscope::channels
