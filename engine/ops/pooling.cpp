#include <algorithm>

#include "ops/layers.h"

namespace convscope {
namespace {

Index pooled_size(const Record& record, Index input, Index kernel, Index stride, Index padding, bool ceil_mode) {
    if (2 * padding > kernel)
        refuse(record,
               "padding " + std::to_string(padding) + " is more than half of the window " + std::to_string(kernel));
    const Index room = input + 2 * padding - kernel;
    if (room < 0)
        refuse(record, "the window " + std::to_string(kernel) + " is larger than the padded input " +
                           std::to_string(input + 2 * padding));
    Index size = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
    if (ceil_mode && (size - 1) * stride >= input + padding)
        --size;  // a window must begin inside the picture or its left padding
    return size;
}

class Pooling final : public Op {
public:
    Pooling(const Record& record, const Shape& input, PoolKind which, const PoolWindow& window)
        : Op(record, {input}, window.output), kind_(which), window_(window) {}

    bool reads_input_in_backward() const override { return kind_ == PoolKind::l2; }
    bool reads_output_in_backward() const override { return kind_ == PoolKind::l2; }
    bool shares() const override { return true; }
    Index saved_bytes() const override { return kind_ == PoolKind::max ? output_shape.positions() * kBlock : 0; }

    void forward(const Block& block) const override { block.kernels->pool_forward(arguments(block)); }

    void backward(const Block& block) const override {
        Pool a = arguments(block);
        a.delta = own_maps(block, block.delta);
        a.input_delta = own_maps(block, block.input_deltas[0]);
        if (!block.accumulate_input_delta[0]) clear_maps(a.input_delta);
        block.kernels->pool_backward(a);
    }

private:
    Pool arguments(const Block& block) const {
        Pool a;
        a.kind = kind_;
        a.kernel_height = window_.kernel.y;
        a.kernel_width = window_.kernel.x;
        a.stride_y = window_.stride.y;
        a.stride_x = window_.stride.x;
        a.pad_y = window_.padding.y;
        a.pad_x = window_.padding.x;
        a.input = own_maps(block, block.inputs[0]);
        a.input.height = input_shapes[0].height;
        a.output = own_maps(block, block.output);
        if (kind_ == PoolKind::max) {
            a.winner_map_step = output_shape.height * output_shape.width * kBlock;
            a.winner = reinterpret_cast<std::uint8_t*>(block.saved) +
                       block.team.of(output_shape.channels).begin * a.winner_map_step;
        }
        return a;
    }
    PoolKind kind_;
    PoolWindow window_;
};

// u = β Σ x + b of each window, β and b one a map (Bouvrie 2006, section 3.2).
class Subsampling final : public Op {
public:
    Subsampling(const Record& record, const Shape& input, const PoolWindow& window)
        : Op(record, {input}, window.output),
          window_(window),
          weight_(required_place(record, record.parameters, "weight", input.channels)),
          bias_(required_place(record, record.parameters, "bias", input.channels)) {
        check_names(record, record.parameters, {"weight", "bias"});
    }

    std::vector<Place> parameter_places() const override { return {weight_, bias_}; }
    Index saved_bytes() const override { return output_shape.positions() * kBlock * 4; }
    Index scratch_floats(bool backward, bool) const override {
        return backward ? output_shape.positions() * kBlock : 0;
    }

    void forward(const Block& block) const override {
        Pool a = arguments(block);
        a.output = sums(block);
        block.kernels->pool_forward(a);
        for_rows(a.output, [&](Index map, Index row) {
            block.kernels->affine(block.parameters[weight_.offset + map], 0.0f, block.parameters[bias_.offset + map],
                                  row_of(a.output, map, row), row_of(block.output, map, row), a.output.width);
        });
    }

