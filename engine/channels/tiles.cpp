#include "channels/tiles.h"

#include <algorithm>

namespace convscope::channels {
namespace {

constexpr Index kLine = 16;  // floats of a cache line

double tile_cycles(int blocks, int positions) {
    const double products = 0.5 * blocks * positions, loads = 0.5 * (blocks + positions);
    return std::max({products, loads, 4.0}) + 0.3;
}

int most_positions(const KernelTable& kernels, int blocks) {
    int most = kMostChannelPositions;
    while (most > 0 && !kernels.channel_row[blocks][most]) --most;
    return most;
}

}  // namespace

RowTiles row_tiles(const KernelTable& kernels, int blocks, Index positions) {
    const Index most = most_positions(kernels, blocks);
    const Index tiles = (positions + most - 1) / most;
    RowTiles found;
    found.positions = static_cast<int>(positions / tiles);
    found.wide = positions % tiles;
    found.narrow = tiles - found.wide;
    found.cycles = static_cast<double>(found.narrow) * tile_cycles(blocks, found.positions);
    if (found.wide > 0) found.cycles += static_cast<double>(found.wide) * tile_cycles(blocks, found.positions + 1);
    return found;
}

std::vector<int> block_groups(const KernelTable& kernels, Index blocks, Index positions) {
    std::vector<int> best;
    double best_cycles = 0;
    for (int size = 1; size <= kMostChannelBlocks; ++size) {
        if (most_positions(kernels, size) == 0) continue;
        const Index count = (blocks + size - 1) / size;
        std::vector<int> sizes;
        double cycles = 0;
        for (Index i = 0; i < count; ++i) {
            sizes.push_back(static_cast<int>(blocks / count + (i < blocks % count ? 1 : 0)));
            cycles += row_tiles(kernels, sizes.back(), positions).cycles;
        }
        if (best.empty() || cycles < best_cycles) best = std::move(sizes), best_cycles = cycles;
    }
    return best;
}

void Ahead::share_out(ChannelRow& row, const RowTiles& tiles, Index calls) {
    const Index taps = (tiles.wide + tiles.narrow) * row.tap_count;
    if (lines == 0) lines = ((end - begin) / kLine + calls * taps - 1) / (calls * taps);
    row.ahead = begin;
    row.ahead_end = end;
    row.ahead_lines = lines;
    begin += std::min(lines * taps * kLine, end - begin);
}

void run_tiles(const KernelTable& kernels, int blocks, const RowTiles& tiles, ChannelRow row) {
    const bool apart = row.position_step != kernels.lanes;
    const auto& table = apart ? kernels.channel_row_apart[blocks] : kernels.channel_row[blocks];
    if (tiles.wide > 0) {
        row.tiles = tiles.wide;
        table[tiles.positions + 1](row);
        const Index passed = tiles.wide * (tiles.positions + 1);
        row.input += passed * row.position_step;
        row.output += passed * kernels.lanes;
        if (row.skip) row.skip += passed * kernels.lanes;
        row.ahead += std::min(tiles.wide * row.tap_count * row.ahead_lines * kLine, row.ahead_end - row.ahead);
    }
    row.tiles = tiles.narrow;
    table[tiles.positions](row);
}

}  // namespace convscope::channels
