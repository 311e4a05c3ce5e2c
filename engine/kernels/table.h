// The kernels of one instruction set, as a table of functions; `dispatch/` picks one table at start.
#pragma once

#include "kernels/arguments.h"
#include "kernels/channels.h"
#include "kernels/regions.h"
#include "kernels/square.h"
#include "kernels/tensor_arguments.h"

namespace convscope {

inline constexpr int kMostMaps = 8;        // largest CB of a tile
inline constexpr int kMostPositions = 12;  // largest XB
inline constexpr int kMostTaps = 16;       // largest T
inline constexpr int kMostPoints = 8;      // of Winograd's tiles

inline constexpr int kMostChannelBlocks = 4;  // largest B of a tile
inline constexpr int kMostChannelPositions = 14;  // largest X
inline constexpr int kMostChannelTile = 4;  // largest m of F(m × m, 3 × 3)

using ConvolutionKernel = void (*)(const ConvolutionRow&);
using ChannelKernel = void (*)(const ChannelRow&);
using WeightGradientKernel = void (*)(const WeightGradient&);

struct KernelTable {
    const char* name = nullptr;
    int lanes = 0;
    // [CB][XB] and [CB][T]; null where the tile does not fit in the registers or is not worth its code.
    ConvolutionKernel convolution[kMostMaps + 1][kMostPositions + 1] = {};
    WeightGradientKernel weight_gradient[kMostMaps + 1][kMostTaps + 1] = {};

    // [points], and [points][outputs or taps]; null where there is none.
    void (*winograd_input[kMostPoints + 1])(const WinogradRow&) = {};
    void (*winograd_delta[kMostPoints + 1][kMostPoints])(const WinogradRow&) = {};
    void (*winograd_output[kMostPoints + 1][kMostPoints])(const WinogradSums&) = {};
    void (*winograd_taps[kMostPoints + 1][kMostPoints])(const WinogradTaps&) = {};

    void (*product)(const Product&) = nullptr;
    void (*square_input[kMostSquare + 1])(const SquareTiles&) = {};  // [m], and the next four
    void (*square_delta[kMostSquare + 1])(const SquareTiles&) = {};
    void (*square_sums[kMostSquare + 1])(const SquareSums&) = {};
    void (*square_weights[kMostSquare + 1])(const SquareWeights&) = {};
    void (*square_gradient[kMostSquare + 1])(const SquareGradient&) = {};
    // As many maps as a multiple of 16, to [row][column][image][map], `step` from image to image.
    void (*turn_maps)(const Maps& maps, float* to, Index step) = nullptr;

    void (*linear_forward)(const Linear&) = nullptr;
    void (*linear_input_delta)(const Linear&) = nullptr;
    void (*linear_weight_gradient)(const Linear&) = nullptr;

    void (*pool_forward)(const Pool&) = nullptr;
    void (*pool_backward)(const Pool&) = nullptr;
    void (*unpool)(const Unpool&) = nullptr;

    // f over `floats`, a multiple of the lanes; δ of u from δ of y over `count` positions, with f' from y, or from u for
    // the kinds that need it.
    void (*activate)(ActivationSpec, const float* u, float* y, Index floats) = nullptr;
    void (*differentiate)(ActivationSpec, const float* u, const float* y, const float* delta, float* input_delta,
                          Index count, bool accumulate) = nullptr;

    void (*pack_images)(const ImagePack&) = nullptr;
    void (*unpack_images)(const Maps& maps, Index images_present, float* images) = nullptr;
    void (*pack_deltas)(const float* images, Index images_present, const Maps& maps) = nullptr;

    void (*cross_entropy)(const Loss&) = nullptr;
    void (*squared_error)(const Loss&) = nullptr;
    void (*binary_cross_entropy)(const Loss&) = nullptr;
    void (*hinge)(const Loss&) = nullptr;
    void (*rbf_loss)(const Loss&) = nullptr;
    void (*softmax_forward)(const float* x, Index count, float* y) = nullptr;
    void (*softmax_backward)(const float* y, const float* delta, Index count, float* input_delta,
                             bool accumulate) = nullptr;

