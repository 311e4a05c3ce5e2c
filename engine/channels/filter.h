// What a convolution record says, and the shapes of all records.
#pragma once

#include <vector>

#include "ops/record.h"

namespace convscope::channels {

struct Filter {
    Shape input, output;
    Size kernel, stride, padding, dilation;
    Index groups = 1;
    bool flip = false;                        // true convolution: the kernel is rotated
    std::vector<std::vector<Index>> sources;  // of a connection table: input channels of each output; empty: none
    Place weight;

    static Filter of(const Record& record, const Shape& input);
    Index area() const { return kernel.y * kernel.x; }
    bool is_plain() const { return groups == 1 && sources.empty(); }
    bool is_depthwise() const { return groups == input.channels && output.channels == groups && groups > 1; }
    // 1×1 at every position.
    bool is_pointwise() const;
    // Covers the whole picture: a linear layer with the same weights.
    bool is_linear() const;
    // Each output is one input, multiplied by a number.
    bool is_selection() const;
    // Zeros that its windows reach around the picture.
    Size border() const;
};

Shape shape_of(const Record& record, const std::vector<Shape>& inputs);

}  // namespace convscope::channels
