// What the kernels of general tensor operations take; kernels/arguments.h has the layout's and the layers'.
#pragma once

#include "kernels/arguments.h"

namespace convscope {

enum class BinaryKind : std::int32_t { add, subtract, multiply, divide, maximum, minimum };

// A row of positions, z = x ∘ y. An operand that is one position for the whole row has a step of 0, else of 16.
struct Binary {
    BinaryKind kind = BinaryKind::add;
    const float* x = nullptr;
    const float* y = nullptr;
    Index x_step = 0, y_step = 0;
    float* z = nullptr;
    Index count = 0;  // positions
};

// δx = δz ∂z/∂x and δy likewise, summed over the row where the operand's step is 0. Null: not wanted.
struct BinaryDelta {
    Binary forward;  // z is not read
    const float* delta = nullptr;
    float* x_delta = nullptr;
    float* y_delta = nullptr;
    bool add_x = false, add_y = false;  // to what stands there; always where the step is 0
};

// For each of some positions along one side, source positions and their weights: those of position i stand at first[i] …
// first[i + 1] − 1.
struct Taps {
    const Index* first = nullptr;
    const Index* source = nullptr;
    const float* weight = nullptr;  // null: all 1
};

// y(r, c) = Σ_i Σ_j w_i w_j x(r_i, c_j) over the taps of row r and column c.
struct Resample {
    Maps from;  // x, or δy on the way back
    Maps to;    // y, or δx, to which is added
    Taps rows, columns;
};

// y(r, c) = max of x(r_i, c_j).
struct MaxWindows {
    Maps input;
    Maps output;
    Taps rows, columns;
    std::int32_t* winner = nullptr;  // [map][row][column][16]: row·65536 + column of the largest
    Maps delta;
    Maps input_delta;  // is added to
};

enum class ReduceKind : std::int32_t { sum, mean, maximum };

// A row of positions folded into a row or, with a step of 0, into one position.
struct Reduce {
    const float* x = nullptr;
    Index count = 0;
    float* y = nullptr;
    Index y_step = 0;
    bool begins = false;  // nothing was folded into y before
};

// On the way back from a maximum. `shares` counts, per position of y, who equals it; or says which lanes have had their
// first.
struct ReduceDelta {
    const float* x = nullptr;
    Index count = 0;
    const float* y = nullptr;
    const float* delta = nullptr;
    float* shares = nullptr;
    Index y_step = 0;  // of y, delta and shares
    float* x_delta = nullptr;
    bool accumulate = false;
};

// Statistics of each image over positions of some maps: normalisation by groups of maps.
struct GroupNorm {
    Maps input;  // the group's maps
    Maps output;
    const float* scale = nullptr;   // one a map, or null
    const float* offset = nullptr;
    float epsilon = 0;
    float* mean = nullptr;     // 16
    float* inverse = nullptr;  // 16: 1/σ
    Maps delta;
    Maps input_delta;
    double* scale_gradient = nullptr;   // one a map, are added to; null: not wanted
    double* offset_gradient = nullptr;
    bool accumulate = false;
};

// Statistics of each position over the maps. Rows of `mean` and `inverse` are [column][16].
struct PositionNorm {
    const float* input = nullptr;
    Index map_step = 0;
    Index maps = 0;
    Index columns = 0;
    float* output = nullptr;
    Index output_map_step = 0;
    const float* scale = nullptr;
    const float* offset = nullptr;
    float epsilon = 0;
    float* mean = nullptr;
    float* inverse = nullptr;
    const float* delta = nullptr;
    Index delta_map_step = 0;
    float* input_delta = nullptr;
    Index input_delta_map_step = 0;
    float* sums = nullptr;  // scratch, 2 × columns × 16
    double* scale_gradient = nullptr;
    double* offset_gradient = nullptr;
    bool accumulate = false;
};

// A row of positions; the classes of one position lie a map step apart. With `logarithm` ln softmax.
struct PositionSoftmax {
    const float* x = nullptr;
    Index x_map_step = 0;
    float* y = nullptr;
    Index y_map_step = 0;
    Index maps = 0;
    Index columns = 0;
    bool logarithm = false;
    const float* delta = nullptr;
    Index delta_map_step = 0;
    float* x_delta = nullptr;
    Index x_delta_map_step = 0;
    bool accumulate = false;
};

}  // namespace convscope
