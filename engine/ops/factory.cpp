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
    {"rbf_units", make_rbf_units},   {"gather", make_gather},
    {"reshape", make_reshape},       {"group_norm", make_group_norm},
    {"layer_norm", make_layer_norm}, {"reduce_sum", make_reduction},
    {"reduce_mean", make_reduction}, {"reduce_max", make_reduction},
    {"resample", make_resample},     {"max_windows", make_max_windows},
};

struct KnownBinary {
    const char* kind;
    BinaryKind binary;
};

const KnownBinary kTwoInputs[] = {
    {"subtract", BinaryKind::subtract}, {"multiply", BinaryKind::multiply}, {"divide", BinaryKind::divide},
    {"maximum", BinaryKind::maximum},   {"minimum", BinaryKind::minimum},
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
    for (const KnownBinary& known : kTwoInputs)
        if (record.kind == known.kind) {
            check_input_count(record, inputs.size(), 2, 2);
            return make_binary(record, inputs, known.binary);
        }
    if (record.kind == "parameter") {
        check_input_count(record, inputs.size(), 0, 0);
        return make_parameter(record);
    }
    check_input_count(record, inputs.size(), 1, 1);
    if (record.kind == "conv_transpose2d") return make_transposed(kernels, record, inputs[0]);
    if (record.kind == "conv2d") return make_convolution(kernels, record, inputs[0]);
    if (const auto spec = activation_of(record)) return make_activation(record, inputs[0], *spec);
    for (const Known& known : kOneInput)
        if (record.kind == known.kind) return known.make(record, inputs[0]);
    if (OpPointer loss = make_loss(record, inputs[0])) return loss;
    std::string kinds = "conv2d, conv_transpose2d, parameter, add, concat, activations, losses";
    for (const KnownBinary& known : kTwoInputs) kinds += std::string(", ") + known.kind;
    for (const Known& known : kOneInput) kinds += std::string(", ") + known.kind;
    refuse(record, "unknown kind; there are: " + kinds);
}

}  // namespace convscope
