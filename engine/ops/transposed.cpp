#include <algorithm>
#include <cstring>
#include <limits>

#include "ops/convolution.h"
#include "ops/layers.h"

namespace convscope {

namespace {

// The convolution from this layer's output back to its input: stride, padding and weights are the same.
Record mirrored(const Record& record, const Shape& input) {
    Record inner = record;
    inner.kind = "conv2d";
    inner.attributes.erase("output_padding");
    inner.attributes["out_channels"].numbers = {static_cast<double>(input.channels)};
    inner.parameters.erase("bias");
    return inner;
}

Shape enlarged(const Record& record, const Shape& input) {
    Attributes read(record);
    const Size kernel = read.size("kernel_size", 1), stride = read.size("stride", 1, {1, 1});
    const Size padding = read.size("padding", 0, {0, 0}), dilation = read.size("dilation", 1, {1, 1});
    const Size more = read.size("output_padding", 0, {0, 0});
    if (more.y >= stride.y || more.x >= stride.x) refuse(record, "output_padding wants to be less than the stride");
    const Shape output{read.whole("out_channels", 1),
                       (input.height - 1) * stride.y - 2 * padding.y + dilation.y * (kernel.y - 1) + more.y + 1,
                       (input.width - 1) * stride.x - 2 * padding.x + dilation.x * (kernel.x - 1) + more.x + 1};
    if (output.height < 1 || output.width < 1) refuse(record, "leaves nothing of " + text(input));
    return output;
}

}  // namespace

// y = Kᵀ x + b for the convolution K that leads from y's shape to x's (Dumoulin and Visin 2016, section 4): its forward pass
// is that one's δ of the input, its δ that one's forward pass, and both have the same gradient of the kernel with
// δ and x in each other's place.
class TransposedConvolution final : public Op {
public:
    TransposedConvolution(const KernelTable& kernels, const Record& record, const Shape& input, const Shape& output)
        : Op(record, {input}, output),
          inner_(kernels, mirrored(record, input), output),
          bias_(optional_place(record.parameters, "bias", output.channels)) {
        check_names(record, record.parameters, {"weight", "bias"});
        inner_.by_square_ = inner_.by_product_ = {};
    }

    Size input_border() const override { return inner_.delta_border_; }
    std::vector<Place> parameter_places() const override { return {inner_.weight_, bias_}; }
    bool reads_input_in_backward() const override { return trainable; }
    Index packed_floats() const override { return inner_.packed_floats(); }

    Index scratch_floats(bool backward, bool) const override {
        if (backward) return (copies_delta() ? output_shape.channels * delta_map_step() : 0) + inner_.forward_.scratch_floats();
        Index most = 0;
        for (const CorrelationPass& each : inner_.input_deltas_) most = std::max(most, each.scratch_floats());
        return most;
    }

    void arrange(const std::vector<Maps>& inputs_at, const Maps& delta_at) override {
        for (CorrelationPass& each : inner_.input_deltas_) each.arrange(inputs_at[0]);
        const Maps delta = copies_delta() ? delta_scratch(nullptr) : delta_at;
        inner_.forward_.arrange(delta);
        inner_.gradients_.arrange(delta);
    }

    void prepare(const float* parameters, float* packed, bool, int part, int parts) const override {
        inner_.prepare(parameters, packed, true, part, parts);
    }

    void forward(const Block& block) const override {
        CorrelationCall call;
        call.kernels = block.kernels;
        call.source = block.inputs[0];
        call.destination = block.output;
        call.packed = block.packed + inner_.forward_.packed_floats();
        call.bias = bias_.present() ? block.parameters + bias_.offset : nullptr;
        call.floor = -std::numeric_limits<float>::infinity();
        for (const CorrelationPass& each : inner_.input_deltas_) {
            each.run(call, block.scratch);
            call.packed += each.packed_floats();
        }
    }

    void backward(const Block& block) const override {
        if (block.gradients && bias_.present()) bias_gradients(block);
        Maps delta = block.delta;
        if (copies_delta()) {
            delta = delta_scratch(block.scratch);
            clear_border(delta, inner_.input_border());
            for_rows(delta, [&](Index map, Index row) {
                std::memcpy(row_of(delta, map, row), row_of(block.delta, map, row),
                            static_cast<std::size_t>(output_shape.width * kBlock) * sizeof(float));
            });
        }
        if (block.gradients) {
            WeightCorrelation::Call call;
            call.kernels = block.kernels;
            call.input = delta;
            call.input_rows = inner_.stride_.y;
            call.input_columns = inner_.stride_.x;
            call.delta = block.inputs[0];
            call.gradient = block.gradients + inner_.weight_.offset;
            call.accumulate = block.accumulate_gradient;
            inner_.gradients_.run(call);
        }
        if (!block.input_deltas[0].data) return;
        CorrelationCall call;
        call.kernels = block.kernels;
        call.source = delta;
        call.destination = block.input_deltas[0];
        call.packed = block.packed;
        call.floor = -std::numeric_limits<float>::infinity();
        call.accumulate = block.accumulate_input_delta[0];
        inner_.forward_.run(call, block.scratch + (copies_delta() ? output_shape.channels * delta_map_step() : 0));
    }

private:
    bool copies_delta() const {
        const Size border = inner_.input_border();
        return border.y != 0 || border.x != 0;
    }
    Index delta_map_step() const {
        const Size border = inner_.input_border();
        return spread((output_shape.height + 2 * border.y) * (output_shape.width + 2 * border.x));
    }
    Maps delta_scratch(float* scratch) const {
        const Size border = inner_.input_border();
        const Index row = (output_shape.width + 2 * border.x) * kBlock;
        float* const data = scratch ? scratch + border.y * row + border.x * kBlock : nullptr;
        return {data, output_shape.channels, output_shape.height, output_shape.width, row, delta_map_step()};
    }
    void bias_gradients(const Block& block) const {
        for (Index map = 0; map < output_shape.channels; ++map) {
            double total = 0;
            for (Index row = 0; row < output_shape.height; ++row) {
                Moments sums;
                sums.x = row_of(block.delta, map, row);
                sums.count = output_shape.width;
                sums.images_present = kBlock;
                block.kernels->moments(sums);
                total += sums.sum;
            }
            float& to = block.gradients[bias_.offset + map];
            to = static_cast<float>(total) + (block.accumulate_gradient ? to : 0.0f);
        }
    }

    Convolution inner_;
    Place bias_;
};

OpPointer make_transposed(const KernelTable& kernels, const Record& record, const Shape& input) {
    return std::make_unique<TransposedConvolution>(kernels, record, input, enlarged(record, input));
}

}  // namespace convscope
