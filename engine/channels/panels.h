// torch's weights on their way to a convolution tile: some output channels' rows for some blocks of input channels.
#pragma once

#include "channels/filter.h"
#include "channels/op.h"

namespace convscope::channels {

// Output channel blocks that are computed together, and the blocks of input channels that they read.
struct BlockGroup {
    Index first = 0;
    int blocks = 0;
    Range sources;  // input blocks; of a planar input, channels
};

// The groups of all output blocks. None reaches over the border between two of the filter's own groups where those are
// whole blocks; elsewhere (and with connection tables) a group reads all blocks that any of its channels reads, with
// weights of 0 where there is no connection.
std::vector<BlockGroup> group_blocks(const KernelTable& kernels, const Filter& filter, Index positions);

class Panels {
public:
    Panels(const Filter& filter, Index lanes, bool planar) : filter_(filter), lanes_(lanes), planar_(planar) {}

    // Floats of one block of output channels for so many sources.
    Index floats(Index sources) const { return sources * scalars() * lanes_; }
    // [source][tap][lane of the source][block][lanes of the outputs], scaled. `scale` has the lanes of all the blocks.
    void fill(const KernelTable& kernels, const float* parameters, const BlockGroup& group, Range sources,
              const float* scale, float* panel) const;

private:
    Index scalars() const { return filter_.area() * (planar_ ? 1 : lanes_); }
    void fill_rows(const KernelTable& kernels, const float* parameters, Index block, Range sources, const float* scale,
                   float* to, Index to_step) const;
    void fill_connections(const float* parameters, Index block, Range sources, const float* scale, float* to,
                          Index to_step) const;
    bool in_whole_blocks() const;

    const Filter& filter_;
    Index lanes_;
    bool planar_;
};

}  // namespace convscope::channels
