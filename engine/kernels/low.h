// What the kernels of low precision take: products of bfloat16 or of 8-bit integers, everything else in float32.
//
// Pictures become [row][column][channels], a position's channels filled up to whole chunks of 64 bytes: 32 numbers of
// bfloat16 or 64 bytes. A tap is such a chunk of a neighbouring position. 16 output channels of a tap are 1 KiB of weights:
// [pair or four of channels][output][channel of these], as AMX and the dot products of AVX-512 want them.
#pragma once

#include "kernels/arguments.h"

namespace convscope {

enum class Precision : std::int32_t { single, bfloat16, int8 };

inline constexpr Index kChunkBytes = 64;
inline constexpr Index kLowOutputs = 16;     // of a block
inline constexpr Index kLowPositions = 32;   // of a product, at most
inline constexpr int kLowBlocks = 2;         // of a product, at most
inline constexpr Index kTapBytes = 1024;     // of the weights of one tap and block
constexpr Index chunk_channels(Precision precision) { return precision == Precision::int8 ? 64 : 32; }
constexpr Index bytes_of(Precision precision) { return precision == Precision::int8 ? 1 : 2; }

// Neighbouring positions of blocks of channels → positions of chunks. An 8-bit number is min(255, max(0, round(x / scale)
// + zero)), ties to even; a NaN becomes the least.
struct LowConvert {
    const float* from = nullptr;  // first block
    Index block_step = 0;
    Index blocks = 0;
    Index positions = 0;
    std::uint8_t* to = nullptr;
    Index position_bytes = 0;
    float inverse = 0;  // 1 / scale
    float zero = 0;
};

// The same of a few channels, with no room between positions: a row's windows of all channels then lie in one chunk.
struct LowConvertFew {
    const float* from = nullptr;
    Index channel_step = 0;   // floats
    Index position_step = 0;  // floats
    Index channels = 0;
    Index positions = 0;
    std::uint8_t* to = nullptr;
    Index position_bytes = 0;
    float inverse = 0;
    float zero = 0;
};

// A chunk of one tap of 16 outputs, [channel][16 floats] → 1 KiB. 8-bit weights are round(w · inverse), at most ±127; their
// sum is added to `sums`.
struct LowWeights {
    const float* from = nullptr;
    const float* inverse = nullptr;  // by output
    std::int32_t* sums = nullptr;    // by output
    std::uint8_t* to = nullptr;
};

// sums[block][position][output] = Σ over taps and channels, of float32 or int32.
struct LowTile {
    const std::uint8_t* input = nullptr;  // position 0, before any tap
    const Index* taps = nullptr;          // bytes
    Index tap_count = 0;
    Index position_step = 0;  // bytes
    Index positions = 0;      // 32 are read whatever this is
    const std::uint8_t* weights = nullptr;  // [tap][block]
    int blocks = 0;
    void* sums = nullptr;  // [block][32][16]
    // What is wanted next, up to `ahead_end`: each tap fetches `ahead_lines` lines of 64 bytes into the second level.
    const std::uint8_t* ahead = nullptr;
    const std::uint8_t* ahead_end = nullptr;
    Index ahead_lines = 0;
};

// y = min(ceiling, max(floor, scale · (sum − less) + bias + skip)) of positions of one block that follow each other.
struct LowFinish {
    const void* sums = nullptr;  // of the first position
    const float* scale = nullptr;  // [16]
    const float* bias = nullptr;
    const std::int32_t* less = nullptr;  // of int32
    float floor = 0, ceiling = 0;
    Index positions = 0;
    Index lane_blocks = 0;  // registers of outputs that there are
    float* to = nullptr;
    Index block_step = 0;
    const float* skip = nullptr;  // or null
    Index skip_block_step = 0;
};

using LowProduct = void (*)(const LowTile&);

// Of one instruction set. Products by [bfloat16, int8]; null where it has none.
struct LowTable {
    void (*convert[2])(const LowConvert&) = {};
    void (*convert_few[2])(const LowConvertFew&) = {};
    void (*weights[2])(const LowWeights&) = {};
    void (*finish[2])(const LowFinish&) = {};
    // The largest |w| of a row; NaN where it holds what is not finite.
    float (*extent)(const float* row, Index count) = nullptr;
    LowProduct plain[2] = {};   // the same sums in plain loops
    LowProduct madd[2] = {};    // int8 by products of 16-bit pairs
    LowProduct dot[2] = {};     // AVX512-BF16, AVX512-VNNI
    LowProduct tiles[2] = {};   // AMX
    void (*begin_tiles)() = nullptr;  // a thread's, before its products by tiles and behind them
    void (*end_tiles)() = nullptr;
};

namespace avx512 {
LowTable low_table();
}
namespace avx2 {
LowTable low_table();
}
namespace portable {
LowTable low_table();
}

}  // namespace convscope
