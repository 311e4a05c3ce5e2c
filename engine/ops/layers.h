// Every layer kind but the convolution; `make_op` is the table from a record's kind to its class.
#pragma once

#include <optional>

#include "ops/op.h"

namespace convscope {

using OpPointer = std::unique_ptr<Op>;

// Refuses unknown kinds, impossible shapes and attributes.
OpPointer make_op(const KernelTable& kernels, const Record& record, const std::vector<Shape>& inputs);

// The activation a record stands for, if it stands for one.
std::optional<ActivationSpec> activation_of(const Record& record);
// Its derivative follows from its value, so that the value before it need not be kept.
bool has_derivative_of_output(Activation kind);

class Dense final : public Op {
public:
    Dense(const Record& record, const Shape& input, Index outputs);

    bool can_take_activation() const override { return true; }
    void take(ActivationSpec activation) override { activation_ = activation; }
    bool wants_dense_input() const override { return true; }
    bool writes_dense_output() const override { return true; }
    std::vector<Place> parameter_places() const override { return {weight_, bias_}; }
    bool reads_input_in_backward() const override { return trainable; }
    bool reads_output_in_backward() const override { return activation_.kind != Activation::identity; }
    Index scratch_floats(bool backward, bool wants_input_delta) const override;
    void forward(const Block& block) const override;
    void backward(const Block& block) const override;
    bool shares() const override { return true; }
    int phases(bool backward) const override { return backward ? 2 : 1; }
    double cycles(int lanes, double) const override {
        return 0.8 * static_cast<double>(input_shapes[0].positions() * output_shape.channels * kBlock) / lanes;
    }

private:
    Linear arguments(const Block& block) const;
    void input_delta(const Block& block) const;
    Place weight_, bias_;
    ActivationSpec activation_;
};

OpPointer make_rbf_units(const Record& record, const Shape& input);
OpPointer make_softmax(const Record& record, const Shape& input);
OpPointer make_pool(const Record& record, const Shape& input);
OpPointer make_global_mean(const Record& record, const Shape& input);
OpPointer make_subsample(const Record& record, const Shape& input);
OpPointer make_activation(const Record& record, const Shape& input, ActivationSpec spec);
OpPointer make_dropout(const Record& record, const Shape& input);
OpPointer make_add(const Record& record, const std::vector<Shape>& inputs);
OpPointer make_concat(const Record& record, const std::vector<Shape>& inputs);
OpPointer make_flatten(const Record& record, const Shape& input);
OpPointer make_response_norm(const Record& record, const Shape& input);
OpPointer make_batch_norm(const Record& record, const Shape& input);
OpPointer make_loss(const Record& record, const Shape& input);

OpPointer make_binary(const Record& record, const std::vector<Shape>& inputs, BinaryKind kind);
OpPointer make_gather(const Record& record, const Shape& input);
OpPointer make_reshape(const Record& record, const Shape& input);
OpPointer make_group_norm(const Record& record, const Shape& input);
OpPointer make_layer_norm(const Record& record, const Shape& input);
OpPointer make_reduction(const Record& record, const Shape& input);
OpPointer make_resample(const Record& record, const Shape& input);
OpPointer make_max_windows(const Record& record, const Shape& input);
OpPointer make_channel_softmax(const Record& record, const Shape& input, bool logarithm);
OpPointer make_parameter(const Record& record);
OpPointer make_transposed(const KernelTable& kernels, const Record& record, const Shape& input);

// The window of a pooling record: which sizes come out, and the kernels' arguments without pointers.
struct PoolWindow {
    Size kernel, stride, padding;
    Shape output;
};
PoolWindow read_window(Attributes& read, const Record& record, const Shape& input);

}  // namespace convscope
