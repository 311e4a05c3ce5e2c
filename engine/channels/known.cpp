#include "channels/known.h"

#include <algorithm>
#include <string_view>

#include "channels/filter.h"
#include "ops/layers.h"

namespace convscope::channels {
namespace {

constexpr std::string_view kKnown[] = {
    "conv2d",    "linear",   "rbf_units", "batch_norm", "subsample",   "flatten",       "dropout", "max_pool",
    "mean_pool", "sum_pool", "l2_pool",   "concat",     "global_mean", "response_norm",
};

// Lanes without a channel hold 0, and what is made of that is multiplied by 0 later: it must be finite.
bool is_finite_at_zero(Activation kind) {
    return kind != Activation::logarithm && kind != Activation::inverse_root && kind != Activation::reciprocal &&
           kind != Activation::power;
}

bool is_known(const Record& record, const std::vector<Shape>& inputs) {
    if (record.kind == "add")
        return std::all_of(inputs.begin(), inputs.end(), [&](const Shape& each) { return each == inputs[0]; });
    if (record.kind == "softmax") {
        Attributes read(record);
        return inputs[0].height == 1 && inputs[0].width == 1 && read.whole("logarithm", 0, 0) == 0;
    }
    if (const auto spec = activation_of(record)) return is_finite_at_zero(spec->kind);
    return std::find(std::begin(kKnown), std::end(kKnown), record.kind) != std::end(kKnown);
}

}  // namespace

std::string obstacle(const Shape& input, const std::vector<Record>& records, const std::vector<int>& outputs) {
    int most = 0;
    for (const Record& record : records) most = std::max(most, record.output);
    std::vector<Shape> shapes(static_cast<std::size_t>(most) + 1);
    shapes[0] = input;
    std::vector<bool> wanted(shapes.size(), false);
    for (const int output : outputs) wanted[static_cast<std::size_t>(output)] = true;
    for (std::size_t number = records.size(); number-- > 0;) {
        const Record& record = records[number];
        if (record.output >= 0 && wanted[static_cast<std::size_t>(record.output)])
            for (const int value : record.inputs) wanted[static_cast<std::size_t>(value)] = true;
    }
    for (const Record& record : records) {
        if (record.output < 0 || !wanted[static_cast<std::size_t>(record.output)]) continue;
        std::vector<Shape> inputs;
        for (const int value : record.inputs) inputs.push_back(shapes[static_cast<std::size_t>(value)]);
        if (inputs.empty() || !is_known(record, inputs)) return record.name + " (" + record.kind + ")";
        shapes[static_cast<std::size_t>(record.output)] = shape_of(record, inputs);
    }
    return {};
}

}  // namespace convscope::channels
