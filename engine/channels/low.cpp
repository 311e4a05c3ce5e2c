#include "channels/low.h"

#include <algorithm>

#include "channels/cache.h"

namespace convscope::channels {
namespace {

Index tiles_of(Index positions) { return (positions + 15) / 16; }

}  // namespace

Low::Low(const KernelTable& kernels, LowKernels low, ConvolutionSpec spec, Quantised quantised, int input, int op_output,
         bool planar)
    : Op(spec.name, {input}, op_output),
      kernels_(kernels),
      low_(std::move(low)),
      spec_(std::move(spec)),
      quantised_(quantised),
      planar_(planar),
      lanes_(kernels.lanes),
      border_(spec_.filter.border()),
      chunks_((spec_.filter.input.channels + chunk_channels(low_.precision) - 1) / chunk_channels(low_.precision)),
      groups_((spec_.filter.output.channels + kGroupOutputs - 1) / kGroupOutputs),
      narrow_(is_narrow(spec_, low_.precision)) {
    const Filter& filter = spec_.filter;
    const Index rows = filter.output.height, width = filter.output.width;
    flat_ = filter.stride.x == 1 && filter.stride.y == 1 &&
            tiles_of((rows - 1) * pitch() + width) <= rows * tiles_of(width);
    for (Index chunk = 0; chunk < chunks_; ++chunk)
        for (Index y = 0; y < filter.kernel.y; ++y)
            for (Index x = 0; x < (narrow_ ? 1 : filter.kernel.x); ++x)
                taps_.push_back((y * filter.dilation.y * pitch() + x * filter.dilation.x) * position_bytes() +
                                chunk * kChunkBytes);
}

Index Low::shared_floats(Index pictures) const {
    // A product reads 32 positions, however many there are.
    const Index step = vector() ? picture_bytes() : spec_.filter.stride.x * position_bytes();
    return (pictures * picture_bytes() + (kLowPositions + 1) * step + kChunkBytes) / 4 + 16;
}

Index Low::panel_floats() const { return spec_.filter.area() * chunk_channels(low_.precision) * kLowOutputs; }

// Rows of sums that are kept until they are pooled: in the second level, beside the weights.
Index Low::band_rows() const {
    const Index row = spec_.filter.output.width * kGroupOutputs * 4;
    return std::max<Index>(2, std::min<Index>(output_rows(), second_level_bytes() / 4 / row) / 2 * 2);
}

Index Low::scratch_floats(Index, int) const {
    const Index laid_out = spec_.before.empty() ? 0 : spec_.filter.input.width * lanes_ + 16;
    const Index band = spec_.pooled ? band_rows() * spec_.filter.output.width * kGroupOutputs : 0;
    return laid_out + panel_floats() + sum_floats() + tap_count() * kLowBlocks * kTapBytes / 4 + band + 64;
}

Split Low::split(int phase, Index pictures, int threads) const {
    Split split;
    split.pictures = pictures;
    if (phase == 0) {
        split.rows = padded_rows();
        const Index parts = threads == 1 ? 1 : 2 * threads;
        split.picture_parts = std::min(pictures, parts);
        split.row_parts = std::min(split.rows, (parts + split.picture_parts - 1) / split.picture_parts);
        return split;
    }
    // Groups first: their weights are then turned once. Where their number does not divide, pictures and rows too.
    split.groups = groups_;
    split.rows = spec_.pooled ? output_rows() / 2 : output_rows();
    if (threads == 1) return split;
    const Index most = vector() ? 1 : threads;
    double best = 0;
    for (Index groups = 1; groups <= std::min<Index>(groups_, 2 * threads); ++groups)
        for (Index picture_parts = 1; picture_parts <= std::min(pictures, most); ++picture_parts)
            for (Index rows = 1; rows <= std::min(split.rows, most); ++rows) {
                const Part part =
                    largest_part({pictures, groups_, split.rows, picture_parts, groups, rows});
                const Index rounds = (picture_parts * groups * rows + threads - 1) / threads;
                const double served = static_cast<double>(part.pictures.size() * part.rows.size() *
                                                          spec_.filter.output.width * (spec_.pooled ? 2 : 1));
                const double own = static_cast<double>(rounds * part.groups.size()) * (served + 64);
                if (best > 0 && own >= 0.98 * best) continue;
                best = own;
                split.group_parts = groups, split.picture_parts = picture_parts, split.row_parts = rows;
            }
    return split;
}

void Low::run(int phase, const Part& part, const Job& job) const {
    if (phase == 0) return convert(part, job);
    if (low_.begin) low_.begin();
    multiply(part, job);
    if (low_.end) low_.end();
}

void Low::convert(const Part& part, const Job& job) const {
    const Tensor& from = job.inputs[0];
    const int nothing = low_.precision == Precision::int8 ? static_cast<int>(quantised_.zero) : 0;
    const Index blocks = blocks_of(from.channels, lanes_);
    LowConvert a;
    a.positions = from.width;
    a.position_bytes = position_bytes();
    a.inverse = 1.0f / quantised_.scale, a.zero = quantised_.zero;
    for (Index picture = part.pictures.begin; picture < part.pictures.end; ++picture)
        for (Index row = part.rows.begin; row < part.rows.end; ++row) {
            std::uint8_t* const to = converted(job) + picture * picture_bytes() + row * row_bytes();
            const Index behind = row + 1 == padded_rows() ? picture_bytes() - padded_rows() * row_bytes() : 0;
            std::fill_n(to, row_bytes() + behind, static_cast<std::uint8_t>(nothing));
            const Index y = row - border_.y;
            if (y < 0 || y >= from.height) continue;
            a.to = to + border_.x * position_bytes();
            if (narrow_) {
                LowConvertFew few;
                few.channel_step = planar_ ? from.block_step : 1, few.position_step = planar_ ? 1 : lanes_;
                few.positions = from.width, few.position_bytes = position_bytes();
                few.inverse = a.inverse, few.zero = a.zero;
                const Index together = planar_ ? from.channels : lanes_;
                for (Index first = 0; first < from.channels; first += together) {
                    few.from = from.at(picture, first / together, y);
                    few.channels = std::min(together, from.channels - first);
                    few.to = a.to + first * bytes_of(low_.precision);
                    low_.convert_few(few);
                }
                continue;
            }
            if (spec_.before.empty()) {
                a.from = from.at(picture, 0, y);
                a.block_step = from.block_step, a.blocks = blocks;
                low_.convert(a);
                continue;
            }
            a.from = job.scratch, a.blocks = 1;
            for (Index block = 0; block < blocks; ++block) {
                alignas(64) float scale[16], bias[16];
                spec_.before.at(job.parameters, job.state, block * lanes_, from.channels - block * lanes_, lanes_, scale,
                                bias);
                ChannelAffine affine;
                affine.scale = scale, affine.offset = bias;
                affine.floor = spec_.before_finish.floor, affine.ceiling = spec_.before_finish.ceiling;
                affine.from = from.at(picture, block, y), affine.to = job.scratch, affine.count = from.width;
                kernels_.channel_affine(affine);
                spec_.before_finish.run(kernels_, affine.to, affine.count * lanes_);
                low_.convert(a);
                a.to += lanes_ * bytes_of(low_.precision);
            }
        }
}

void Low::multiply(const Part& part, const Job& job) const {
    Group group;
    for (Index number = part.groups.begin; number < part.groups.end; ++number) {
        prepare(number, job, group);
        fetch_next(number, part, job, group);
        if (vector()) {
            sweep({part.pictures.begin, part.pictures, nullptr}, group, job);
            continue;
        }
        for (Index picture = part.pictures.begin; picture < part.pictures.end; ++picture) {
            if (!spec_.pooled) {
                sweep({picture, part.rows, nullptr}, group, job);
                continue;
            }
            float* const band = job.scratch + panel_floats() + sum_floats() + tap_count() * kLowBlocks * kTapBytes / 4;
            for (Index row = 2 * part.rows.begin; row < 2 * part.rows.end; row += band_rows()) {
                const Area area{picture, {row, std::min(row + band_rows(), 2 * part.rows.end)}, band};
                sweep(area, group, job);
                pool(area, group, job);
            }
        }
    }
}

// This call's share of what is fetched.
void Low::fetch_with(LowTile& tile, Group& group) const {
    const Range own = share(group.ahead_end - group.ahead, group.call, group.calls);
    group.call = std::min(group.call + 1, group.calls - 1);
    tile.ahead = reinterpret_cast<const std::uint8_t*>(group.ahead + own.begin);
    tile.ahead_end = reinterpret_cast<const std::uint8_t*>(group.ahead + own.end);
    tile.ahead_lines = (own.size() * 4 / 64 + tile.tap_count) / tile.tap_count;
}

// Products of up to 32 positions at a time.
void Low::sweep(const Area& area, Group& group, const Job& job) const {
    const Filter& filter = spec_.filter;
    LowTile tile;
    tile.taps = taps_.data(), tile.tap_count = tap_count();
    tile.weights = group.weights, tile.blocks = group.blocks;
    tile.sums = job.scratch + panel_floats();
    const Index step_y = filter.stride.y * pitch() * position_bytes();
    const std::uint8_t* const origin = converted(job) + area.picture * picture_bytes() +
                                       (border_.y - filter.padding.y) * pitch() * position_bytes() +
                                       (border_.x - filter.padding.x) * position_bytes();
    const auto row_of_tiles = [&](const std::uint8_t* input, Index step, Index row, Index positions) {
        tile.position_step = step;
        for (Index first = 0; first < positions; first += kLowPositions) {
            tile.input = input + first * step;
            tile.positions = std::min(positions - first, kLowPositions);
            fetch_with(tile, group);
            low_.product(tile);
            finish({area.picture, {row, area.rows.end}, area.band ? area.band : nullptr}, group, first, tile.positions,
                   job);
        }
    };
    if (vector()) return row_of_tiles(origin, picture_bytes(), area.rows.begin, area.rows.size());
    if (flat_) {
        const Index positions = (area.rows.size() - 1) * pitch() + filter.output.width;
        return row_of_tiles(origin + area.rows.begin * step_y, position_bytes(), area.rows.begin, positions);
    }
    for (Index row = area.rows.begin; row < area.rows.end; ++row)
        row_of_tiles(origin + row * step_y, filter.stride.x * position_bytes(), row, filter.output.width);
}

// Positions `first` … of those from row area.rows.begin on, row for row, without what lies between the rows.
void Low::finish(const Area& area, const Group& group, Index first, Index count, const Job& job) const {
    const Index width = spec_.filter.output.width;
    const Index row_positions = vector() ? 1 : flat_ ? pitch() : width;
    const Index block_rows = area.band ? band_rows() : 0;
    const Index first_block = group.first / lanes_, parts = kLowOutputs / lanes_;
    LowFinish a;
    a.floor = spec_.finish.floor, a.ceiling = spec_.finish.ceiling;
    a.block_step = area.band ? block_rows * width * lanes_ : job.output.block_step;
    a.skip_block_step = job.skip.block_step;
    const auto* const sums = static_cast<const float*>(job.scratch + panel_floats());
    for (Index place = first; place < first + count;) {
        const Index row = area.rows.begin + place / row_positions, column = place % row_positions;
        const Index next = std::min(first + count, place - column + row_positions);
        const Index positions = std::min(next, place - column + width) - place;
        for (int block = 0; block < group.blocks && positions > 0; ++block) {
            a.lane_blocks = std::min(parts, group.lane_blocks - block * parts);
            a.sums = sums + (block * kLowPositions + place - first) * kLowOutputs;
            a.scale = group.scale + block * kLowOutputs, a.bias = group.bias + block * kLowOutputs;
            a.less = group.less + block * kLowOutputs;
            a.positions = positions;
            const Index picture = vector() ? row : area.picture, y = vector() ? 0 : row;
            const Index lane_block = first_block + block * parts;
            if (area.band) {
                const Index in_band = row % block_rows;
                a.to = area.band + ((block * parts) * block_rows + in_band) * width * lanes_ + column * lanes_;
            } else {
                a.to = job.output.at(picture, lane_block, y) + column * lanes_;
                a.skip = job.skip.data ? job.skip.at(picture, lane_block, y) + column * lanes_ : nullptr;
            }
            low_.finish(a);
            for (Index part = 0; !area.band && spec_.finish.after && part < a.lane_blocks; ++part)
                spec_.finish.run(kernels_, a.to + part * a.block_step, positions * lanes_);
        }
        place = next;
    }
}

void Low::pool(const Area& area, const Group& group, const Job& job) const {
    const Index width = spec_.filter.output.width, row_floats = width * lanes_;
    ChannelPool pool;
    pool.kernel_height = pool.kernel_width = pool.stride_y = pool.stride_x = pool.height = 2;
    pool.width = width;
    pool.row_step = row_floats;
    pool.columns = width / 2;
    for (Index block = 0; block < group.lane_blocks; ++block)
        for (Index row = area.rows.begin; row < area.rows.end; row += 2) {
            pool.from = area.band + (block * band_rows() + row % band_rows()) * row_floats;
            pool.to = job.output.at(area.picture, group.first / lanes_ + block, row / 2);
            kernels_.channel_pool_row(pool);
            spec_.finish.run(kernels_, pool.to, pool.columns * lanes_);  // only rising functions are pooled before
        }
}

double Low::cycles(Index pictures) const {
    const Filter& filter = spec_.filter;
    const double products = static_cast<double>(tap_count() * groups_) * 32;
    const double positions = static_cast<double>(pictures * filter.output.height * filter.output.width);
    return products * (positions / 32 + 16) + static_cast<double>(pictures * picture_bytes()) / 16;
}

std::string Low::describe() const {
    const Filter& filter = spec_.filter;
    return name + ": " + (vector() ? "linear" : "convolution " + std::to_string(filter.kernel.y) + "×" +
                                                    std::to_string(filter.kernel.x)) +
           " in " + name_of(low_.precision) + " by " + low_.way + " " + text(filter.output);
}

}  // namespace convscope::channels
