// What the kernels of the channels-blocked layout take. All steps are in floats.
//
// A picture's activation is stored as [channel block][row][column][lanes]: a "position" is one register of neighbouring
// channels, as many as the instruction set has lanes. Channels that fill up the last block are 0, or at least finite,
// and meet weights of 0. A picture's rows may have a border of zeros around them.
#pragma once

#include "kernels/arguments.h"

namespace convscope {

// `tiles` × X positions of B blocks of output channels. A tap is `inner` floats of the input, `inner_step` apart: the
// lanes of a block, or neighbouring columns of a plane. Each is broadcast to a register of weights.
struct ChannelRow {
    const float* input = nullptr;  // of the first position, before any tap
    const Index* taps = nullptr;   // offset of each from `input`
    Index tap_count = 0;
    Index inner = 0;
    Index inner_step = 1;
    Index position_step = 0;         // between neighbouring output positions, in the input
    const float* weights = nullptr;  // [tap][inner][B][lanes]
    float* output = nullptr;
    Index block_step = 0;         // between blocks of output channels
    const float* bias = nullptr;  // [B][lanes], or null
    bool accumulate = false;      // start from what `output` holds, not from the bias
    const float* skip = nullptr;  // added at the end; null: nothing
    Index skip_block_step = 0;
    float floor = 0, ceiling = 0;  // results outside of them become them
    Index tiles = 0;
    // What is wanted next, up to `ahead_end`: each tap of each tile fetches `ahead_lines` lines of 64 bytes.
    const float* ahead = nullptr;
    const float* ahead_end = nullptr;
    Index ahead_lines = 0;
};

// Weights of `rows` output channels on their way into [column][lanes] panels.
struct WeightPanel {
    const float* weights = nullptr;  // of the first row
    Index row_step = 0;
    Index rows = 0;     // at most as many as there are lanes; the others become 0
    Index columns = 0;  // of each row
    // Column j of input channel j / area and tap j % area goes to place (channel / inner · area + tap) · inner +
    // channel % inner, so that a kernel finds the channels of a block together.
    Index area = 1;
    Index inner = 1;
    bool flip = false;             // taps in reverse
    const float* scale = nullptr;  // by lane, or null
    float* to = nullptr;
    Index to_step = 0;  // between places
};

// Rows first … of one block of channels, each filtered by its own kernel.
struct DepthwiseRow {
    const float* input = nullptr;  // of position 0, tap 0
    Index row_step = 0;            // between tap rows
    Index column_step = 0;         // between tap columns
    Index position_step = 0;
    Index kernel_height = 0, kernel_width = 0;
    const float* weights = nullptr;  // [tap][lanes]
    const float* bias = nullptr;     // [lanes]
    const float* skip = nullptr;     // or null
    float* output = nullptr;
    float floor = 0, ceiling = 0;
    Index positions = 0;
};

// A row of tiles of one block of channels, each of (m + 2)² positions m apart, taken to its values at (m + 2)² points.
struct ChannelTiles {
    const float* from = nullptr;  // row 0, column 0 of the picture
    Index row_step = 0;
    Index height = 0, width = 0;  // of the picture: what a tile reads outside of it is 0
    Index top = 0, left = 0;      // of the first tile
    Index tiles = 0;
    float* planes = nullptr;  // [point][tile][lanes]
    Index plane_step = 0;
};

// The way back: m × m sums of each tile, cut off where the picture ends.
struct ChannelSums {
    const float* planes = nullptr;
    Index plane_step = 0;
    Index tiles = 0;
    const float* bias = nullptr;  // [lanes]
    const float* skip = nullptr;  // as `to`, or null
    Index skip_row_step = 0;
    float floor = 0, ceiling = 0;
    float* to = nullptr;  // of the first tile
    Index row_step = 0;
    Index rows = 0, columns = 0;  // that there are, of the picture
    bool pooled = false;          // 2 × 2 windows are taken to their largest value on the way; rows and columns even
};

// Kernels of 3×3 in the form of their tiles: [column = channel · 9 + tap][lanes] → [point][channel][step lanes].
struct ChannelTaps {
    const float* taps = nullptr;
    Index channels = 0;
    float* to = nullptr;
    Index step = 0;        // between channels
    Index point_step = 0;
};

struct ChannelPool {
    PoolKind kind = PoolKind::max;
    Index kernel_height = 0, kernel_width = 0;
    Index stride_y = 0, stride_x = 0;
    Index pad_y = 0, pad_x = 0;
    const float* from = nullptr;  // row 0, column 0 of a block of channels
    Index height = 0, width = 0;
    Index row_step = 0;
    Index row = 0;          // of the output
    Index columns = 0;      // of the output
    float* to = nullptr;    // of that row
};

// Some outputs of a linear layer for some pictures, from torch's (outputs, inputs) weights as they lie.
struct ChannelLinear {
    const float* weights = nullptr;  // of the first output
    Index inputs = 0;
    Index outputs = 0;
    const float* input = nullptr;  // of the first picture
    Index input_step = 0;          // between pictures
    Index pictures = 0;
    float* output = nullptr;
    Index output_step = 0;
    bool distances = false;  // Σ (x − w)² instead of Σ w·x
};

// Planes of one picture (channel, row, column) → blocks, or planes with a border.
struct ChannelPack {
    const void* planes = nullptr;  // first channel of the block, first row
    bool bytes = false;
    const float* scale = nullptr;  // by channel, with bytes
    const float* offset = nullptr;
    Index channels = 0;    // at most as many as there are lanes
    Index plane_step = 0;  // elements between channels
    Index columns = 0;
    float* to = nullptr;
};

// to = min(ceiling, max(floor, scale · from + offset)) of `count` positions of one block of channels.
struct ChannelAffine {
    const float* from = nullptr;
    const float* scale = nullptr;   // [lanes]
    const float* offset = nullptr;  // [lanes]
    float floor = 0, ceiling = 0;
    float* to = nullptr;
    Index count = 0;
};

struct ChannelNorm {  // response normalisation of `count` positions, all channels
    const float* from = nullptr;
    Index block_step = 0;
    float* to = nullptr;
    Index to_block_step = 0;
    Index count = 0;
    Index channels = 0;
    Index size = 0;
    float alpha = 0, beta = 0, k = 0;
    float* squares = nullptr;  // scratch: channels + size + lanes
    Index scratch_floats = 0;
};

}  // namespace convscope
