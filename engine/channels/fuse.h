// Records → layers of a network that only evaluates: batch normalisations, residual sums, activations and poolings taken
// into the layer before them, or the layer behind; what only passes numbers on is another name for them.
#pragma once

#include <vector>

#include "channels/direct.h"
#include "ops/record.h"

namespace convscope::channels {

struct Layer {
    const Record* record = nullptr;  // the one that decides on the kind
    std::string name;
    std::vector<int> inputs;
    int output = -1;
    Shape shape;     // of the output
    Shape input;     // of input 0
    int skip = -1;
    Folding folding;
    Finish finish;
    bool pooled = false;
    Folding before;  // of the input of a 1×1 convolution
    Finish before_finish;
};

struct Fused {
    std::vector<Layer> layers;  // in order of execution; only what the outputs need
    std::vector<Shape> shapes;  // by value
    std::vector<int> alias;     // by value: the one that stands for it
};

// `records` have been checked; they must outlive the layers.
Fused fuse(const Shape& input, const std::vector<Record>& records, const std::vector<int>& outputs);

}  // namespace convscope::channels
