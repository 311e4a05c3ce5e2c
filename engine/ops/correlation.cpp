#include "ops/correlation.h"

#include <algorithm>
#include <limits>

namespace convscope {
namespace {

Index up_div(Index a, Index b) { return a <= 0 ? 0 : (a + b - 1) / b; }

// Source rows of all maps of a chunk, and what they meet, should stay in a second-level cache of 1 MiB.
constexpr Index kSlabBytes = 384 * 1024;

}  // namespace

Index Axis::tap_begin(Index last) const { return std::min(taps, up_div(-(last * step + origin), tap)); }

Index Axis::tap_end(Index first_position, Index begin) const {
    const Index room = source - 1 - first_position * step - origin;
    return room < 0 ? begin : std::max(begin, std::min(taps, room / tap + 1));
}

Index Axis::border_before() const { return std::max<Index>(0, -origin); }

Index Axis::border_after() const {
    return taps == 0 ? 0 : std::max<Index>(0, (count - 1) * step + (taps - 1) * tap + origin - (source - 1));
}

Correlation::Correlation(const KernelTable& kernels, Axis rows, Axis columns,
                         const std::vector<std::vector<Index>>& sources, const WeightOf& weight_of, Index source_maps,
                         std::optional<Index> most_maps)
    : rows_(rows), columns_(columns), source_maps_(source_maps) {
    split(kernels, sources);
    std::size_t longest = 0;
    for (const DestinationBlock& block : blocks_) longest = std::max(longest, block.sources.size());
    const Index row_bytes = (columns.source + columns.border_before() + columns.border_after()) * kBlock * 4;
    const Index rows_at_once = (rows.taps - 1) * rows.tap + 1;
    chunk_maps_ = std::max<Index>(1, static_cast<Index>(longest));
    if (most_maps) {
        chunk_maps_ = std::min(chunk_maps_, *most_maps);
    } else if (chunk_maps_ * rows_at_once * row_bytes > kSlabBytes) {
        // Not too few maps: each chunk reads and writes the sums once more.
        chunk_maps_ = std::max<Index>(std::min<Index>(8, chunk_maps_), kSlabBytes / (rows_at_once * row_bytes));
        const Index parts = (static_cast<Index>(longest) + chunk_maps_ - 1) / chunk_maps_;
        chunk_maps_ = (static_cast<Index>(longest) + parts - 1) / parts;
    }
    chunks_ = (static_cast<Index>(longest) + chunk_maps_ - 1) / chunk_maps_;
    const Index spare_rows = kSlabBytes / (chunk_maps_ * row_bytes) - rows_at_once;
    band_ = std::clamp<Index>(spare_rows / rows.step + 1, 1, std::max<Index>(1, rows.count));

    for (DestinationBlock& block : blocks_) {
        const auto count = static_cast<Index>(block.sources.size());
        for (Index chunk = 0; chunk < chunks_; ++chunk) {
            const Index from = std::min(count, chunk * chunk_maps_);
            const Index to = std::min(count, from + chunk_maps_);
            block.chunks.push_back(
                {static_cast<Index>(tap_map_.size()), to - from, static_cast<Index>(weights_.size())});
            for (Index i = 0; i < rows.taps; ++i)
                for (Index m = from; m < to; ++m) {
                    const Index map = block.sources[static_cast<std::size_t>(m)];
                    tap_map_.push_back(map);
                    tap_i_.push_back(i);
                    for (Index j = 0; j < columns.taps; ++j)
                        for (int c = 0; c < block.maps; ++c)
                            weights_.push_back(static_cast<std::int32_t>(weight_of(block.first + c, map, i, j)));
                }
        }
        block.runs = tiles_for(kernels, block.maps);
    }
    double row_taps = 0;
    for (Index row = 0; row < rows.count; ++row)
        row_taps += static_cast<double>(rows.tap_end(row, rows.tap_begin(row)) - rows.tap_begin(row));
    for (const DestinationBlock& block : blocks_)
        cycles_ += static_cast<double>(block.sources.size()) * cost_of(kernels, block.maps) * row_taps;
}

// Positions of a row in tiles as wide as the registers allow, the last ones evened out; the first and the last tile
// leave out tap columns that none of their positions need.
std::vector<Correlation::TileRun> Correlation::tiles_for(const KernelTable& kernels, int maps) const {
    int widest = kMostPositions;
    while (!kernels.convolution[maps][widest]) --widest;
    const Index tiles = (columns_.count + widest - 1) / widest;
    std::vector<TileRun> runs;
    Index column = 0;
    for (Index tile = 0; tile < tiles; ++tile) {
        const Index left = tiles - tile;
        const auto positions = static_cast<int>((columns_.count - column + left - 1) / left);
        const Index begin = columns_.tap_begin(column + positions - 1);
        const Index end = columns_.tap_end(column, begin);
        if (!runs.empty() && runs.back().positions == positions && runs.back().tap_begin == begin &&
            runs.back().tap_end == end)
            ++runs.back().tiles;
        else runs.push_back({column, 1, positions, begin, end});
        column += positions;
    }
    return runs;
}

// Cycles one tap row of one source map takes for a destination row, by the model: a fused multiply-add or a load of a
// position a cycle, two broadcasts a cycle, two cycles of loop.
double Correlation::cost_of(const KernelTable& kernels, int maps) const {
    double cycles = 0;
    for (const TileRun& run : tiles_for(kernels, maps)) {
        const double arithmetic = maps * run.positions;
        const double loads = run.positions + maps / 2.0;
        cycles += static_cast<double>(run.tiles) *
                  (static_cast<double>(run.tap_end - run.tap_begin) * (std::max(arithmetic, loads) + 1.5) + 3);
    }
    return cycles;
}

// Which neighbouring destination maps share a block: the cheapest partition, a block paying for every source map that
// any of its members needs.
void Correlation::split(const KernelTable& kernels, const std::vector<std::vector<Index>>& sources) {
    const std::size_t count = sources.size();
    double costs[kMostMaps + 1] = {};
    for (int maps = 1; maps <= kMostMaps; ++maps)
        if (kernels.convolution[maps][1]) costs[maps] = cost_of(kernels, maps);
    std::vector<double> best(count + 1, std::numeric_limits<double>::infinity());
    std::vector<int> choice(count + 1, 0);
    best[0] = 0;
    for (std::size_t first = 0; first < count; ++first) {
        std::vector<Index> together;
        for (int maps = 1; maps <= kMostMaps && first + static_cast<std::size_t>(maps) <= count; ++maps) {
            const std::size_t last = first + static_cast<std::size_t>(maps) - 1;
            std::vector<Index> merged;
            std::set_union(together.begin(), together.end(), sources[last].begin(), sources[last].end(),
                           std::back_inserter(merged));
            together = std::move(merged);
            if (!kernels.convolution[maps][1]) continue;
            const double total = best[first] + static_cast<double>(together.size()) * costs[maps] + 10;
            if (total < best[last + 1]) {
                best[last + 1] = total;
                choice[last + 1] = maps;
            }
        }
    }
    for (std::size_t end = count; end > 0;) {
        DestinationBlock block;
        block.maps = choice[end];
        end -= static_cast<std::size_t>(block.maps);
        block.first = static_cast<Index>(end);
        for (int map = 0; map < block.maps; ++map) {
            std::vector<Index> merged;
            const auto& own = sources[end + static_cast<std::size_t>(map)];
            std::set_union(block.sources.begin(), block.sources.end(), own.begin(), own.end(),
                           std::back_inserter(merged));
            block.sources = std::move(merged);
        }
        blocks_.insert(blocks_.begin(), std::move(block));
    }
}

void Correlation::arrange(const Maps& source) {
    offsets_.resize(tap_map_.size());
    for (std::size_t row = 0; row < offsets_.size(); ++row)
        offsets_[row] = tap_map_[row] * source.map_step + (rows_.origin + tap_i_[row] * rows_.tap) * source.row_step;
}

void Correlation::pack(const float* weights, float* packed, int part, int parts) const {
    const auto count = static_cast<Index>(weights_.size());
    const Index end = count * (part + 1) / parts;
    for (Index i = count * part / parts; i < end; ++i) {
        const std::int32_t from = weights_[static_cast<std::size_t>(i)];
        packed[i] = from < 0 ? 0.0f : weights[from];
    }
}

void Correlation::pack_sums(const float* weights, float* packed, int part, int parts, const float* factors, int count,
                            Index step) const {
    const auto total = static_cast<Index>(weights_.size());
    const Index end = total * (part + 1) / parts;
    for (Index i = total * part / parts; i < end; ++i) {
        const std::int32_t from = weights_[static_cast<std::size_t>(i)];
        float sum = 0;
        for (int k = 0; from >= 0 && k < count; ++k) sum += factors[k] * weights[from + k * step];
        packed[i] = sum;
    }
}

void Correlation::run_rows(const CorrelationCall& call, Index block_number, Index chunk_number, Index first,
                           Index count) const {
    const DestinationBlock& block = blocks_[static_cast<std::size_t>(block_number)];
    const Chunk& chunk = block.chunks[static_cast<std::size_t>(chunk_number)];
    const bool last_chunk = chunk_number == chunks_ - 1;
    const Index row_weights = columns_.taps * block.maps;
    ConvolutionRow a;
    a.column_step = columns_.tap * kBlock;
    a.position_step = columns_.step * kBlock;
    a.weight_row_step = row_weights;
    a.output_step = columns_.stride * kBlock;
    a.map_step = call.destination.map_step;
    a.accumulate = call.accumulate || chunk_number > 0;
    a.bias = call.bias ? call.bias + block.first : nullptr;
    a.floor = last_chunk ? call.floor : -std::numeric_limits<float>::infinity();
    float* const map = call.destination.data + block.first * call.destination.map_step;
    for (Index row = first; row < first + count; ++row) {
        const Index tap_begin = rows_.tap_begin(row);
        const Index tap_end = rows_.tap_end(row, tap_begin);
        a.tap_rows = offsets_.data() + chunk.tap_row + tap_begin * chunk.maps;
        a.tap_row_count = (tap_end - tap_begin) * chunk.maps;
        const float* const weights = call.packed + chunk.weights + tap_begin * chunk.maps * row_weights;
        const float* const source = call.source.data + row * rows_.step * call.source.row_step;
        float* const output = map + (rows_.first + row * rows_.stride) * call.destination.row_step;
        for (const TileRun& run : block.runs) {
            a.columns = run.tap_end - run.tap_begin;
            a.tiles = run.tiles;
            a.weights = weights + run.tap_begin * block.maps;
            a.input = source + (run.column * columns_.step + columns_.origin + run.tap_begin * columns_.tap) * kBlock;
            a.output = output + (columns_.first + run.column * columns_.stride) * kBlock;
            call.kernels->convolution[block.maps][run.positions](a);
        }
    }
}

void Correlation::run(const CorrelationCall& call) const {
    for (Index chunk = 0; chunk < chunks_; ++chunk)
        for (Index first = 0; first < rows_.count; first += band_)
            for (Index block = 0; block < block_count(); ++block)
                run_rows(call, block, chunk, first, std::min(band_, rows_.count - first));
}

std::string Correlation::describe() const {
    std::string line;
    for (const DestinationBlock& block : blocks_)
        line += (line.empty() ? "" : "+") + std::to_string(block.maps) + "x" +
                std::to_string(block.runs.empty() ? 0 : block.runs.front().positions);
    return line + " chunks " + std::to_string(chunks_) + " band " + std::to_string(band_);
}

}  // namespace convscope