    void backward(const Block& block) const override {
        const Maps down = sums(block);
        Pool a = arguments(block);
        a.output = down;
        a.input_delta = block.input_deltas[0];
        a.delta = dense_maps(output_shape, block.scratch);
        for (Index map = 0; map < down.count; ++map) {
            double to_weight = 0, to_bias = 0;
            for (Index row = 0; row < down.height; ++row) {
                Moments sums_of_row;
                sums_of_row.x = row_of(down, map, row);
                sums_of_row.y = row_of(block.delta, map, row);
                sums_of_row.count = down.width;
                sums_of_row.images_present = kBlock;
                block.kernels->moments(sums_of_row);
                to_bias += sums_of_row.sum;
                to_weight += sums_of_row.product;
                block.kernels->affine(block.parameters[weight_.offset + map], 0.0f, 0.0f, sums_of_row.y,
                                      row_of(a.delta, map, row), down.width);
            }
            if (!block.gradients) continue;
            float& weight = block.gradients[weight_.offset + map];
            float& bias = block.gradients[bias_.offset + map];
            weight = static_cast<float>(to_weight) + (block.accumulate_gradient ? weight : 0.0f);
            bias = static_cast<float>(to_bias) + (block.accumulate_gradient ? bias : 0.0f);
        }
        if (!a.input_delta.data) return;
        if (!block.accumulate_input_delta[0]) clear_maps(a.input_delta);
        block.kernels->pool_backward(a);
    }

private:
    Maps sums(const Block& block) const { return dense_maps(output_shape, reinterpret_cast<float*>(block.saved)); }
    Pool arguments(const Block& block) const {
        Pool a;
        a.kind = PoolKind::sum;
        a.kernel_height = window_.kernel.y;
        a.kernel_width = window_.kernel.x;
        a.stride_y = window_.stride.y;
        a.stride_x = window_.stride.x;
        a.input = block.inputs[0];
        return a;
    }
    PoolWindow window_;
    Place weight_, bias_;
};

}  // namespace

PoolWindow read_window(Attributes& read, const Record& record, const Shape& input) {
    PoolWindow window;
    window.kernel = read.size("kernel_size", 1);
    window.stride = read.size("stride", 1, window.kernel);
    window.padding = read.size("padding", 0, {0, 0});
    const bool ceil_mode = read.whole("ceil_mode", 0, 0) != 0;
    window.output = {input.channels,
                     pooled_size(record, input.height, window.kernel.y, window.stride.y, window.padding.y, ceil_mode),
                     pooled_size(record, input.width, window.kernel.x, window.stride.x, window.padding.x, ceil_mode)};
    return window;
}

OpPointer make_pool(const Record& record, const Shape& input) {
    Attributes read(record);
    const PoolWindow window = read_window(read, record, input);
    PoolKind kind = PoolKind::max;
    if (record.kind == "sum_pool") kind = PoolKind::sum;
    if (record.kind == "l2_pool") kind = PoolKind::l2;
    if (record.kind == "mean_pool")
        kind = read.whole("count_include_pad", 0, 1) != 0 ? PoolKind::mean : PoolKind::mean_without_padding;
    read.finish();
    if (kind == PoolKind::max && window.kernel.y * window.kernel.x > 256)
        refuse(record, "the window has " + std::to_string(window.kernel.y * window.kernel.x) +
                           " positions; the place of the largest is kept in a byte, so 256 are the most");
    return std::make_unique<Pooling>(record, input, kind, window);
}

OpPointer make_global_mean(const Record& record, const Shape& input) {
    Attributes(record).finish();
    const Size all{input.height, input.width};
    return std::make_unique<Pooling>(record, input, PoolKind::mean, PoolWindow{all, all, {}, {input.channels, 1, 1}});
}

OpPointer make_subsample(const Record& record, const Shape& input) {
    Attributes read(record);
    const PoolWindow window = read_window(read, record, input);
    read.finish();
    if (window.padding.y != 0 || window.padding.x != 0) refuse(record, "takes no padding");
    return std::make_unique<Subsampling>(record, input, window);
}

}  // namespace convscope
