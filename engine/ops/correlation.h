// A correlation of source maps with packed kernels into destination maps: the convolution itself, and its transpose.
//
// Destination (row r, column c) reads source row r·step + i·tap + origin for tap row i, likewise for columns. The taps
// of a block of CB destination maps are packed as [chunk][i][source map][j][CB]; taps that fall outside the source are
// left out by whole tap rows, and for tiles at the sides by tap columns.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "ops/connections.h"
#include "ops/record.h"
#include "ops/team.h"

namespace convscope {

struct Axis {
    Index count = 0;  // destination positions
    Index step = 1;   // in the source, per destination position
    Index taps = 0;
    Index tap = 1;     // in the source, per tap
    Index origin = 0;  // source position of destination 0, tap 0
    Index source = 0;  // source positions
    Index first = 0;   // destination position 0 in the destination maps
    Index stride = 1;  // between destination positions there

    // Taps that meet the source for any of the destinations first … last.
    Index tap_begin(Index last) const;
    Index tap_end(Index first_position, Index begin) const;
    Index border_before() const;  // zeros wanted before and after the source
    Index border_after() const;
};

struct CorrelationCall {
    const KernelTable* kernels = nullptr;
    Maps source;
    Maps destination;
    const float* packed = nullptr;
    const float* bias = nullptr;  // per destination map, or null
    float floor = 0;
    bool accumulate = false;
};

class Correlation {
public:
    // Index of the weight of (destination map, source map, tap row i, tap column j) in the parameter; −1: not
    // connected.
    using WeightOf = std::function<Index(Index to, Index from, Index i, Index j)>;

    Correlation() = default;
    // `sources[to]`: ascending source maps of each destination map. A chunk has at most `most_maps` of them.
    Correlation(const KernelTable& kernels, Axis rows, Axis columns, const Connections& sources,
                const WeightOf& weight_of, Index source_maps, std::optional<Index> most_maps = {});

    // Source steps, known once memory is laid out. Offsets are from the source's first position.
    void arrange(const Maps& source);

    Index packed_floats() const { return packed_floats_; }
    void pack(const float* weights, float* packed, int part, int parts) const;
    // Instead of each weight, at every point the sum of its factors times `taps` weights that lie `step` apart; packed
    // point after point, packed_floats() each.
    struct PointFilter {
        const float* factors = nullptr;  // [point][tap]
        int points = 0, taps = 0;
        Index step = 0;
    };
    void pack_points(const float* weights, float* packed, int part, int parts, const PointFilter& filter) const;
    // Of a block of 16 images, by the model.
    double cycles() const { return cycles_; }

    Index block_count() const { return static_cast<Index>(blocks_.size()); }
    Index block_first(Index block) const { return blocks_[static_cast<std::size_t>(block)].first; }
    Index block_maps(Index block) const { return blocks_[static_cast<std::size_t>(block)].maps; }
    Index chunk_count() const { return chunks_; }

    // Destination rows first … first+count−1 of one block, one chunk of its source maps.
    void run_rows(const CorrelationCall& call, Index block, Index chunk, Index first, Index count) const;
    // Everything, in an order that keeps source rows and weights in cache.
    // A team shares out destination maps, or rows where those are too few.
    void run(const CorrelationCall& call, const Team& team) const;

    const Axis& rows() const { return rows_; }
    const Axis& columns() const { return columns_; }
    // Multiply-adds a block of 16 images takes, as executed.
    std::string describe() const;

private:
    struct Chunk {
        Index tap_row = 0;  // in offsets_, of (i = 0, first map): blocks of the same source maps share them
        Index row = 0;      // number of that tap row among all blocks'
        Index first = 0;    // of its source maps, among the block's
        Index maps = 0;
        Index weights = 0;  // in the packed weights
        Index listed = 0;   // in listed_weights_, where the block's weights are listed
    };
    // Weight of (a block's map c, its source m, tap row i, tap column j): first + c·map + m·source + i·row + j·column.
    struct WeightSteps {
        Index first = -1, map = 0, source = 0, row = 0, column = 0;

        Index at(Index m, Index i) const { return first + m * source + i * row; }
    };
    struct TileRun {
        Index column, tiles;
        int positions;
        Index tap_begin, tap_end;
    };
    struct DestinationBlock {
        Index first = 0;
        int maps = 0;
        std::shared_ptr<const Connections::List> sources;
        std::vector<Chunk> chunks;
        bool listed = false;  // not all its weights stand at regular steps
        WeightSteps steps;
    };

    std::vector<TileRun> tiles_for(const KernelTable& kernels, int maps) const;
    double cost_of(const KernelTable& kernels, int maps) const;
    void split(const KernelTable& kernels, const Connections& sources);
    WeightSteps steps_of(const DestinationBlock& block, const WeightOf& weight_of) const;
    void cut_chunks(DestinationBlock& block, const DestinationBlock* before, const WeightOf& weight_of);
    template <class Visit>
    void for_tap_rows(int part, int parts, Visit visit) const;

    Axis rows_, columns_;
    Index source_maps_ = 0;
    Index chunk_maps_ = 0, chunks_ = 1, band_ = 1;
    double cycles_ = 0;
    std::vector<DestinationBlock> blocks_;
    std::array<std::vector<TileRun>, kMostMaps + 1> runs_;  // of blocks of so many maps
    Index packed_floats_ = 0, rows_in_all_ = 0;
    std::vector<std::int32_t> listed_weights_;  // parameter index of a listed block's packed weights, −1 for zero
    std::vector<Index> tap_map_, tap_i_;  // of each tap row
    std::vector<Index> offsets_;          // of each tap row, in floats
};

}  // namespace convscope
