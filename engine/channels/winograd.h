// A 3×3 convolution of stride 1 by Winograd's F(m × m, 3 × 3) on blocks of channels (kernels/channels_winograd.cpp).
//
// A phase takes some tiles of the input to their points, all channels of them, in memory that the threads share; the next
// one multiplies: for a group of output channels the kernels are taken to their points on the way, point by point a
// product of matrices is added up, and the sums come back as rows of the output. Then the next tiles have their turn.
#pragma once

#include "channels/direct.h"

namespace convscope::channels {

class Winograd final : public Op {
public:
    static bool fits(const Filter& filter);

    Winograd(const KernelTable& kernels, ConvolutionSpec spec, int m, int input, int output);

    int phases(Index pictures) const override { return static_cast<int>(2 * chunks(pictures)); }
    Split split(int phase, Index pictures, int threads) const override;
    void run(int phase, const Part& part, const Job& job) const override;
    Index shared_floats(Index pictures) const override;
    Index scratch_floats(Index pictures, int threads) const override;
    double cycles(Index pictures) const override;
    std::string describe() const override;

private:
    Index points() const { return (m_ + 2) * (m_ + 2); }
    Index tile_rows() const { return (spec_.filter.output.height + m_ - 1) / m_; }
    Index tile_columns() const { return (spec_.filter.output.width + m_ - 1) / m_; }
    // Rows of tiles, of all pictures after each other, that are worked on at once.
    Index chunk_rows(Index pictures) const;
    Index chunks(Index pictures) const;
    Range rows_of(int phase, Index pictures) const;
    // What so many threads share out: the groups, or single blocks where the thread with most to do then has less.
    const std::vector<BlockGroup>& groups_for(int threads) const;

    void to_points(const Range& rows, Index block, const Job& job, const Range& own) const;
    // `next`: the group that comes after it, whose weights are fetched meanwhile; null: none.
    void multiply(const Range& rows, const Range& own, const BlockGroup& group, const BlockGroup* next,
                  const Job& job) const;
    void take_kernels(const BlockGroup& group, const Range& sources, const float* scale, const Job& job, float* taps,
                      float* kernels) const;
    void to_sums(const Range& rows, const BlockGroup& group, const float* bias, const float* products,
                 const Job& job) const;

    const KernelTable& kernels_;
    ConvolutionSpec spec_;
    int m_;
    Index lanes_;
    std::vector<BlockGroup> groups_, single_;  // of several blocks where registers allow; of one block each
    Index chunk_sources_ = 1;  // input blocks whose kernels are in scratch at once
};

}  // namespace convscope::channels
