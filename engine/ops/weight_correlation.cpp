#include "ops/weight_correlation.h"

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <utility>

namespace convscope {

// Output maps with the same input maps may share registers; which ones do is the cheapest partition.
WeightCorrelation::WeightCorrelation(const KernelTable& kernels, const Connections& sources,
                                     std::vector<Tap> taps)
    : kernels_(&kernels), taps_(std::move(taps)) {
    const std::size_t count = sources.size();
    std::vector<Index> first_connection;
    for (std::size_t to = 0; to < count; ++to) {
        first_connection.push_back(connections_);
        connections_ += static_cast<Index>(sources[to].size());
    }
    std::vector<double> best(count + 1, std::numeric_limits<double>::infinity());
    std::vector<int> choice(count + 1, 0);
    best[0] = 0;
    std::map<std::pair<int, std::size_t>, double> known;
    for (std::size_t first = 0; first < count; ++first)
        for (int maps = 1; maps <= kMostMaps && first + static_cast<std::size_t>(maps) <= count; ++maps) {
            const std::size_t end = first + static_cast<std::size_t>(maps);
            if (!sources.alike(end - 1, first)) break;
            if (!kernels.weight_gradient[maps][1]) continue;
            const std::size_t own_taps = sources[first].size() * taps_.size();
            auto [place, added] = known.try_emplace({maps, own_taps}, 0.0);
            if (added) static_cast<void>(tap_groups(maps, own_taps, &place->second));
            if (best[first] + place->second < best[end]) {
                best[end] = best[first] + place->second;
                choice[end] = maps;
            }
        }
    cycles_ = best[count];
    std::map<std::pair<int, std::size_t>, std::shared_ptr<const std::vector<int>>> cut;
    for (std::size_t end = count; end > 0;) {
        Block block;
        block.maps = choice[end];
        end -= static_cast<std::size_t>(block.maps);
        const std::size_t own_taps = sources[end].size() * taps_.size();
        block.first = static_cast<Index>(end);
        block.weight = first_connection[end] * static_cast<Index>(taps_.size());
        block.weight_step = static_cast<Index>(own_taps);
        if (reaches_.empty() || *reaches_.back().sources != sources[end]) reaches_.push_back({sources.shared(end), {}});
        block.reach = reaches_.size() - 1;
        auto& groups = cut[{block.maps, own_taps}];
        if (!groups) groups = std::make_shared<const std::vector<int>>(tap_groups(block.maps, own_taps, nullptr));
        block.groups = groups;
        longest_ = std::max(longest_, block.weight_step);
        blocks_.insert(blocks_.begin(), std::move(block));
    }
}

// Cheapest way to cut `taps` into the kernels' T, by the model: a fused multiply-add or a load a cycle.
std::vector<int> WeightCorrelation::tap_groups(int maps, std::size_t taps, double* cycles) const {
    std::vector<double> best(taps + 1, std::numeric_limits<double>::infinity());
    std::vector<int> choice(taps + 1, 0);
    best[0] = 0;
    for (std::size_t at = 0; at < taps; ++at)
        for (int group = 1; group <= kMostTaps && at + static_cast<std::size_t>(group) <= taps; ++group) {
            if (!kernels_->weight_gradient[maps][group]) continue;
            // Fewer than 8 sums cannot hide the latency of a multiply-add.
            const double arithmetic = std::max(8, maps * group);
            const double total = best[at] + std::max<double>(arithmetic, maps + group) + 2;
            const std::size_t end = at + static_cast<std::size_t>(group);
            if (total < best[end]) {
                best[end] = total;
                choice[end] = group;
            }
        }
    std::vector<int> groups;
    for (std::size_t end = taps; end > 0; end -= static_cast<std::size_t>(choice[end]))
        groups.insert(groups.begin(), choice[end]);
    if (cycles) *cycles = best[taps];
    return groups;
}

double WeightCorrelation::cycles() const { return cycles_; }

double WeightCorrelation::closing_cycles() const {
    constexpr double kCyclesASum = 5;  // the tree of simd/reduce.h takes 60 for 16
    return kCyclesASum * static_cast<double>(gradient_count());
}

void WeightCorrelation::arrange(const Maps& input) {
    for (Reach& reach : reaches_) {
        reach.offsets.clear();
        for (const Index source : *reach.sources)
            for (const Tap& tap : taps_)
                reach.offsets.push_back(source * input.map_step + tap.row * input.row_step + tap.column * kBlock);
    }
}

void WeightCorrelation::run(const Call& call, const Team& team) const {
    const Team::Own own = team.of(static_cast<Index>(blocks_.size()));
    WeightGradient a;
    a.delta_map_step = call.delta.map_step;
    a.delta_row_step = call.delta.row_step;
    a.input_row_step = call.input_rows * call.input.row_step;
    a.position_step = call.input_columns * kBlock;
    a.columns = call.delta.width;
    const Tiling tiles = tiling(call);
    for (Index first = 0; first < call.delta.height; first += tiles.rows) {
        a.rows = std::min(tiles.rows, call.delta.height - first);
        a.accumulate = call.accumulate || first > 0;
        a.input = call.input.data + first * a.input_row_step;
        for (Index tap = 0; tap < longest_; tap += tiles.taps)
            for (Index number = own.begin; number < own.end; ++number) {
                const Block& block = blocks_[static_cast<std::size_t>(number)];
                a.delta = call.delta.data + block.first * call.delta.map_step + first * call.delta.row_step;
                run_tiles(call, block, tap, tap + tiles.taps, a);
            }
    }
}

// The groups of one block of output maps that begin at taps from … to−1.
void WeightCorrelation::run_tiles(const Call& call, const Block& block, Index from, Index to,
                                  WeightGradient& a) const {
    a.gradient_step = block.weight_step;
    float* const gradient = call.gradient + block.weight;
    Index tap = 0;
    for (const int group : *block.groups) {
        if (tap >= from && tap < to) {
            a.taps = reaches_[block.reach].offsets.data() + tap;
            a.gradient = gradient + tap;
            call.kernels->weight_gradient[block.maps][group](a);
        }
        tap += group;
    }
}

// Every tile of the gradient walks over all positions, so the maps of large layers would come from memory again for
// each: a band of rows and a chunk of input maps stay in the second-level cache for all output maps. A band has at
// least 400 positions, because adding up the lanes at its end takes some 120 cycles.
WeightCorrelation::Tiling WeightCorrelation::tiling(const Call& call) const {
    constexpr Index kChunkBytes = 384 * 1024, kLeastPositions = 400;
    const Index rows = call.delta.height, columns = call.delta.width;
    const Index row_bytes = call.input_rows * call.input.row_step * 4;
    const auto taps = static_cast<Index>(taps_.size());
    const Index maps = (longest_ + taps - 1) / taps;
    const Index least = std::min(rows, (kLeastPositions + columns - 1) / columns);
    const Index at_once = std::clamp(kChunkBytes / (row_bytes * maps), least, rows);
    const Index bands = (rows + at_once - 1) / at_once;
    const Index chunk = std::max<Index>(9, kChunkBytes / (row_bytes * ((rows + bands - 1) / bands)));
    return {(rows + bands - 1) / bands, chunk * taps};
}

std::string WeightCorrelation::describe() const {
    std::string line;
    for (const Block& block : blocks_) {
        line += (line.empty() ? "" : " ") + std::to_string(block.maps) + "x(";
        for (const int group : *block.groups) line += std::to_string(group) + " ";
        line.back() = ')';
    }
    return line;
}

}  // namespace convscope
