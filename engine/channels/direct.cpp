#include "channels/direct.h"

#include <algorithm>

#include "channels/cache.h"

namespace convscope::channels {
namespace {

// That a panel serves at least: packing 256 weights takes 80 cycles, and a position's use of them 8.
constexpr double kLeastPositions = 320;
constexpr Index kPositionsOfPanel = 10;
constexpr Index kMostLanes = 16;

}  // namespace

// A group's panel of some sources, and what it is multiplied by.
struct Direct::Sweep {
    const BlockGroup& group;
    const Tensor& input;
    const Index* taps;
    Range sources;
    const float* bias;
    Ahead ahead;  // the weights of what comes next

    bool first() const { return sources.begin == group.sources.begin; }
    bool last() const { return sources.end == group.sources.end; }
};

Direct::Direct(const KernelTable& kernels, ConvolutionSpec spec, int input, int output, bool planar)
    : Op(spec.name, {input}, output),
      kernels_(kernels),
      spec_(std::move(spec)),
      lanes_(kernels.lanes),
      planar_(planar),
      panels_(spec_.filter, kernels.lanes, planar),
      groups_(group_blocks(kernels, spec_.filter,
                           spec_.filter.is_pointwise() ? positions() : spec_.filter.output.width)) {
    if (planar_)
        for (BlockGroup& group : groups_) group.sources = {0, spec_.filter.input.channels};
}

void Direct::arrange(const std::vector<Tensor>& inputs_at, const Tensor& output_at, const Tensor& skip_at) {
    const bool dense_input = normalises_input() || inputs_at[0].dense(lanes_);
    flat_ = spec_.filter.is_pointwise() && !planar_ && !spec_.pooled && dense_input && output_at.dense(lanes_) &&
            (skip < 0 || skip_at.dense(lanes_));
    taps_ = taps_of(most_sources(), inputs_at[0]);
}

Index Direct::chunk_sources(const BlockGroup& group) const {
    if (spec_.pooled) return group.sources.size();  // sums that are pooled are never kept in parts
    const Index one = panels_.floats(1) * group.blocks * static_cast<Index>(sizeof(float));
    const Index most = std::max<Index>(1, first_level_bytes() / 2 / one);
    const Index chunks = (group.sources.size() + most - 1) / most;
    return (group.sources.size() + chunks - 1) / chunks;
}

// Of any group: one of fewer blocks has room for more sources at once.
Index Direct::most_sources() const {
    Index most = 0;
    for (const BlockGroup& group : groups_) most = std::max(most, chunk_sources(group));
    return most;
}

Index Direct::panel_floats() const {
    Index most = 0;
    for (const BlockGroup& group : groups_)
        most = std::max(most, panels_.floats(chunk_sources(group)) * group.blocks);
    return rounded_up(most, kMostLanes);
}

Split Direct::split(int, Index pictures, int threads) const {
    const Filter& filter = spec_.filter;
    const auto all = static_cast<double>(positions());
    Split split;
    split.pictures = pictures;
    split.groups = static_cast<Index>(groups_.size());
    split.rows = spec_.pooled ? filter.output.height / 2 : filter.output.height;
    split.picture_parts = parts_for(pictures, all * static_cast<double>(pictures), std::max(kLeastPositions, all));
    if (all > 2 * kLeastPositions) {
        // Bands whose input stays in the second level while all groups pass over it.
        const double band = static_cast<double>(second_level_bytes()) / 3;
        const double bytes = 4 * static_cast<double>(filter.input.positions());
        split.row_parts = parts_for(split.rows, all, std::max(kLeastPositions, all * std::min(1.0, band / bytes)));
    }
    if (threads > 1) balance(split, threads);
    return split;
}

// Cuts rows and groups so that the thread with most to do has least: 96 channels of 14×14 are three groups, of which one
// of two threads would have two. Each item turns its weights anew.
void Direct::balance(Split& split, int threads) const {
    const Index width = positions() / split.rows, least_rows = split.row_parts;
    double best = 0;
    Index best_rows = 1, best_groups = 1;
    for (Index rows = least_rows; rows <= std::min(split.rows, std::max<Index>(least_rows, 2 * threads)); ++rows)
        for (Index groups = 1; groups <= std::min<Index>(split.groups, 4 * threads); ++groups) {
            const Part part = largest_part({split.pictures, split.groups, split.rows, split.picture_parts, groups, rows});
            const Index items = (split.picture_parts * groups * rows + threads - 1) / threads;
            const Index served = part.pictures.size() * part.rows.size() * width;
            // An input that is normalised first is so for each item, at a tenth of what a group of channels takes.
            const double before = normalises_input() ? 0.1 * static_cast<double>(served) : 0;
            const double own = static_cast<double>(items) *
                               (static_cast<double>(part.groups.size() * (served + kPositionsOfPanel)) + before);
            if (best > 0 && own >= 0.98 * best) continue;
            best = own, best_rows = rows, best_groups = groups;
        }
    split.row_parts = best_rows;
    split.group_parts = best_groups;
}

Index Direct::scratch_floats(Index pictures, int threads) const {
    Index more = 0;
    if (spec_.pooled) more = kMostChannelBlocks * 2 * spec_.filter.output.width * lanes_;
    if (normalises_input()) {
        const Part part = largest_part(split(0, pictures, threads));
        more = part.pictures.size() * rounded_up(spec_.filter.input.channels, lanes_) * part.rows.size() *
               spec_.filter.input.width;
    }
    return panel_floats() + more;
}

// Offsets of all taps of so many sources from the first one.
std::vector<Index> Direct::taps_of(Index sources, const Tensor& input) const {
    const Filter& filter = spec_.filter;
    std::vector<Index> taps;
    for (Index source = 0; source < sources; ++source)
        for (Index y = 0; y < filter.kernel.y; ++y) {
            const Index row = source * input.block_step + y * filter.dilation.y * input.row_step;
            if (planar_) {
                taps.push_back(row);
                continue;
            }
            for (Index x = 0; x < filter.kernel.x; ++x) taps.push_back(row + x * filter.dilation.x * lanes_);
        }
    return taps;
}

// The part's input, normalised, in scratch behind the panel; addressed as if all of it were there.
Tensor Direct::normalised(const Part& part, const Job& job) const {
    const Tensor& from = job.inputs[0];
    Tensor to = from;
    const Index blocks = blocks_of(from.channels, lanes_);
    to.row_step = from.width * lanes_;
    to.block_step = part.rows.size() * to.row_step;
    to.picture_step = blocks * to.block_step;
    to.data = job.scratch + panel_floats() - part.pictures.begin * to.picture_step - part.rows.begin * to.row_step;
    for (Index block = 0; block < blocks; ++block) {
        alignas(64) float scale[kMostLanes], bias[kMostLanes];
        spec_.before.at(job.parameters, job.state, block * lanes_, from.channels - block * lanes_, lanes_, scale, bias);
        ChannelAffine affine;
        affine.scale = scale, affine.offset = bias;
        affine.floor = spec_.before_finish.floor, affine.ceiling = spec_.before_finish.ceiling;
        const bool whole = from.dense(lanes_);
        affine.count = whole ? part.rows.size() * from.width : from.width;
        for (Index picture = part.pictures.begin; picture < part.pictures.end; ++picture)
            for (Index row = part.rows.begin; row < part.rows.end; row += whole ? part.rows.size() : 1) {
                affine.from = from.at(picture, block, row);
                affine.to = to.at(picture, block, row);
                kernels_.channel_affine(affine);
                spec_.before_finish.run(kernels_, affine.to, affine.count * lanes_);
            }
    }
    return to;
}

void Direct::run(int, const Part& part, const Job& job) const {
    const Tensor input = normalises_input() ? normalised(part, job) : job.inputs[0];
    const std::vector<Index> own = normalises_input() ? taps_of(most_sources(), input) : std::vector<Index>{};
    for (Index number = part.groups.begin; number < part.groups.end; ++number) {
        const BlockGroup& group = groups_[static_cast<std::size_t>(number)];
        alignas(64) float scale[kMostChannelBlocks * kMostLanes], bias[kMostChannelBlocks * kMostLanes];
        const Index first = group.first * lanes_, chunk = chunk_sources(group);
        spec_.folding.at(job.parameters, job.state, first, spec_.filter.output.channels - first, group.blocks * lanes_,
                         scale, bias);
        for (Index source = group.sources.begin; source < group.sources.end; source += chunk) {
            const Range sources{source, std::min(source + chunk, group.sources.end)};
            panels_.fill(kernels_, job.parameters, group, sources, scale, job.scratch);
            Ahead ahead;
            if (number + 1 < static_cast<Index>(groups_.size()) && !planar_)
                ahead = weights_of(spec_.filter, lanes_, groups_[static_cast<std::size_t>(number) + 1], job.parameters,
                                   (source - group.sources.begin) / chunk, (group.sources.size() + chunk - 1) / chunk);
            sweep({group, input, own.empty() ? taps_.data() : own.data(), sources, bias, ahead}, part, job);
        }
    }
}

void Direct::sweep(const Sweep& sweep, const Part& part, const Job& job) const {
    const Filter& filter = spec_.filter;
    const Index column = planar_ ? 1 : lanes_;  // floats
    ChannelRow row;
    row.taps = sweep.taps;
    row.tap_count = sweep.sources.size() * (planar_ ? filter.kernel.y : filter.area());
    row.inner = planar_ ? filter.kernel.x : panels_.inner();
    row.inner_step = planar_ ? filter.dilation.x : 1;
    row.position_step = filter.stride.x * column;
    row.weights = job.scratch;
    row.block_step = job.output.block_step;
    row.bias = sweep.bias;
    row.accumulate = !sweep.first();
    row.floor = sweep.last() ? spec_.finish.floor : Finish{}.floor;
    row.ceiling = sweep.last() ? spec_.finish.ceiling : Finish{}.ceiling;
    row.skip_block_step = job.skip.block_step;
    const Index step = flat_ ? part.rows.size() : 1, width = step * filter.output.width;
    const RowTiles tiles = row_tiles(kernels_, sweep.group.blocks, width);
    const Index calls = part.pictures.size() * part.rows.size() / step;
    Ahead ahead = sweep.ahead;
    for (Index picture = part.pictures.begin; picture < part.pictures.end; ++picture)
        for (Index y = part.rows.begin; y < part.rows.end; y += step) {
            const Index top = (spec_.pooled ? 2 * y : y) * filter.stride.y - filter.padding.y;
            row.input = sweep.input.at(picture, sweep.sources.begin, top) - filter.padding.x * column;
            ahead.share_out(row, tiles, calls);
            if (spec_.pooled) {
                sweep_pooled(sweep, row, tiles, picture, y, job);
                continue;
            }
            row.output = job.output.at(picture, sweep.group.first, y);
            row.skip = sweep.last() && job.skip.data ? job.skip.at(picture, sweep.group.first, y) : nullptr;
            run_tiles(kernels_, sweep.group.blocks, tiles, row);
            if (sweep.last())
                for (int block = 0; block < sweep.group.blocks; ++block)
                    spec_.finish.run(kernels_, row.output + block * row.block_step, width * lanes_);
        }
}

// Two rows of sums in scratch, then the row of their 2×2 windows.
void Direct::sweep_pooled(const Sweep& sweep, const ChannelRow& first_row, const RowTiles& tiles, Index picture,
                          Index pooled_row, const Job& job) const {
    const Index row_floats = spec_.filter.output.width * lanes_;
    float* const sums = job.scratch + panel_floats();
    ChannelRow row = first_row;
    row.block_step = 2 * row_floats;
    for (Index y = 0; y < 2; ++y) {
        row.output = sums + y * row_floats;
        run_tiles(kernels_, sweep.group.blocks, tiles, row);
        row.input += spec_.filter.stride.y * sweep.input.row_step;
    }
    ChannelPool pool;
    pool.kernel_height = pool.kernel_width = pool.stride_y = pool.stride_x = pool.height = 2;
    pool.width = spec_.filter.output.width;
    pool.row_step = row_floats;
    pool.columns = pool.width / 2;
    for (int block = 0; block < sweep.group.blocks; ++block) {
        pool.from = sums + block * row.block_step;
        pool.to = job.output.at(picture, sweep.group.first + block, pooled_row);
        kernels_.channel_pool_row(pool);
        spec_.finish.run(kernels_, pool.to, pool.columns * lanes_);  // only rising functions are pooled before
    }
}

double Direct::cycles(Index pictures) const {
    const Filter& filter = spec_.filter;
    double total = 0;
    for (const BlockGroup& group : groups_) {
        const double scalars = static_cast<double>(panels_.floats(group.sources.size()) / lanes_);
        total += scalars * (row_tiles(kernels_, group.blocks, filter.output.width).cycles *
                                static_cast<double>(pictures * filter.output.height) +
                            5.0 * group.blocks);
    }
    return total;
}

std::string Direct::describe() const {
    const Filter& filter = spec_.filter;
    const RowTiles tiles = row_tiles(kernels_, groups_[0].blocks, flat_ ? positions() : filter.output.width);
    return name + ": convolution " + std::to_string(filter.kernel.y) + "×" + std::to_string(filter.kernel.x) +
           ", channels-blocked, tiles of " + std::to_string(groups_[0].blocks * lanes_) + " channels × " +
           std::to_string(tiles.positions + (tiles.wide > 0 ? 1 : 0)) + " positions " + text(filter.output);
}

}  // namespace convscope::channels
