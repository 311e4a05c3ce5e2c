// Convolution by adding up, tap by tap, with what precedes and follows it in the plan.
#pragma once

#include "channels/panels.h"
#include "channels/tiles.h"

namespace convscope::channels {

// y = pool(f(s ⊙ (K ∗ x) + b + skip)); x may first be normalised, x ← f₀(s₀ ⊙ x + b₀), where the filter is 1×1.
struct ConvolutionSpec {
    std::string name;
    Filter filter;
    Folding folding;
    Finish finish;
    bool pooled = false;  // 2×2 windows, stride 2, the largest
    Folding before;       // empty: x is taken as it is
    Finish before_finish;
};

class Direct final : public Op {
public:
    Direct(const KernelTable& kernels, ConvolutionSpec spec, int input, int output, bool planar);

    Size input_border() const override { return spec_.filter.border(); }
    bool reads_planes() const override { return planar_; }
    void arrange(const std::vector<Tensor>& inputs_at, const Tensor& output_at, const Tensor& skip_at) override;
    Split split(int phase, Index pictures, int threads) const override;
    void run(int phase, const Part& part, const Job& job) const override;
    Index scratch_floats(Index pictures, int threads) const override;
    double cycles(Index pictures) const override;
    std::string describe() const override;

private:
    struct Sweep;

    void balance(Split& split, int threads) const;
    bool normalises_input() const { return !spec_.before.empty(); }
    Index positions() const { return spec_.filter.output.height * spec_.filter.output.width; }
    Index panel_floats() const;
    Index chunk_sources(const BlockGroup& group) const;
    Index most_sources() const;
    std::vector<Index> taps_of(Index sources, const Tensor& input) const;
    Tensor normalised(const Part& part, const Job& job) const;
    void sweep(const Sweep& sweep, const Part& part, const Job& job) const;
    void sweep_pooled(const Sweep& sweep, const ChannelRow& row, const RowTiles& tiles, Index picture, Index pooled_row,
                      const Job& job) const;

    const KernelTable& kernels_;
    ConvolutionSpec spec_;
    Index lanes_;
    bool planar_;
    bool flat_ = false;  // the positions of a picture follow each other like those of one row
    Panels panels_;
    std::vector<BlockGroup> groups_;
    std::vector<Index> taps_;  // of the largest chunk
};

}  // namespace convscope::channels
