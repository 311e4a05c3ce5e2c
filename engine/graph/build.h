// Records → ops: shapes inferred, activations and pooling fused into the layer before them, flattening elided.
#pragma once

#include <memory>
#include <vector>

#include "ops/layers.h"

namespace convscope {

struct Value {
    Shape shape;
    Index gap = 0;  // positions left free after each map, see find_gaps
    Size border;        // zeros around each map that some consumer wants to find
    int producer = -1;  // op; −1: the images
    std::vector<int> consumers;

    bool dense() const { return gap == 0 && border.y == 0 && border.x == 0; }
    Index floats() const {
        return shape.channels * ((shape.height + 2 * border.y) * (shape.width + 2 * border.x) + gap) * kBlock;
    }
    // How it lies in memory that begins at `base`.
    Maps at(float* base) const;
    // The same for its δ, which has the gap but no border.
    Maps delta_at(float* base) const;
    Index delta_floats() const { return shape.positions() * kBlock + shape.channels * gap * kBlock; }
};

struct Graph {
    std::vector<OpPointer> ops;  // in order of execution
    std::vector<Value> values;   // by number; fused ones stay empty
    std::vector<int> outputs;
    std::vector<Shape> output_shapes;
    Index parameter_count = 0;
    Index state_count = 0;
    std::vector<bool> shares_parameters;  // by op: another op has the same places
};

Graph build_graph(const KernelTable& kernels, const Shape& input, std::vector<Record> records, std::vector<int> outputs,
                  Index parameter_count, Index state_count);

}  // namespace convscope
