// What kernels take: plain structures of pointers, steps and counts. All steps are in floats.
//
// An activation is stored as [map][row][column][16 images]; one column of 16 images is a "position", 64 bytes and
// aligned. A row step or map step may be larger than the picture, to leave room for a border of zeros.
#pragma once

#include <cstddef>
#include <cstdint>

namespace convscope {

using Index = std::ptrdiff_t;
inline constexpr Index kBlock = 16;

// One or several maps of an activation: `data` is image 0 of row 0, column 0 of the first map.
struct Maps {
    float* data = nullptr;
    Index count = 0;
    Index height = 0;
    Index width = 0;
    Index row_step = 0;
    Index map_step = 0;
};

enum class Activation : std::int32_t {
    identity,
    relu,
    relu6,
    leaky_relu,  // parameter a: slope below zero
    elu,         // a: alpha
    logistic,    // a: slope inside
    tanh,
    scaled_tanh,  // a: amplitude, b: slope inside
    silu,
    hard_tanh,  // a: lowest, b: highest
    softplus,
    clamp,     // a: lowest, b: highest; passes δ also at its bounds
    gelu,
    gelu_tanh,  // the approximation by tanh
    mish,
    hard_swish,
    soft_sign,
    tanh_shrink,
    hard_shrink,  // a: λ
    soft_shrink,  // a: λ
    threshold,    // a: threshold, b: value below
    absolute,
    exponential,
    logarithm,
    square_root,
    inverse_root,
    reciprocal,
    power,  // a: exponent
    erf,
};

struct ActivationSpec {
    Activation kind = Activation::identity;
    float a = 0;
    float b = 0;
};

// A row of convolution tiles: `tiles` × XB positions of CB maps, all with the same taps.
// A tap row is one (kernel row, input map) pair: its kernel columns lie `column_step` floats apart in the input.
struct ConvolutionRow {
    const float* input = nullptr;     // first position of the first tile, before any tap
    const Index* tap_rows = nullptr;  // offset of each tap row from `input`
    Index tap_row_count = 0;
    Index columns = 0;  // taps in a tap row
    Index column_step = 0;
    Index position_step = 0;         // between neighbouring output positions, in the input
    const float* weights = nullptr;  // [tap row][column][CB]
    Index weight_row_step = 0;
    float* output = nullptr;
    Index output_step = 0;        // between neighbouring positions
    Index map_step = 0;           // between output maps
    const float* bias = nullptr;  // CB values, or null
    float floor = 0;              // results below it become it: 0 for ReLU, -infinity for none
    bool accumulate = false;      // start from what `output` holds, not from the bias
    Index tiles = 0;
};

// Sums over positions of δ times input for CB output maps × T taps.
struct WeightGradient {
    const float* delta = nullptr;
    Index delta_map_step = 0;
    Index delta_row_step = 0;
    const float* input = nullptr;
    const Index* taps = nullptr;  // T offsets from `input`
    Index input_row_step = 0;     // for one step of an output row
    Index position_step = 0;
    Index rows = 0;
    Index columns = 0;
    float* gradient = nullptr;  // CB rows of T values
    Index gradient_step = 0;    // between the rows
    bool accumulate = false;
};

// A row of one map taken apart into tiles, each into as many values as there are planes.
struct WinogradRow {
    const float* from = nullptr;  // column 0
    Index columns = 0;            // there are; what a tile reads outside of them is 0
    Index first = 0;              // column where tile 0 begins
    Index step = 0;               // from tile to tile
    Index tiles = 0;
    float* planes = nullptr;  // [plane][tile][16]
    Index plane_step = 0;
};

// The way back: `columns` sums from the products of the planes.
struct WinogradSums {
    const float* planes = nullptr;
    Index plane_step = 0;
    Index tiles = 0;
    float* to = nullptr;
    Index columns = 0;
    float bias = 0;
    float floor = 0;  // results below it become it
    bool accumulate = false;  // start from what `to` holds, not from the bias
};

// The way back for gradients of taps. `planes` may be read up to the next multiple of 16 rows.
struct WinogradTaps {
    const float* planes = nullptr;  // [plane][kernel row]
    Index plane_step = 0;           // a multiple of 16
    Index rows = 0;
    float* gradient = nullptr;  // [kernel row][tap]
    bool rotated = false;       // taps stand in the gradient from last to first
    bool accumulate = false;
};

struct Linear {
    const float* weights = nullptr;  // [outputs][inputs]
    const float* bias = nullptr;
    Index inputs = 0;
    Index outputs = 0;
    const float* input = nullptr;  // [inputs][16]
    float* output = nullptr;       // [outputs][16]
    const float* delta = nullptr;  // [outputs][16]
    float* input_delta = nullptr;  // [inputs][16]
    float* weight_gradient = nullptr;
    float* bias_gradient = nullptr;
    float* transposed = nullptr;  // scratch, 16 × round_up(inputs, 16)
    Index first_input = 0, last_input = 0;  // of input_delta
    bool accumulate = false;                // input_delta
    bool accumulate_gradient = false;
};

enum class PoolKind : std::int32_t { max, sum, mean, mean_without_padding, l2 };

struct Pool {
    PoolKind kind = PoolKind::max;
    Index kernel_height = 0, kernel_width = 0;
    Index stride_y = 0, stride_x = 0;
    Index pad_y = 0, pad_x = 0;
    Maps input;
    Maps output;
    std::uint8_t* winner = nullptr;  // [map][row][column][16]: index in the window of the largest
    Index winner_map_step = 0;       // bytes
    Maps delta;                      // of the output
    Maps input_delta;                // zeroed by the caller, or holding what is to be added to
};

// Non-overlapping max pooling backward, writing every position of some rows once, zeros included.
struct Unpool {
    Maps delta;  // of the maps before pooling, one value a window
    const std::uint8_t* winner = nullptr;
    Index winner_map_step = 0;  // bytes
    Index first_row = 0;        // of the whole picture
    Index rows = 0;
    Index kernel_height = 0, kernel_width = 0;
    Maps result;  // data points at row `first_row`; height is the whole picture's
};

struct ImagePack {
    const void* images = nullptr;  // [image][map][row][column], first image of the block
    bool bytes = false;            // uint8, else float
    const float* scale = nullptr;  // per map, with bytes: scale * pixel + offset
    const float* offset = nullptr;
    Index images_present = 0;  // the rest of the 16 lanes becomes 0
    Maps maps;
};

struct Loss {
    const float* outputs = nullptr;  // [count][16]
    Index count = 0;
    float* delta = nullptr;                 // [count][16]
    const std::int64_t* classes = nullptr;  // of the block's images, or
    const float* numbers = nullptr;         // [image][count]
    Index images_present = 0;
    float parameter = 0;      // smoothing, scale, margin or j
    float scale = 0;          // of δ: weight / images in the batch
    float* losses = nullptr;  // 16, not scaled
    bool accumulate = false;  // add to `delta`
};

// Σ over positions and present images; the sums of a block are taken in one fixed order.
struct Moments {
    const float* x = nullptr;
    const float* y = nullptr;  // null: only Σx
    Index count = 0;           // positions
    Index images_present = 0;
    float centre = 0;    // of x, in Σ(x−centre)·y or Σ(x−centre)²
    double sum = 0;      // Σ y, or Σ x
    double product = 0;  // Σ (x−centre)·y; Σ (x−centre)² when y == x
};

struct Combine {
    const float* x = nullptr;
    const float* y = nullptr;
    float a = 0, b = 0, centre = 0, c = 0;
    float* to = nullptr;
    Index count = 0;  // positions
    Index images_present = 0;
    bool accumulate = false;
};

struct ResponseNorm {  // y = x (k + alpha/size * sum of x² over `size` maps around)^-beta
    Maps input;
    Maps output;
    Maps delta;
    Maps input_delta;
    Index size = 0;
    float alpha = 0, beta = 0, k = 0;
    bool accumulate = false;
};

struct Dropout {
    const float* input = nullptr;  // or δ
    float* output = nullptr;
    Index units = 0;
    std::uint32_t key[2] = {0, 0};
    std::uint32_t first_image = 0;
    std::uint32_t first_unit = 0;
    std::uint32_t threshold = 0;  // a unit is kept when its 32 random bits are ≥ threshold
    float scale = 0;
    bool accumulate = false;
};

enum class DescentKind : std::int32_t { none, gradient, momentum, adam };  // none: gradients are only added up

// A stretch of parameters that moves against its gradient. The letters are those of kernels/optimiser.cpp.
struct Descent {
    DescentKind kind = DescentKind::none;
    Index count = 0;
    float* gradients = nullptr;            // of the first thread; the sum ends here
    const float* const* others = nullptr;  // gradient buffers of the other threads, with the stretch at `first`
    Index other_count = 0;
    Index first = 0;
    float* parameters = nullptr;
    float* mean = nullptr;     // v, or Adam's m
    float* squares = nullptr;  // Adam's s
    float rate = 0;            // η; Adam: η / (1 − βᵗ)
    float decay = 0;           // λ
    float keep = 1;            // κ
    float momentum = 0;        // μ
    float fresh = 1;           // 1 − dampening, or 1 − β
    bool nesterov = false;
    float square_momentum = 0;  // γ
    float square_fresh = 0;     // 1 − γ
    float root_scale = 1;       // ρ = 1 / √(1 − γᵗ)
    float epsilon = 0;          // ε
};

}  // namespace convscope
