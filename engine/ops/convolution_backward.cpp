// Backward pass of the convolution: δ of the sums, gradients of kernels and biases, δ of the input.
#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "ops/convolution.h"

namespace convscope {

// Taps in the order of the weights, and whether Winograd's form saves more than it costs.
void Convolution::build_gradients() {
    std::vector<WeightCorrelation::Tap> taps;
    for (Index ky = 0; ky < kernel_.y; ++ky)
        for (Index kx = 0; kx < kernel_.x; ++kx) {
            const Index y = flip_ ? kernel_.y - 1 - ky : ky, x = flip_ ? kernel_.x - 1 - kx : kx;
            taps.push_back({y * dilation_.y - padding_.y, x * dilation_.x - padding_.x});
        }
    gradients_ = WeightCorrelation(kernels_, sources_, std::move(taps));
    const WinogradUse use = winograd_use();
    if (use == WinogradUse::never) return;
    const Correlation& forward = forward_.direct();
    WinogradGradient winograd(kernels_, forward.rows(), forward.columns(), sources_, input_.channels, flip_);
    if (!winograd.exists()) return;
    constexpr Index kMostFloats = 16 * 1024 * 1024;
    const double direct = gradients_.cycles() * static_cast<double>(conv_.height * conv_.width) +
                          gradients_.closing_cycles();
    if (use == WinogradUse::always || (winograd.scratch_floats() < kMostFloats && winograd.cycles() < 0.9 * direct))
        winograd_gradients_ = std::move(winograd);
}

Index Convolution::delta_map_step() const {
    return spread((conv_.height + 2 * delta_border_.y) * (conv_.width + 2 * delta_border_.x));
}

// δ of the sums with its border of zeros.
Maps Convolution::delta_scratch(const Block& block) const {
    const Index row = (conv_.width + 2 * delta_border_.x) * kBlock;
    float* data = block.common ? block.common + delta_border_.y * row + delta_border_.x * kBlock : nullptr;
    return {data, conv_.channels, conv_.height, conv_.width, row, delta_map_step()};
}

// First δ of the sums, each thread of a team of its own maps, then what they are for.
void Convolution::backward(const Block& block) const {
    if (block.phase == 1) return pass_back(block);
    if (activation_.kind != Activation::identity)
        for_own_rows(block, block.output, [&](Index map, Index row) {
            float* delta = row_of(block.delta, map, row);
            block.kernels->differentiate(activation_, nullptr, row_of(block.output, map, row), delta, delta,
                                         output_shape.width, false);
        });
    if (block.gradients && bias_.present()) bias_gradients(block, block.delta);
    if (!block.input_deltas[0].data || !copies_delta()) return;
    const Maps delta = delta_scratch(block), own = own_maps(block, delta);
    clear_border(own, delta_border_);
    if (!pooled())
        return for_own_rows(block, delta, [&](Index map, Index row) {
            std::memcpy(row_of(delta, map, row), row_of(block.delta, map, row),
                        static_cast<std::size_t>(conv_.width * kBlock) * sizeof(float));
        });
    Unpool unpool = unpooling(block);
    const Index first = block.team.of(conv_.channels).begin;
    unpool.delta.data += first * unpool.delta.map_step;
    unpool.winner += first * unpool.winner_map_step;
    unpool.rows = conv_.height;
    unpool.result = own;
    block.kernels->unpool(unpool);
}

Unpool Convolution::unpooling(const Block& block) const {
    Unpool unpool;
    unpool.delta = block.delta;
    unpool.winner = reinterpret_cast<const std::uint8_t*>(block.saved);
    unpool.winner_map_step = output_shape.height * output_shape.width * kBlock;
    unpool.kernel_height = pool_.y;
    unpool.kernel_width = pool_.x;
    return unpool;
}

void Convolution::pass_back(const Block& block) const {
    if (block.input_deltas[0].data) {
        const Maps delta = copies_delta() ? delta_scratch(block) : block.delta;
        if (block.gradients) weight_gradients(block, delta, 0, conv_.height, block.accumulate_gradient);
        input_delta(block, delta);
    } else if (block.gradients && !pooled()) {
        weight_gradients(block, block.delta, 0, conv_.height, block.accumulate_gradient);
    } else if (block.gradients) {
        const Index band = band_rows();
        Unpool unpool = unpooling(block);
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
    Maps band = delta;
    band.height = rows;
    float* const gradient = block.gradients + weight_.offset;
    float* const more = block.scratch + own_scratch_floats(true, block.input_deltas[0].data != nullptr);
    if (by_square_.gradient && rows == conv_.height)
        return square_.gradient(*block.kernels, block.inputs[0], band, gradient, accumulate, more, block.team);
    if (by_product_.gradient) {
        Maps input = block.inputs[0];
        input.data += first_row * input.row_step;
        return product_.gradient(*block.kernels, input, band, gradient, accumulate, more, block.team);
    }
    if (gradients_by_winograd()) {  // one thread's: its sums at the points are of all maps
        if (block.team.part > 0) return;
        return winograd_gradients_.run(*block.kernels, block.inputs[0], band, first_row, gradient, accumulate, more);
    }
    WeightCorrelation::Call call;
    call.kernels = block.kernels;
    call.input = block.inputs[0];
    call.input.data += first_row * stride_.y * call.input.row_step;
    call.input_rows = stride_.y;
    call.input_columns = stride_.x;
    call.delta = band;
    call.gradient = gradient;
    call.accumulate = accumulate;
    gradients_.run(call, block.team);
}

void Convolution::bias_gradients(const Block& block, const Maps& delta) const {
    const Team::Own own = block.team.of(delta.count);
    for (Index map = own.begin; map < own.end; ++map) {
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
    call.packed = block.packed + forward_packed_floats();
    call.floor = -std::numeric_limits<float>::infinity();
    call.accumulate = block.accumulate_input_delta[0];
    float* const more = block.scratch + own_scratch_floats(true, true);
    if (!packs_delta()) call.packed = block.parameters + weight_.offset;
    if (by_square_.delta) return square_.input_delta(call, more, block.team);
    if (by_product_.delta) return product_.input_delta(call, block.team);
    for (const CorrelationPass& each : input_deltas_) {
        each.run(call, more, block.team);
        call.packed += each.packed_floats();
    }
}

}  // namespace convscope
