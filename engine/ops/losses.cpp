#include "ops/layers.h"

namespace convscope {
namespace {

struct Known {
    const char* kind;
    void (*KernelTable::*kernel)(const Loss&);
    const char* parameter;
    double parameter_default;
    bool classes;
};

const Known kLosses[] = {
    {"cross_entropy", &KernelTable::cross_entropy, "label_smoothing", 0, true},
    {"squared_error", &KernelTable::squared_error, "scale", 0.5, false},
    {"binary_cross_entropy", &KernelTable::binary_cross_entropy, nullptr, 0, false},
    {"hinge", &KernelTable::hinge, "margin", 1, true},
    {"rbf_loss", &KernelTable::rbf_loss, "j", 0.1, true},
};

// `forward` has nothing to do: value and δ come together in `backward`, the turning point of a block's way.
class LossLayer final : public Op {
public:
    LossLayer(const Record& record, const Shape& input, const Known& known)
        : Op(record, {input}, input), known_(known) {
        Attributes read(record);
        weight_ = read.number("weight", 1);
        if (known.parameter) parameter_ = read.number(known.parameter, known.parameter_default);
        read.finish();
    }
    bool wants_dense_input() const override { return true; }
    bool reads_input_in_backward() const override { return true; }
    bool is_loss() const override { return true; }
    double loss_weight() const override { return weight_; }
    bool wants_classes() const override { return known_.classes; }

    void forward(const Block&) const override {}
    void backward(const Block& block) const override {
        Loss a;
        a.outputs = block.inputs[0].data;
        a.count = output_shape.positions();
        a.delta = block.input_deltas[0].data;
        a.classes = block.classes;
        a.numbers = block.numbers;
        a.images_present = block.images_present;
        a.parameter = static_cast<float>(parameter_);
        a.scale = static_cast<float>(weight_ / static_cast<double>(block.images_in_batch));
        a.losses = block.losses;
        a.accumulate = block.accumulate_input_delta[0];
        (block.kernels->*known_.kernel)(a);
    }

private:
    const Known& known_;
    double weight_ = 1;
    double parameter_ = 0;
};

}  // namespace

OpPointer make_loss(const Record& record, const Shape& input) {
    for (const Known& known : kLosses)
        if (record.kind == known.kind) return std::make_unique<LossLayer>(record, input, known);
    return nullptr;
}

}  // namespace convscope
