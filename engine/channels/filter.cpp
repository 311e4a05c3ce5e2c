#include "channels/filter.h"

#include <algorithm>

#include "ops/convolution.h"
#include "ops/layers.h"

namespace convscope::channels {

Filter Filter::of(const Record& record, const Shape& input) {
    Attributes read(record);
    Filter filter;
    filter.input = input;
    filter.output = Convolution::output_of(record, input);
    filter.kernel = read.size("kernel_size", 1);
    filter.stride = read.size("stride", 1, {1, 1});
    filter.padding = read.size("padding", 0, {0, 0});
    filter.dilation = read.size("dilation", 1, {1, 1});
    filter.groups = read.whole("groups", 1, 1);
    filter.flip = read.whole("flip_kernel", 0, 0) != 0;
    if (const auto* table = read.table("table")) filter.sources = *table;
    Index kernels = filter.output.channels * (input.channels / filter.groups);
    if (!filter.sources.empty()) {
        kernels = 0;
        for (const auto& row : filter.sources) kernels += static_cast<Index>(row.size());
    }
    filter.weight = required_place(record, record.parameters, "weight", kernels * filter.area());
    return filter;
}

bool Filter::is_pointwise() const {
    return area() == 1 && stride.y == 1 && stride.x == 1 && padding.y == 0 && padding.x == 0;
}

bool Filter::is_linear() const {
    return is_plain() && !flip && kernel.y == input.height && kernel.x == input.width && padding.y == 0 &&
           padding.x == 0 && dilation.y == 1 && dilation.x == 1;
}

bool Filter::is_selection() const {
    return is_pointwise() && !sources.empty() &&
           std::all_of(sources.begin(), sources.end(), [](const auto& row) { return row.size() == 1; });
}

Size Filter::border() const {
    const auto of = [](Index pad, Index in, Index out, Index k, Index s, Index d) {
        return std::max(pad, (out - 1) * s + d * (k - 1) + 1 - pad - in);
    };
    return {of(padding.y, input.height, output.height, kernel.y, stride.y, dilation.y),
            of(padding.x, input.width, output.width, kernel.x, stride.x, dilation.x)};
}

Shape shape_of(const Record& record, const std::vector<Shape>& inputs) {
    Shape shape = inputs[0];
    Attributes read(record);
    if (record.kind == "conv2d") return Convolution::output_of(record, shape);
    if (record.kind == "linear" || record.kind == "rbf_units") return {read.whole("out_features", 1), 1, 1};
    if (record.kind == "global_mean") return {shape.channels, 1, 1};
    if (record.kind == "flatten") return {shape.positions(), 1, 1};
    if (record.kind.ends_with("_pool") || record.kind == "subsample") return read_window(read, record, shape).output;
    if (record.kind == "concat")
        for (std::size_t i = 1; i < inputs.size(); ++i) shape.channels += inputs[i].channels;
    return shape;
}

}  // namespace convscope::channels
