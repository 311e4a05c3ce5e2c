#include "channels/winograd.h"

#include <algorithm>

#include "channels/cache.h"

namespace convscope::channels {

bool Winograd::fits(const Filter& filter) {
    return filter.is_plain() && filter.kernel.y == 3 && filter.kernel.x == 3 && filter.stride.y == 1 &&
           filter.stride.x == 1 && filter.dilation.y == 1 && filter.dilation.x == 1;
}

Winograd::Winograd(const KernelTable& kernels, ConvolutionSpec spec, int m, int input, int output)
    : Op(spec.name, {input}, output),
      kernels_(kernels),
      spec_(std::move(spec)),
      m_(m),
      lanes_(kernels.lanes),
      groups_(group_blocks(kernels, spec_.filter, tile_rows() * tile_columns())) {
    int most = 1;
    for (const BlockGroup& group : groups_) {
        most = std::max(most, group.blocks);
        for (int block = 0; block < group.blocks; ++block) single_.push_back({group.first + block, 1, group.sources});
    }
    const Index one = points() * lanes_ * most * lanes_ * static_cast<Index>(sizeof(float));
    chunk_sources_ = std::clamp<Index>(second_level_bytes() / 6 / one, 1, groups_[0].sources.size());
}

// Points of all channels stay within half of a second level, where 28 tiles or more have room there.
Index Winograd::chunk_rows(Index pictures) const {
    const Index row = points() * rounded_up(spec_.filter.input.channels, lanes_) * tile_columns() *
                      static_cast<Index>(sizeof(float));
    const Index least = (28 + tile_columns() - 1) / tile_columns();
    return std::clamp<Index>(std::max(least, second_level_bytes() / 2 / row), 1, pictures * tile_rows());
}

Index Winograd::chunks(Index pictures) const {
    const Index rows = chunk_rows(pictures), all = pictures * tile_rows();
    return (all + rows - 1) / rows;
}

Range Winograd::rows_of(int phase, Index pictures) const {
    return share(pictures * tile_rows(), phase / 2, chunks(pictures));
}

// A block by itself takes a tenth longer than as one of several, which share what is read of the input.
const std::vector<BlockGroup>& Winograd::groups_for(int threads) const {
    const auto rounds = [&](const std::vector<BlockGroup>& groups) {
        return (static_cast<Index>(groups.size()) + threads - 1) / threads;
    };
    const int most = std::max_element(groups_.begin(), groups_.end(), [](const BlockGroup& a, const BlockGroup& b) {
                         return a.blocks < b.blocks;
                     })->blocks;
    return threads > 1 && 11 * rounds(single_) < 10 * most * rounds(groups_) ? single_ : groups_;
}

Split Winograd::split(int phase, Index pictures, int threads) const {
    Split split;
    const Index wanted = threads == 1 ? 1 : 2 * threads;
    if (phase % 2 == 0) {
        split.groups = blocks_of(spec_.filter.input.channels, lanes_);
        split.rows = rows_of(phase, pictures).size();
        split.group_parts = std::min(split.groups, wanted);
        split.row_parts = std::clamp<Index>(wanted / split.group_parts, 1, split.rows);
    } else {
        split.groups = static_cast<Index>(groups_for(threads).size());
        split.rows = rows_of(phase, pictures).size();
        split.group_parts = threads == 1 ? 1 : split.groups;
        // A band of rows turns the kernels once more, which asks for some tiles that they are used for.
        split.row_parts = std::clamp<Index>(threads / split.group_parts, 1,
                                            std::max<Index>(1, split.rows * tile_columns() / 28));
    }
    return split;
}

Index Winograd::shared_floats(Index pictures) const {
    const Index rows = (pictures * tile_rows() + chunks(pictures) - 1) / chunks(pictures);
    return rows * tile_columns() * points() * rounded_up(spec_.filter.input.channels, lanes_);
}

Index Winograd::scratch_floats(Index pictures, int) const {
    const Index rows = (pictures * tile_rows() + chunks(pictures) - 1) / chunks(pictures);
    const Index kernels = points() * chunk_sources_ * lanes_ * kMostChannelBlocks * lanes_;
    return 9 * lanes_ * lanes_ + kernels + points() * kMostChannelBlocks * rows * tile_columns() * lanes_;
}

void Winograd::run(int phase, const Part& part, const Job& job) const {
    const Range rows = rows_of(phase, job.pictures);
    if (phase % 2 == 0) {
        for (Index block = part.groups.begin; block < part.groups.end; ++block) to_points(rows, block, job, part.rows);
        return;
    }
    const std::vector<BlockGroup>& groups = groups_for(job.threads);
    for (Index number = part.groups.begin; number < part.groups.end; ++number) {
        const BlockGroup* const group = &groups[static_cast<std::size_t>(number)];
        multiply(rows, part.rows, *group, number + 1 < static_cast<Index>(groups.size()) ? group + 1 : nullptr, job);
    }
}

// shared: [input block][point][tile][lanes]
void Winograd::to_points(const Range& rows, Index block, const Job& job, const Range& own) const {
    const Tensor& input = job.inputs[0];
    ChannelTiles a;
    a.row_step = input.row_step;
    a.height = input.height, a.width = input.width;
    a.left = -spec_.filter.padding.x;
    a.tiles = tile_columns();
    a.plane_step = rows.size() * tile_columns() * lanes_;
    for (Index row = own.begin; row < own.end; ++row) {
        const Index all = rows.begin + row;
        a.from = input.at(all / tile_rows(), block, 0);
        a.top = all % tile_rows() * m_ - spec_.filter.padding.y;
        a.planes = job.shared + block * points() * a.plane_step + row * tile_columns() * lanes_;
        kernels_.channel_tiles[m_](a);
    }
}

// [point][source][block][lanes] of some sources, by way of [tap] panels of one source.
void Winograd::take_kernels(const BlockGroup& group, const Range& sources, const float* scale, const Job& job,
                            float* taps, float* kernels) const {
    const Filter& filter = spec_.filter;
    WeightPanel panel;
    panel.row_step = filter.input.channels * 9;
    panel.flip = filter.flip;
    panel.area = 9;
    panel.to = taps;
    panel.to_step = lanes_;
    ChannelTaps a;
    a.taps = taps;
    a.step = group.blocks * lanes_;
    a.point_step = sources.size() * lanes_ * a.step;
    for (Index source = sources.begin; source < sources.end; ++source)
        for (int block = 0; block < group.blocks; ++block) {
            const Index first = (group.first + block) * lanes_;
            panel.weights = job.parameters + filter.weight.offset + first * panel.row_step + source * lanes_ * 9;
            panel.rows = std::min(lanes_, filter.output.channels - first);
            a.channels = std::min(lanes_, filter.input.channels - source * lanes_);
            panel.columns = a.channels * 9;
            panel.scale = scale + block * lanes_;
            kernels_.weight_panel(panel);
            a.to = kernels + (source - sources.begin) * lanes_ * a.step + block * lanes_;
            kernels_.channel_taps[m_](a);
            for (Index channel = a.channels; channel < lanes_; ++channel)
                for (Index point = 0; point < points(); ++point)
                    std::fill_n(a.to + channel * a.step + point * a.point_step, lanes_, 0.0f);
        }
}

void Winograd::multiply(const Range& rows, const Range& own, const BlockGroup& group, const BlockGroup* next,
                        const Job& job) const {
    alignas(64) float scale[kMostChannelBlocks * 16], bias[kMostChannelBlocks * 16];
    spec_.folding.at(job.parameters, job.state, group.first * lanes_,
                     spec_.filter.output.channels - group.first * lanes_, group.blocks * lanes_, scale, bias);
    const Index tiles = own.size() * tile_columns(), plane = tiles * lanes_;
    const Index input_plane = rows.size() * tile_columns() * lanes_;
    float* const taps = job.scratch;
    float* const kernels = taps + 9 * lanes_ * lanes_;
    float* const products = kernels + points() * chunk_sources_ * lanes_ * kMostChannelBlocks * lanes_;
    const RowTiles row_of_tiles = row_tiles(kernels_, group.blocks, tiles);
    std::vector<Index> offsets;
    for (Index source = 0; source < chunk_sources_; ++source) offsets.push_back(source * points() * input_plane);
    ChannelRow row;
    row.taps = offsets.data();
    row.inner = row.position_step = lanes_;
    row.block_step = plane;
    row.floor = Finish{}.floor, row.ceiling = Finish{}.ceiling;
    const Index chunks = (group.sources.size() + chunk_sources_ - 1) / chunk_sources_;
    for (Index source = group.sources.begin; source < group.sources.end; source += chunk_sources_) {
        const Range sources{source, std::min(source + chunk_sources_, group.sources.end)};
        take_kernels(group, sources, scale, job, taps, kernels);
        row.tap_count = sources.size();
        row.accumulate = source > group.sources.begin;
        Ahead ahead;
        if (next)
            ahead = weights_of(spec_.filter, lanes_, *next, job.parameters,
                               (source - group.sources.begin) / chunk_sources_, chunks);
        for (Index point = 0; point < points(); ++point) {
            row.input = job.shared + (source * points() + point) * input_plane + own.begin * tile_columns() * lanes_;
            row.weights = kernels + point * sources.size() * lanes_ * group.blocks * lanes_;
            row.output = products + point * group.blocks * plane;
            ahead.share_out(row, row_of_tiles, points());
            run_tiles(kernels_, group.blocks, row_of_tiles, row);
        }
    }
    to_sums({rows.begin + own.begin, rows.begin + own.end}, group, bias, products, job);
}

void Winograd::to_sums(const Range& rows, const BlockGroup& group, const float* bias, const float* products,
                       const Job& job) const {
    const Index tiles = rows.size() * tile_columns(), plane = tiles * lanes_;
    const Shape& output = spec_.filter.output;
    ChannelSums a;
    a.plane_step = group.blocks * plane;
    a.tiles = tile_columns();
    a.floor = spec_.finish.floor, a.ceiling = spec_.finish.ceiling;
    a.row_step = job.output.row_step;
    a.columns = output.width;
    a.pooled = spec_.pooled;
    a.skip_row_step = job.skip.row_step;
    const Index shrink = spec_.pooled ? 2 : 1;
    for (Index row = 0; row < rows.size(); ++row)
        for (int block = 0; block < group.blocks; ++block) {
            const Index all = rows.begin + row, picture = all / tile_rows(), top = all % tile_rows() * m_;
            a.planes = products + block * plane + row * tile_columns() * lanes_;
            a.bias = bias + block * lanes_;
            a.to = job.output.at(picture, group.first + block, top / shrink);
            a.skip = job.skip.data ? job.skip.at(picture, group.first + block, top) : nullptr;
            a.rows = std::min<Index>(m_, output.height - top);
            kernels_.channel_sums[m_](a);
            if (!spec_.finish.after) continue;
            // Only rising functions are pooled before.
            for (Index y = 0; y < a.rows / shrink; ++y)
                spec_.finish.run(kernels_, a.to + y * a.row_step, output.width / shrink * lanes_);
        }
}

double Winograd::cycles(Index pictures) const {
    const Filter& filter = spec_.filter;
    const Index lanes = lanes_, m = m_;
    const auto in = static_cast<double>(blocks_of(filter.input.channels, lanes));
    const auto out = static_cast<double>(blocks_of(filter.output.channels, lanes));
    const auto points = static_cast<double>((m + 2) * (m + 2));
    const double tiles = static_cast<double>(pictures * ((filter.output.height + m - 1) / m) *
                                             ((filter.output.width + m - 1) / m));
    // A multiply-add of a register takes 0.55 cycles with its loads, and as long again where there are few tiles.
    const double products = 0.55 * points * (tiles + 2) * in * static_cast<double>(lanes) * out;
    const double forms = points * (3.5 * in + 2.5 * out) * tiles;
    const double taps = (2.5 * points + 45) * in * static_cast<double>(lanes) * out;
    return products + forms + taps;
}

std::string Winograd::describe() const {
    return name + ": convolution 3×3, channels-blocked, Winograd F(" + std::to_string(m_) + "×" + std::to_string(m_) +
           ", 3×3), tiles of " + std::to_string(groups_[0].blocks * lanes_) + " channels " +
           text(spec_.filter.output);
}

}  // namespace convscope::channels
