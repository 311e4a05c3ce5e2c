#include "ops/correlation.h"

#include <algorithm>
#include <limits>
#include <type_traits>

namespace convscope {
namespace {

Index up_div(Index a, Index b) { return a <= 0 ? 0 : (a + b - 1) / b; }

// Source rows of all maps of a chunk, and what they meet, should stay in a second-level cache of 1 MiB.
constexpr Index kSlabBytes = 384 * 1024;

std::vector<Index> merged(const std::vector<Index>& one, const std::vector<Index>& other) {
    std::vector<Index> all;
    std::set_union(one.begin(), one.end(), other.begin(), other.end(), std::back_inserter(all));
    return all;
}

// Calls work with the number of maps as a constant, so that its loops over them are unrolled.
template <class Work>
void with_constant(int maps, Work work) {
    static_assert(kMostMaps == 8);
    switch (maps) {
        case 1: return work(std::integral_constant<int, 1>{});
        case 2: return work(std::integral_constant<int, 2>{});
        case 3: return work(std::integral_constant<int, 3>{});
        case 4: return work(std::integral_constant<int, 4>{});
        case 5: return work(std::integral_constant<int, 5>{});
        case 6: return work(std::integral_constant<int, 6>{});
        case 7: return work(std::integral_constant<int, 7>{});
        default: return work(std::integral_constant<int, 8>{});
    }
}

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
                         const Connections& sources, const WeightOf& weight_of, Index source_maps,
                         std::optional<Index> most_maps)
    : rows_(rows), columns_(columns), source_maps_(source_maps) {
    split(kernels, sources);
    std::size_t longest = 0;
    for (const DestinationBlock& block : blocks_) longest = std::max(longest, block.sources->size());
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

    const DestinationBlock* before = nullptr;
    for (DestinationBlock& block : blocks_) {
        cut_chunks(block, before, weight_of);
        std::vector<TileRun>& runs = runs_[static_cast<std::size_t>(block.maps)];
        if (runs.empty()) runs = tiles_for(kernels, block.maps);
        before = &block;
    }
    listed_weights_.shrink_to_fit();
    double row_taps = 0;
    for (Index row = 0; row < rows.count; ++row)
        row_taps += static_cast<double>(rows.tap_end(row, rows.tap_begin(row)) - rows.tap_begin(row));
    for (const DestinationBlock& block : blocks_)
        cycles_ += static_cast<double>(block.sources->size()) * cost_of(kernels, block.maps) * row_taps;
}

// What a plain layer's steps would be; its first weight is −1 where there are no taps.
Correlation::WeightSteps Correlation::steps_of(const DestinationBlock& block, const WeightOf& weight_of) const {
    WeightSteps steps;
    if (rows_.taps == 0 || columns_.taps == 0 || block.sources->empty()) return steps;
    const Index to = block.first, from = block.sources->front();
    steps.first = weight_of(to, from, 0, 0);
    if (block.maps > 1) steps.map = weight_of(to + 1, from, 0, 0) - steps.first;
    if (block.sources->size() > 1) steps.source = weight_of(to, (*block.sources)[1], 0, 0) - steps.first;
    if (rows_.taps > 1) steps.row = weight_of(to, from, 1, 0) - steps.first;
    if (columns_.taps > 1) steps.column = weight_of(to, from, 0, 1) - steps.first;
    return steps;
}

// The block's tap rows, and where their weights stand: every one is asked for, and listed unless all stand at regular
// steps. A list costs as much memory as the weights, and its reading was a third of packing deep layers. Tap rows of the
// same source maps as the block's before are the same; each block's own took as much memory as the weights, too.
void Correlation::cut_chunks(DestinationBlock& block, const DestinationBlock* before, const WeightOf& weight_of) {
    const auto count = static_cast<Index>(block.sources->size());
    const bool known = before && *before->sources == *block.sources;
    const std::size_t listed = listed_weights_.size();
    const WeightSteps steps = block.steps = steps_of(block, weight_of);
    for (Index chunk = 0; chunk < chunks_; ++chunk) {
        const Index from = std::min(count, chunk * chunk_maps_);
        const Index to = std::min(count, from + chunk_maps_);
        const auto tap_row = known ? before->chunks[static_cast<std::size_t>(chunk)].tap_row
                                   : static_cast<Index>(tap_map_.size());
        block.chunks.push_back({tap_row, rows_in_all_, from, to - from, packed_floats_,
                                static_cast<Index>(listed_weights_.size())});
        rows_in_all_ += rows_.taps * (to - from);
        for (Index i = 0; i < rows_.taps; ++i)
            for (Index m = from; m < to; ++m) {
                const Index map = (*block.sources)[static_cast<std::size_t>(m)];
                if (!known) {
                    tap_map_.push_back(map);
                    tap_i_.push_back(i);
                }
                for (Index j = 0; j < columns_.taps; ++j)
                    for (int c = 0; c < block.maps; ++c) {
                        const Index weight = weight_of(block.first + c, map, i, j);
                        const Index regular = steps.at(m, i) + c * steps.map + j * steps.column;
                        block.listed = block.listed || weight < 0 || weight != regular;
                        listed_weights_.push_back(static_cast<std::int32_t>(weight));
                    }
            }
        packed_floats_ += (to - from) * rows_.taps * columns_.taps * block.maps;
    }
    if (!block.listed) listed_weights_.resize(listed);
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
void Correlation::split(const KernelTable& kernels, const Connections& sources) {
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
            together = merged(together, sources[last]);
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
        block.sources = sources.shared(end);
        for (std::size_t map = end + 1; map < end + static_cast<std::size_t>(block.maps); ++map)
            if (!sources.alike(map, end))
                block.sources = std::make_shared<const Connections::List>(merged(*block.sources, sources[map]));
        blocks_.insert(blocks_.begin(), std::move(block));
    }
}

void Correlation::arrange(const Maps& source) {
    offsets_.resize(tap_map_.size());
    for (std::size_t row = 0; row < offsets_.size(); ++row)
        offsets_[row] = tap_map_[row] * source.map_step + (rows_.origin + tap_i_[row] * rows_.tap) * source.row_step;
}

// Calls visit(block, chunk, begin, end) for the tap rows of a chunk that are in part `part` of all.
template <class Visit>
void Correlation::for_tap_rows(int part, int parts, Visit visit) const {
    const Index begin = rows_in_all_ * part / parts, end = rows_in_all_ * (part + 1) / parts;
    for (const DestinationBlock& block : blocks_)
        for (const Chunk& chunk : block.chunks) {
            const Index from = std::max<Index>(0, begin - chunk.row);
            const Index to = std::min(end - chunk.row, chunk.maps * rows_.taps);
            if (from < to) visit(block, chunk, from, to);
        }
}

void Correlation::pack(const float* weights, float* packed, int part, int parts) const {
    for_tap_rows(part, parts, [&](const DestinationBlock& block, const Chunk& chunk, Index begin, Index end) {
        const Index row_weights = columns_.taps * block.maps;
        float* to = packed + chunk.weights + begin * row_weights;
        if (block.listed) {
            const std::int32_t* const list = listed_weights_.data() + chunk.listed + begin * row_weights;
            for (Index k = 0; k < (end - begin) * row_weights; ++k) to[k] = list[k] < 0 ? 0.0f : weights[list[k]];
            return;
        }
        const WeightSteps steps = block.steps;
        const Index columns = columns_.taps;
        with_constant(block.maps, [&](auto maps) {
            for (Index row = begin; row < end; ++row) {
                const float* from = weights + steps.at(chunk.first + row % chunk.maps, row / chunk.maps);
                for (Index j = 0; j < columns; ++j, from += steps.column, to += maps())
                    for (int c = 0; c < maps(); ++c) to[c] = from[c * steps.map];
            }
        });
    });
}

void Correlation::pack_points(const float* weights, float* packed, int part, int parts,
                              const PointFilter& filter) const {
    for_tap_rows(part, parts, [&](const DestinationBlock& block, const Chunk& chunk, Index begin, Index end) {
        const Index row_weights = columns_.taps * block.maps;
        float* to = packed + chunk.weights + begin * row_weights;
        if (block.listed) {
            const std::int32_t* const list = listed_weights_.data() + chunk.listed + begin * row_weights;
            for (int point = 0; point < filter.points; ++point, to += packed_floats_)
                for (Index k = 0; k < (end - begin) * row_weights; ++k) {
                    float sum = 0;
                    for (int tap = 0; list[k] >= 0 && tap < filter.taps; ++tap)
                        sum += filter.factors[point * filter.taps + tap] * weights[list[k] + tap * filter.step];
                    to[k] = sum;
                }
            return;
        }
        const WeightSteps steps = block.steps;
        with_constant(block.maps, [&](auto maps) {
            float taps[kMostPoints][maps()];  // a form has fewer taps than points (WinogradForm::cheapest)
            for (Index row = begin; row < end; ++row) {
                const float* from = weights + steps.at(chunk.first + row % chunk.maps, row / chunk.maps);
                for (Index j = 0; j < columns_.taps; ++j, from += steps.column, to += maps()) {
                    for (int tap = 0; tap < filter.taps; ++tap)
                        for (int c = 0; c < maps(); ++c) taps[tap][c] = from[c * steps.map + tap * filter.step];
                    for (int point = 0; point < filter.points; ++point) {
                        const float* const factors = filter.factors + point * filter.taps;
                        float sums[maps()] = {};
                        for (int tap = 0; tap < filter.taps; ++tap)
                            for (int c = 0; c < maps(); ++c) sums[c] += factors[tap] * taps[tap][c];
                        for (int c = 0; c < maps(); ++c) to[point * packed_floats_ + c] = sums[c];
                    }
                }
            }
        });
    });
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
        for (const TileRun& run : runs_[static_cast<std::size_t>(block.maps)]) {
            a.columns = run.tap_end - run.tap_begin;
            a.tiles = run.tiles;
            a.weights = weights + run.tap_begin * block.maps;
            a.input = source + (run.column * columns_.step + columns_.origin + run.tap_begin * columns_.tap) * kBlock;
            a.output = output + (columns_.first + run.column * columns_.stride) * kBlock;
            call.kernels->convolution[block.maps][run.positions](a);
        }
    }
}

void Correlation::run(const CorrelationCall& call, const Team& team) const {
    const bool by_blocks = team.most(block_count()) * rows_.count <= team.most(rows_.count) * block_count();
    const Team::Own rows = by_blocks ? Team::Own{0, rows_.count} : team.of(rows_.count);
    const Team::Own blocks = by_blocks ? team.of(block_count()) : Team::Own{0, block_count()};
    for (Index chunk = 0; chunk < chunks_; ++chunk)
        for (Index first = rows.begin; first < rows.end; first += band_)
            for (Index block = blocks.begin; block < blocks.end; ++block)
                run_rows(call, block, chunk, first, std::min(band_, rows.end - first));
}

std::string Correlation::describe() const {
    std::string line;
    for (const DestinationBlock& block : blocks_) {
        const std::vector<TileRun>& runs = runs_[static_cast<std::size_t>(block.maps)];
        line += (line.empty() ? "" : "+") + std::to_string(block.maps) + "x" +
                std::to_string(runs.empty() ? 0 : runs.front().positions);
    }
    return line + " chunks " + std::to_string(chunks_) + " band " + std::to_string(band_);
}

}  // namespace convscope