    // to = scale * (from - centre) + offset
    void (*affine)(float scale, float centre, float offset, const float* from, float* to, Index count) = nullptr;
    void (*scale_add)(float scale, const float* from, float* to, Index count) = nullptr;  // to += scale * from
    void (*moments)(Moments&) = nullptr;
    // to = a·x + b·(y − centre) + c in present images, 0 in the others; added to `to` when `accumulate`.
    void (*combine)(const Combine&) = nullptr;

    void (*response_norm_forward)(const ResponseNorm&) = nullptr;
    void (*response_norm_backward)(const ResponseNorm&) = nullptr;
    void (*dropout)(const Dropout&) = nullptr;
    void (*rbf_forward)(const Linear&) = nullptr;
    void (*rbf_input_delta)(const Linear&) = nullptr;
    void (*descend)(const Descent&) = nullptr;

    // The channels-blocked layout. [B][X]; null where the tile does not fit in the registers. `apart`: for any step
    // between positions, the other one for neighbouring ones.
    ChannelKernel channel_row[kMostChannelBlocks + 1][kMostChannelPositions + 1] = {};
    ChannelKernel channel_row_apart[kMostChannelBlocks + 1][kMostChannelPositions + 1] = {};
    void (*depthwise_row)(const DepthwiseRow&) = nullptr;
    void (*channel_tiles[kMostChannelTile + 1])(const ChannelTiles&) = {};  // [m]
    void (*channel_sums[kMostChannelTile + 1])(const ChannelSums&) = {};
    void (*channel_taps[kMostChannelTile + 1])(const ChannelTaps&) = {};
    void (*weight_panel)(const WeightPanel&) = nullptr;
    void (*channel_pack)(const ChannelPack&) = nullptr;   // planes → positions
    void (*channel_plane)(const ChannelPack&) = nullptr;  // a row of one plane
    void (*channel_unpack)(const float* from, Index channels, Index columns, float* to, Index plane_step) = nullptr;
    void (*channel_pool_row)(const ChannelPool&) = nullptr;
    void (*channel_affine)(const ChannelAffine&) = nullptr;
    void (*channel_add)(const float* a, const float* b, float* to, float floor, float ceiling, Index count) = nullptr;
    void (*channel_response_norm)(const ChannelNorm&) = nullptr;
    void (*channel_linear)(const ChannelLinear&) = nullptr;
    void (*binary)(const Binary&) = nullptr;
    void (*binary_delta)(const BinaryDelta&) = nullptr;
    void (*resample)(const Resample&) = nullptr;
    void (*resample_back)(const Resample&) = nullptr;
    void (*max_windows)(const MaxWindows&) = nullptr;
    void (*max_windows_back)(const MaxWindows&) = nullptr;
    void (*reduce_sum)(const Reduce&) = nullptr;
    void (*reduce_max)(const Reduce&) = nullptr;
    void (*spread_row)(float scale, const float* from, Index from_step, float* to, Index count,
                       bool accumulate) = nullptr;
    // to (+)= factor · from, `factor` one number an image
    void (*scale_images)(const float* factor, const float* from, float* to, Index count, bool accumulate) = nullptr;
    void (*count_largest)(const ReduceDelta&) = nullptr;
    void (*shared_max_delta)(const ReduceDelta&) = nullptr;
    void (*first_max_delta)(const ReduceDelta&) = nullptr;
    void (*clear_absent)(float* row, Index count, Index images_present) = nullptr;
    void (*group_norm)(const GroupNorm&) = nullptr;
    void (*group_norm_back)(const GroupNorm&) = nullptr;
    void (*position_norm)(const PositionNorm&) = nullptr;
    void (*position_norm_back)(const PositionNorm&) = nullptr;
    void (*position_softmax)(const PositionSoftmax&) = nullptr;
    void (*position_softmax_back)(const PositionSoftmax&) = nullptr;

    void (*region_max)(const RegionMax&) = nullptr;
    void (*region_sum)(const RegionSum&) = nullptr;
    void (*region_share)(const RegionSum&) = nullptr;
    void (*suppress)(const Rivals&, Index box, float most) = nullptr;
};

// One per instruction set that was compiled; only called when the processor has it.
namespace avx512 {
KernelTable kernel_table();
}
namespace avx2 {
KernelTable kernel_table();
}
namespace portable {
KernelTable kernel_table();
}

}  // namespace convscope
