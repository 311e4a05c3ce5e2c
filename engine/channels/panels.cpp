#include "channels/panels.h"

#include <algorithm>
#include <numeric>

#include "channels/cache.h"

namespace convscope::channels {
namespace {

bool whole_blocks(const Filter& filter, Index lanes) {
    if (!filter.sources.empty()) return false;
    return filter.groups == 1 || (filter.input.channels / filter.groups % lanes == 0 &&
                                  filter.output.channels / filter.groups % lanes == 0);
}

// Input channels that output channel `to` reads: first and one behind the last.
Range sources_of(const Filter& filter, Index to) {
    if (!filter.sources.empty()) {
        const auto& row = filter.sources[static_cast<std::size_t>(to)];
        return row.empty() ? Range{0, 0} : Range{row.front(), row.back() + 1};
    }
    const Index in_group = filter.input.channels / filter.groups, out_group = filter.output.channels / filter.groups;
    const Index first = to / out_group * in_group;
    return {first, first + in_group};
}

}  // namespace

std::vector<BlockGroup> group_blocks(const KernelTable& kernels, const Filter& filter, Index positions) {
    const Index lanes = kernels.lanes, blocks = blocks_of(filter.output.channels, lanes);
    std::vector<BlockGroup> found;
    if (whole_blocks(filter, lanes)) {
        const Index own = blocks / filter.groups, read = blocks_of(filter.input.channels / filter.groups, lanes);
        const std::vector<int> sizes = block_groups(kernels, own, positions);
        for (Index group = 0; group < filter.groups; ++group) {
            Index first = group * own;
            for (const int size : sizes) {
                found.push_back({first, size, {group * read, (group + 1) * read}});
                first += size;
            }
        }
        return found;
    }
    // One conv group spans several blocks or a block several groups: fewest zeros with one block at a time, unless all
    // of them read everything.
    const bool everything = filter.groups == 1;
    const std::vector<int> sizes =
        everything ? block_groups(kernels, blocks, positions) : std::vector<int>(static_cast<std::size_t>(blocks), 1);
    Index first = 0;
    for (const int size : sizes) {
        Range read{filter.input.channels, 0};
        for (Index to = first * lanes; to < std::min((first + size) * lanes, filter.output.channels); ++to) {
            const Range own = sources_of(filter, to);
            if (own.size() == 0) continue;
            read.begin = std::min(read.begin, own.begin);
            read.end = std::max(read.end, own.end);
        }
        if (read.size() <= 0) read = {0, 1};
        found.push_back({first, size, {read.begin / lanes, blocks_of(read.end, lanes)}});
        first += size;
    }
    return found;
}

Ahead weights_of(const Filter& filter, Index lanes, const BlockGroup& group, const float* parameters, Index part,
                 Index parts) {
    const Index row = filter.input.channels * filter.area(), first = group.first * lanes;
    const Index rows = std::min(group.blocks * lanes, filter.output.channels - first);
    const Index bytes = rows * row * static_cast<Index>(sizeof(float));
    if (!filter.is_plain() || bytes > second_level_bytes() / 3) return {};
    const Range own = share(rows * row, part, parts);
    const float* const begin = parameters + filter.weight.offset + first * row;
    return {begin + own.begin, begin + own.end, 0};
}

bool Panels::in_whole_blocks() const { return whole_blocks(filter_, lanes_); }

void Panels::fill(const KernelTable& kernels, const float* parameters, const BlockGroup& group, Range sources,
                  const float* scale, float* panel) const {
    for (int block = 0; block < group.blocks; ++block) {
        const float* const own = scale + block * lanes_;
        float* const to = panel + block * lanes_;
        if (in_whole_blocks())
            fill_rows(kernels, parameters, group.first + block, sources, own, to, group.blocks * lanes_);
        else fill_connections(parameters, group.first + block, sources, own, to, group.blocks * lanes_);
    }
}

void Panels::fill_rows(const KernelTable& kernels, const float* parameters, Index block, Range sources,
                       const float* scale, float* to, Index to_step) const {
    const Index area = filter_.area();
    const Index own = filter_.input.channels / filter_.groups;  // channels of a row
    const Index group = block * lanes_ / (filter_.output.channels / filter_.groups);
    const Index unit = inner();
    const Index first = sources.begin * unit - group * own, last = std::min(sources.end * unit - group * own, own);
    WeightPanel panel;
    panel.row_step = own * area;
    panel.weights = parameters + filter_.weight.offset + block * lanes_ * panel.row_step + first * area;
    panel.rows = std::min(lanes_, filter_.output.channels - block * lanes_);
    panel.columns = (last - first) * area;
    panel.area = area;
    panel.inner = unit;
    panel.flip = filter_.flip;
    panel.scale = scale;
    panel.to = to;
    panel.to_step = to_step;
    // Of a last block that is not full, some places get nothing.
    if (last - first < sources.size() * unit)
        for (Index place = (last - first) / unit * unit * area; place < sources.size() * unit * area; ++place)
            std::fill_n(to + place * to_step, lanes_, 0.0f);
    kernels.weight_panel(panel);
}

void Panels::fill_connections(const float* parameters, Index block, Range sources, const float* scale, float* to,
                              Index to_step) const {
    const Index area = filter_.area();
    const Index unit = inner();
    for (Index place = 0; place < sources.size() * unit * area; ++place)
        std::fill_n(to + place * to_step, lanes_, 0.0f);
    const Index last = std::min((block + 1) * lanes_, filter_.output.channels);
    for (Index channel = block * lanes_; channel < last; ++channel) {
        const Range range = sources_of(filter_, channel);
        std::vector<Index> from(static_cast<std::size_t>(range.size()));
        std::iota(from.begin(), from.end(), range.begin);
        Index kernel = channel * range.size();
        if (!filter_.sources.empty()) {
            from = filter_.sources[static_cast<std::size_t>(channel)];
            kernel = 0;
            for (Index before = 0; before < channel; ++before)
                kernel += static_cast<Index>(filter_.sources[static_cast<std::size_t>(before)].size());
        }
        const Index lane = channel - block * lanes_;
        for (const Index source : from) {
            const float* const weights = parameters + filter_.weight.offset + kernel++ * area;
            const Index within = source - sources.begin * unit;
            if (within < 0 || within >= sources.size() * unit) continue;
            for (Index tap = 0; tap < area; ++tap) {
                const Index place = (within / unit * area + tap) * unit + within % unit;
                to[place * to_step + lane] = weights[filter_.flip ? area - 1 - tap : tap] * scale[lane];
            }
        }
    }
}

}  // namespace convscope::channels
