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

// A linear layer as a convolution of one position; `bytes` of weights that are worth it are those that several pictures
// share.
ConvolutionSpec as_convolution(const LinearSpec& linear);

class Low final : public Op {
public:
    Low(const KernelTable& kernels, LowKernels low, ConvolutionSpec spec, Quantised quantised, int input, int output);

    int phases(Index) const override { return 2; }
    Split split(int phase, Index pictures, int threads) const override;
    void run(int phase, const Part& part, const Job& job) const override;
    Index shared_floats(Index pictures) const override;
    Index scratch_floats(Index pictures, int threads) const override;
    double cycles(Index pictures) const override;
    std::string describe() const override;
    bool rounds(Index, int) override { return true; }

private:
    struct Group;
    struct Area;

    Index kind() const { return low_.precision == Precision::int8; }
    Index pitch() const { return spec_.filter.input.width + 2 * border_.x; }  // positions of a row, with its border
    Index padded_rows() const { return spec_.filter.input.height + 2 * border_.y; }
    Index position_bytes() const { return chunks_ * kChunkBytes; }
    Index picture_bytes() const { return padded_rows() * pitch() * position_bytes(); }
    bool vector() const { return spec_.filter.input.height == 1 && spec_.filter.input.width == 1; }
    Index output_rows() const { return spec_.filter.output.height; }
    Index tap_count() const { return chunks_ * spec_.filter.area(); }
    Index panel_floats() const;
    Index band_rows() const;

    std::uint8_t* converted(const Job& job) const { return reinterpret_cast<std::uint8_t*>(job.shared); }
    void convert(const Part& part, const Job& job) const;
    void multiply(const Part& part, const Job& job) const;
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
    Index lanes_;
    Size border_;
    Index chunks_;
    Index groups_;
    bool flat_;  // a picture's positions, borders between them, follow each other as those of one row
    std::vector<Index> taps_;
};

}  // namespace convscope::channels
