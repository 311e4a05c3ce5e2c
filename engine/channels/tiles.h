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

// Memory that is wanted next, fetched while tiles are computed: some lines with each tap, so that all of it is there in
// the end. Packing alone waits for memory most of its time: 10 GB/s to one core are 340 cycles for the 16 rows of weights
// whose turning takes 80.
struct Ahead {
    const float* begin = nullptr;
    const float* end = nullptr;

    // Sets `row` for the next of `calls` calls of run_tiles, and passes what it will have fetched.
    void share_out(ChannelRow& row, const RowTiles& tiles, Index calls);
    Index lines = 0;  // with each tap; 0 before the first call
};

// Runs the tiles of a row: `row.tiles` is overwritten, the pointers are those of the first position.
void run_tiles(const KernelTable& kernels, int blocks, const RowTiles& tiles, ChannelRow row);

}  // namespace convscope::channels
