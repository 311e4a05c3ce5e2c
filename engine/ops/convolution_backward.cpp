// Backward pass of the convolution: δ of the sums, gradients of kernels and biases, δ of the input.
#include <algorithm>
#include <cstring>
#include <limits>

#include "ops/convolution.h"

namespace convscope {
// Cheapest way to cut `taps` into the kernels' T, by the model: a fused multiply-add or a load a cycle.
std::vector<int> Convolution::tap_groups(int maps, std::size_t taps, double* cycles) const {
    std::vector<double> best(taps + 1, std::numeric_limits<double>::infinity());
    std::vector<int> choice(taps + 1, 0);
    best[0] = 0;
    for (std::size_t at = 0; at < taps; ++at)
        for (int group = 1; group <= kMostTaps && at + static_cast<std::size_t>(group) <= taps; ++group) {
            if (!kernels_.weight_gradient[maps][group]) continue;
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

// Output maps with the same input maps may share registers; which ones do is the cheapest partition.
void Convolution::build_gradient_blocks() {
    const auto count = static_cast<std::size_t>(conv_.channels);
    const auto area = static_cast<std::size_t>(kernel_.y * kernel_.x);
    std::vector<double> best(count + 1, std::numeric_limits<double>::infinity());
    std::vector<int> choice(count + 1, 0);
    best[0] = 0;
    std::map<std::pair<int, std::size_t>, double> known;
    for (std::size_t first = 0; first < count; ++first)
        for (int maps = 1; maps <= kMostMaps && first + static_cast<std::size_t>(maps) <= count; ++maps) {
            const std::size_t end = first + static_cast<std::size_t>(maps);
            if (sources_[end - 1] != sources_[first]) break;
            if (!kernels_.weight_gradient[maps][1]) continue;
            const std::size_t taps = sources_[first].size() * area;
            auto [place, added] = known.try_emplace({maps, taps}, 0.0);
            if (added) static_cast<void>(tap_groups(maps, taps, &place->second));
            if (best[first] + place->second < best[end]) {
                best[end] = best[first] + place->second;
                choice[end] = maps;
            }
        }
    for (std::size_t end = count; end > 0;) {
        GradientBlock block;
        block.maps = choice[end];
        end -= static_cast<std::size_t>(block.maps);
        block.first = static_cast<Index>(end);
        block.weight = first_kernel_[end] * kernel_.y * kernel_.x;
        block.weight_step = static_cast<Index>(sources_[end].size() * area);
        block.groups = tap_groups(block.maps, sources_[end].size() * area, nullptr);
        gradient_blocks_.insert(gradient_blocks_.begin(), std::move(block));
    }
}

// One position more where maps would lie a multiple of 4 KiB apart, in the same sets of the caches.
Index Convolution::delta_map_step() const {
    const Index positions = (conv_.height + 2 * delta_border_.y) * (conv_.width + 2 * delta_border_.x);
    return (positions + (positions % 64 == 0 ? 1 : 0)) * kBlock;
}

// δ of the sums with its border of zeros.
Maps Convolution::delta_scratch(const Block& block) const {
    const Index row = (conv_.width + 2 * delta_border_.x) * kBlock;
    float* data = block.scratch ? block.scratch + delta_border_.y * row + delta_border_.x * kBlock : nullptr;
    return {data, conv_.channels, conv_.height, conv_.width, row, delta_map_step()};
}

void Convolution::backward(const Block& block) const {
    const bool wants_input_delta = block.input_deltas[0].data != nullptr;
    if (activation_.kind != Activation::identity)
        for_rows(block.output, [&](Index map, Index row) {
            float* delta = row_of(block.delta, map, row);
            block.kernels->differentiate(activation_, nullptr, row_of(block.output, map, row), delta, delta,
                                         output_shape.width, false);
        });
    if (block.gradients && bias_.present()) bias_gradients(block, block.delta);

    Unpool unpool;
    unpool.delta = block.delta;
    unpool.winner = reinterpret_cast<const std::uint8_t*>(block.saved);
    unpool.winner_map_step = output_shape.height * output_shape.width * kBlock;
    unpool.kernel_height = pool_.y;
    unpool.kernel_width = pool_.x;
    if (wants_input_delta) {
        const Maps delta = copies_delta() ? delta_scratch(block) : block.delta;
        clear_border(delta, delta_border_);
        if (pooled()) {
            unpool.rows = conv_.height;
            unpool.result = delta;
            block.kernels->unpool(unpool);
        } else if (copies_delta()) {
            for_rows(delta, [&](Index map, Index row) {
                std::memcpy(row_of(delta, map, row), row_of(block.delta, map, row),
                            static_cast<std::size_t>(conv_.width * kBlock) * sizeof(float));
            });
        }
        if (block.gradients) weight_gradients(block, delta, 0, conv_.height, block.accumulate_gradient);
        input_delta(block, delta);
    } else if (block.gradients && !pooled()) {
        weight_gradients(block, block.delta, 0, conv_.height, block.accumulate_gradient);
    } else if (block.gradients) {
        const Index band = band_rows();
        for (Index first = 0; first < conv_.height; first += band) {
            unpool.first_row = first;
            unpool.rows = std::min(band, conv_.height - first);
            unpool.result = {block.scratch, conv_.channels,       conv_.height,
                             conv_.width,   conv_.width * kBlock, band * conv_.width * kBlock};
            block.kernels->unpool(unpool);
            weight_gradients(block, unpool.result, first, unpool.rows, block.accumulate_gradient || first > 0);
        }
    }
}

// `delta` holds rows first_row … first_row + rows − 1.
void Convolution::weight_gradients(const Block& block, const Maps& delta, Index first_row, Index rows,
                                   bool accumulate) const {
    const Maps& input = block.inputs[0];
    WeightGradient a;
    a.delta_map_step = delta.map_step;
    a.delta_row_step = delta.row_step;
    a.input_row_step = stride_.y * input.row_step;
    a.position_step = stride_.x * kBlock;
    a.columns = conv_.width;
    const GradientTiling tiling = gradient_tiling(input, rows);
    for (Index first = 0; first < rows; first += tiling.rows) {
        a.rows = std::min(tiling.rows, rows - first);
        a.accumulate = accumulate || first > 0;
        a.input = input.data + (first_row + first) * stride_.y * input.row_step;
        const Maps band = {row_of(delta, 0, first), delta.count, a.rows, delta.width, delta.row_step, delta.map_step};
        for (Index tap = 0; tap < longest_taps(); tap += tiling.taps)
            for (const GradientBlock& part : gradient_blocks_)
                gradient_tiles(block, part, band, tap, tap + tiling.taps, a);
    }
}

// The groups of one block of output maps that begin at taps from … to−1.
void Convolution::gradient_tiles(const Block& block, const GradientBlock& part, const Maps& delta, Index from, Index to,
                                 WeightGradient& a) const {
    a.delta = row_of(delta, part.first, 0);
    a.gradient_step = part.weight_step;
    float* const gradient = block.gradients + weight_.offset + part.weight;
    Index tap = 0;
    for (const int group : part.groups) {
        if (tap >= from && tap < to) {
            a.taps = part.offsets.data() + tap;
            a.gradient = gradient + tap;
            block.kernels->weight_gradient[part.maps][group](a);
        }
        tap += group;
    }
}

// Every tile of the gradient walks over all positions, so the maps of large layers would come from memory again for
// each: a band of rows and a chunk of input maps stay in the second-level cache for all output maps. A band has at
// least 128 positions, because adding up the lanes at its end takes some 120 cycles.
Convolution::GradientTiling Convolution::gradient_tiling(const Maps& input, Index rows) const {
    constexpr Index kChunkBytes = 384 * 1024, kLeastPositions = 400;
    const Index row_bytes = stride_.y * input.row_step * 4;
    const Index area = kernel_.y * kernel_.x;
    const Index maps = (longest_taps() + area - 1) / area;
    const Index least = std::min(rows, (kLeastPositions + conv_.width - 1) / conv_.width);
    const Index at_once = std::clamp(kChunkBytes / (row_bytes * maps), least, rows);
    const Index bands = (rows + at_once - 1) / at_once;
    const Index chunk = std::max<Index>(9, kChunkBytes / (row_bytes * ((rows + bands - 1) / bands)));
    return {(rows + bands - 1) / bands, chunk * area};
}

Index Convolution::longest_taps() const {
    std::size_t taps = 0;
    for (const GradientBlock& part : gradient_blocks_) taps = std::max(taps, part.offsets.size());
    return static_cast<Index>(taps);
}

void Convolution::bias_gradients(const Block& block, const Maps& delta) const {
    for (Index map = 0; map < delta.count; ++map) {
        double total = 0;
        for (Index row = 0; row < delta.height; ++row) {
            Moments sums;
            sums.x = row_of(delta, map, row);
            sums.count = delta.width;
            sums.images_present = kBlock;
            block.kernels->moments(sums);
            total += sums.sum;
        }
        float& to = block.gradients[bias_.offset + map];
        to = static_cast<float>(total) + (block.accumulate_gradient ? to : 0.0f);
    }
}

void Convolution::input_delta(const Block& block, const Maps& delta) const {
    CorrelationCall call;
    call.kernels = block.kernels;
    call.source = delta;
    call.destination = block.input_deltas[0];
    call.packed = block.packed + forward_.packed_floats();
    call.floor = -std::numeric_limits<float>::infinity();
    call.accumulate = block.accumulate_input_delta[0];
    for (const Correlation& each : input_deltas_) {
        each.run(call);
        call.packed += each.packed_floats();
    }
}

}  // namespace convscope
