// Convolutions and linear layers multiplied in low precision: the input is rounded as it is laid out for them, the weights
// on their way into panels, sums are taken back to float32 as they are stored.
#pragma once

#include "channels/layers.h"
#include "dispatch/low.h"

namespace convscope::channels {

// What a network in low precision is built with. `everywhere`: every layer that can is multiplied so; else those where it
// was measured to be quicker.
struct LowOptions {
    LowKernels kernels;
    bool everywhere = false;
};

// How 8-bit inputs stand for numbers: x = scale · (q − zero).
struct Quantised {
    float scale = 1, zero = 0;
};

// Why a layer stays in float32; empty where it need not.
std::string stays_single(const ConvolutionSpec& spec, Precision precision, bool planar, bool quantised);
// Whether the channels of a row of the kernel fit into one chunk.
bool is_narrow(const ConvolutionSpec& spec, Precision precision);

// A linear layer as a convolution of one position; `bytes` of weights that are worth it are those that several pictures
// share.
ConvolutionSpec as_convolution(const LinearSpec& linear);

inline constexpr Index kGroupOutputs = kLowBlocks * kLowOutputs;

class Low final : public Op {
public:
    Low(const KernelTable& kernels, LowKernels low, ConvolutionSpec spec, Quantised quantised, int input, int output,
        bool planar);

    int phases(Index) const override { return 2; }
    Split split(int phase, Index pictures, int threads) const override;
    void run(int phase, const Part& part, const Job& job) const override;
    Index shared_floats(Index pictures) const override;
    Index scratch_floats(Index pictures, int threads) const override;
    double cycles(Index pictures) const override;
    std::string describe() const override;
    bool reads_planes() const override { return planar_; }
    bool rounds(Index, int) override { return true; }

private:
    // Weights of up to 32 outputs, and what takes their sums back.
    struct Group {
        Index number = 0;
        Index first = 0;  // output
        int blocks = 0;
        Index lane_blocks = 0;
        const std::uint8_t* weights = nullptr;
        alignas(64) float scale[kGroupOutputs] = {}, bias[kGroupOutputs] = {};
        alignas(64) std::int32_t less[kGroupOutputs] = {};
        // Torch's weights of the next group, fetched while this one is multiplied: some with each product, of which there are
        // `calls` in all.
        const float* ahead = nullptr;
        const float* ahead_end = nullptr;
        Index calls = 1, call = 0;
    };

    // Some rows of a picture; of vectors, some pictures, each a row of one position.
    struct Area {
        Index picture = 0;
        Range rows;           // of sums, before pooling
        float* band = nullptr;  // where sums go that are pooled then
    };

    Index kind() const { return low_.precision == Precision::int8; }
    Index pitch() const { return spec_.filter.input.width + 2 * border_.x; }  // positions of a row, with its border
    Index padded_rows() const { return spec_.filter.input.height + 2 * border_.y; }
    Index position_bytes() const {
        return narrow_ ? spec_.filter.input.channels * bytes_of(low_.precision) : chunks_ * kChunkBytes;
    }
    Index row_bytes() const { return pitch() * position_bytes(); }
    // The last windows of narrow rows reach behind them: there must be numbers, for 0 times NaN is none.
    Index picture_bytes() const {
        return rounded_up(padded_rows() * row_bytes() + (narrow_ ? kChunkBytes : 0), kChunkBytes);
    }
    bool vector() const { return spec_.filter.input.height == 1 && spec_.filter.input.width == 1; }
    Index output_rows() const { return spec_.filter.output.height; }
    Index tap_count() const { return static_cast<Index>(taps_.size()); }
    Index panel_floats() const;
    Index band_rows() const;

    Index sum_floats() const { return kLowBlocks * kLowPositions * kLowOutputs; }
    std::uint8_t* converted(const Job& job) const { return reinterpret_cast<std::uint8_t*>(job.shared); }
    void convert(const Part& part, const Job& job) const;
    void multiply(const Part& part, const Job& job) const;
    void narrow_panel(Index first_output, Index outputs, Index kernel_row, const Job& job) const;
    void prepare(Index group, const Job& job, Group& to) const;
    void fetch_next(Index number, const Part& part, const Job& job, Group& group) const;
    void fetch_with(LowTile& tile, Group& group) const;
    void sweep(const Area& area, Group& group, const Job& job) const;
    void finish(const Area& area, const Group& group, Index first, Index count, const Job& job) const;
    void pool(const Area& area, const Group& group, const Job& job) const;

    const KernelTable& kernels_;
    LowKernels low_;
    ConvolutionSpec spec_;
    Quantised quantised_;
    bool planar_;
    Index lanes_;
    Size border_;
    Index chunks_;
    Index groups_;
    bool narrow_;  // all channels of a row of the kernel fit into one chunk, which is then a tap
    bool flat_;  // a picture's positions, borders between them, follow each other as those of one row
    std::vector<Index> taps_;
};

}  // namespace convscope::channels
