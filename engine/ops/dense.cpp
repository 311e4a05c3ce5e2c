#include <algorithm>

#include "ops/layers.h"

namespace convscope {

// y = f(W x + b); δ of u = f′ δ, ∂J/∂W = δ xᵀ, δ of x = Wᵀ δ.
Dense::Dense(const Record& record, const Shape& input, Index outputs)
    : Op(record, {input}, {outputs, 1, 1}),
      weight_(required_place(record, record.parameters, "weight", outputs * input.positions())),
      bias_(optional_place(record.parameters, "bias", outputs)) {
    check_names(record, record.parameters, {"weight", "bias"});
}

Index Dense::scratch_floats(bool backward, bool) const {
    return backward && trainable ? (input_shapes[0].positions() + kBlock) * kBlock : 0;
}

// Of the outputs that are this thread's.
Linear Dense::arguments(const Block& block) const {
    const Team::Own own = block.team.of(output_shape.channels, 4);
    Linear a;
    a.inputs = a.last_input = input_shapes[0].positions();
    a.weights = block.parameters + weight_.offset + own.begin * a.inputs;
    a.bias = bias_.present() ? block.parameters + bias_.offset + own.begin : nullptr;
    a.outputs = own.size();
    a.input = block.inputs[0].data;
    a.output = block.output.data + own.begin * kBlock;
    return a;
}

void Dense::forward(const Block& block) const {
    const Linear a = arguments(block);
    block.kernels->linear_forward(a);
    if (activation_.kind != Activation::identity)
        block.kernels->activate(activation_, a.output, a.output, a.outputs * kBlock);
}

void Dense::backward(const Block& block) const {
    if (block.phase == 1) return input_delta(block);
    const Team::Own own = block.team.of(output_shape.channels, 4);
    Linear a = arguments(block);
    float* const delta = block.delta.data + own.begin * kBlock;
    a.delta = delta;
    if (activation_.kind != Activation::identity)
        block.kernels->differentiate(activation_, nullptr, a.output, delta, delta, a.outputs, false);
    if (!block.gradients) return;
    a.weight_gradient = block.gradients + weight_.offset + own.begin * a.inputs;
    a.bias_gradient = bias_.present() ? block.gradients + bias_.offset + own.begin : nullptr;
    a.accumulate_gradient = block.accumulate_gradient;
    a.transposed = block.scratch;
    block.kernels->linear_weight_gradient(a);
}

void Dense::input_delta(const Block& block) const {
    if (!block.input_deltas[0].data) return;
    Block all = block;
    all.team = {};
    Linear a = arguments(all);
    const Team::Own own = block.team.of(a.inputs, 64);
    a.first_input = own.begin, a.last_input = own.end;
    a.delta = block.delta.data;
    a.input_delta = block.input_deltas[0].data;
    a.accumulate = block.accumulate_input_delta[0];
    block.kernels->linear_input_delta(a);
}

namespace {

// Codes are fixed (state) or trained (parameter).
class RbfUnits final : public Op {
public:
    RbfUnits(const Record& record, const Shape& input, Index outputs) : Op(record, {input}, {outputs, 1, 1}) {
        const Index count = outputs * input.positions();
        trained_ = optional_place(record.parameters, "weight", count);
        check_names(record, record.parameters, {"weight"});
        check_names(record, record.state, {"weight"});
        if (!trained_.present()) fixed_ = required_place(record, record.state, "weight", count);
    }
    bool wants_dense_input() const override { return true; }
    bool writes_dense_output() const override { return true; }
    std::vector<Place> parameter_places() const override { return {trained_}; }
    std::vector<Place> state_places() const override { return {fixed_}; }
    bool reads_input_in_backward() const override { return true; }

    void forward(const Block& block) const override { block.kernels->rbf_forward(arguments(block)); }

    void backward(const Block& block) const override {
        Linear a = arguments(block);
        a.delta = block.delta.data;
        a.input_delta = block.input_deltas[0].data;
        a.accumulate = block.accumulate_input_delta[0];
        if (block.gradients && trained_.present()) a.weight_gradient = block.gradients + trained_.offset;
        a.accumulate_gradient = block.accumulate_gradient;
        block.kernels->rbf_input_delta(a);
    }

private:
    Linear arguments(const Block& block) const {
        Linear a;
        a.weights = trained_.present() ? block.parameters + trained_.offset : block.state + fixed_.offset;
        a.inputs = input_shapes[0].positions();
        a.outputs = output_shape.channels;
        a.input = block.inputs[0].data;
        a.output = block.output.data;
        return a;
    }
    Place trained_, fixed_;
};

class SoftmaxLayer final : public Op {
public:
    SoftmaxLayer(const Record& record, const Shape& input) : Op(record, {input}, input) {}
    bool wants_dense_input() const override { return true; }
    bool writes_dense_output() const override { return true; }
    bool reads_output_in_backward() const override { return true; }
    void forward(const Block& block) const override {
        block.kernels->softmax_forward(block.inputs[0].data, output_shape.channels, block.output.data);
    }
    void backward(const Block& block) const override {
        block.kernels->softmax_backward(block.output.data, block.delta.data, output_shape.channels,
                                        block.input_deltas[0].data, block.accumulate_input_delta[0]);
    }
};

}  // namespace

OpPointer make_rbf_units(const Record& record, const Shape& input) {
    Attributes read(record);
    const Index outputs = read.whole("out_features", 1);
    read.finish();
    return std::make_unique<RbfUnits>(record, input, outputs);
}

OpPointer make_softmax(const Record& record, const Shape& input) {
    Attributes read(record);
    const bool logarithm = read.whole("logarithm", 0, 0) != 0;
    read.finish();
    if (logarithm || input.height != 1 || input.width != 1) return make_channel_softmax(record, input, logarithm);
    return std::make_unique<SoftmaxLayer>(record, input);
}

}  // namespace convscope
