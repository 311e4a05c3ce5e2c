// What the kernels of F(m × m, 3 × 3) in blocks of 16 images take, m being 2 or 4, and the product of matrices between
// them. All steps are in floats.
//
// A tile of m × m positions has (m + 2)² values, its points; planes of them are [point][map][tile][16 images]. Weights and their
// gradients pass in panels of 16 output maps: [point][input map][16 output maps].
#pragma once

#include "kernels/arguments.h"

namespace convscope {

inline constexpr int kMostSquare = 4;  // largest m

// c[map][column] = Σ over k of a(map, k) · b[k][column]. a's numbers stand in runs: number i of run r lies at
// map · a_map + r · a_jump + i · a_step. Columns are a multiple of 16 floats; a and c may lie anywhere.
struct Product {
    const float* a = nullptr;
    Index a_map = 0, a_step = 0;
    Index a_run = 0, a_jump = 0;
    const float* b = nullptr;
    Index b_step = 0;
    float* c = nullptr;
    Index c_step = 0;
    Index maps = 0, depth = 0, columns = 0;
    bool accumulate = false;
};

// Tiles first … first+count−1 of `across` in a row; tile (y, x) begins at row m·y + top, column m·x + left of the maps,
// and outside of them there are zeros.
struct SquareTiles {
    Maps maps;
    Index top = 0, left = 0;
    Index across = 0, first = 0, count = 0;
    float* planes = nullptr;
    Index point_step = 0;
    Index map_step = 0;  // in the planes; of δ: from an image of a tile to the next
};

// The way back, of one panel of maps.
struct SquareSums {
    const float* planes = nullptr;
    Index point_step = 0, map_step = 0;
    Index across = 0, first = 0, count = 0;
    Maps maps;                    // there are at most 16
    const float* bias = nullptr;  // of each map, or null
    float floor = 0;
    bool accumulate = false;  // start from what the maps hold, not from the bias
};

// One panel: weights (output map, input map, 3, 3), `row_step` from output map to output map.
struct SquareWeights {
    const float* weights = nullptr;
    Index row_step = 0;
    Index rows = 0;     // output maps there are, at most 16
    Index sources = 0;  // input maps
    bool rotated = false;
    float* panel = nullptr;
    Index point_step = 0;
};

struct SquareGradient {
    const float* panel = nullptr;
    Index point_step = 0, source_step = 0;
    float* gradient = nullptr;  // as SquareWeights' weights
    Index row_step = 0;
    Index rows = 0, sources = 0;
    bool rotated = false;
    bool accumulate = false;
};

}  // namespace convscope
