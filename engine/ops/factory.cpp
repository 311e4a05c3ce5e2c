#include "ops/convolution.h"
#include "ops/layers.h"

namespace convscope {
namespace {

OpPointer make_dense(const Record& record, const Shape& input) {
    Attributes read(record);
    const Index outputs = read.whole("out_features", 1);
    read.finish();
    return std::make_unique<Dense>(record, input, outputs);
}

struct Known {
    const char* kind;
    OpPointer (*make)(const Record&, const Shape&);
};

const Known kOneInput[] = {
    {"linear", make_dense},          {"max_pool", make_pool},
    {"mean_pool", make_pool},        {"sum_pool", make_pool},
    {"l2_pool", make_pool},          {"global_mean", make_global_mean},
    {"subsample", make_subsample},   {"dropout", make_dropout},
    {"flatten", make_flatten},       {"response_norm", make_response_norm},
    {"batch_norm", make_batch_norm}, {"softmax", make_softmax},
    {"rbf_units", make_rbf_units},
};

OpPointer make_convolution(const KernelTable& kernels, const Record& record, const Shape& input) {
    if (Convolution::is_linear(record, input))
        return std::make_unique<Dense>(record, input, Convolution::output_of(record, input).channels);
    return std::make_unique<Convolution>(kernels, record, input);
}

}  // namespace

OpPointer make_op(const KernelTable& kernels, const Record& record, const std::vector<Shape>& inputs) {
    constexpr std::size_t kMany = 1024;
    if (record.kind == "add" || record.kind == "concat") {
        check_input_count(record, inputs.size(), 1, kMany);
        return record.kind == "add" ? make_add(record, inputs) : make_concat(record, inputs);
    }
    check_input_count(record, inputs.size(), 1, 1);
    if (record.kind == "conv2d") return make_convolution(kernels, record, inputs[0]);
    if (const auto spec = activation_of(record)) return make_activation(record, inputs[0], *spec);
    for (const Known& known : kOneInput)
        if (record.kind == known.kind) return known.make(record, inputs[0]);
    if (OpPointer loss = make_loss(record, inputs[0])) return loss;
    std::string kinds = "conv2d, add, concat, activations, losses";
    for (const Known& known : kOneInput) kinds += std::string(", ") + known.kind;
    refuse(record, "unknown kind; there are: " + kinds);
}

}  // namespace convscope
