// torch's weights on their way to a convolution tile: some output channels' rows for some blocks of input channels.
#pragma once

#include <algorithm>

#include "channels/filter.h"
#include "channels/op.h"
#include "channels/tiles.h"

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

// A part of the weights of a group, torch's rows one after the other: of `parts`, number `part`. Nothing where they are not
// whole rows of a plain filter, or too much for a second level that has other things to hold.
Ahead weights_of(const Filter& filter, Index lanes, const BlockGroup& group, const float* parameters, Index part,
                 Index parts);

class Panels {
public:
    Panels(const Filter& filter, Index lanes, bool planar) : filter_(filter), lanes_(lanes), planar_(planar) {}

    // Channels of a source that exist: of a single block that is not full, none of the others is multiplied.
    Index inner() const { return planar_ ? 1 : std::min(lanes_, filter_.input.channels); }
    // Floats of one block of output channels for so many sources.
    Index floats(Index sources) const { return sources * scalars() * lanes_; }
    // [source][tap][channel of the source][block][lanes of the outputs], scaled. `scale` has the lanes of all the blocks.
    void fill(const KernelTable& kernels, const float* parameters, const BlockGroup& group, Range sources,
              const float* scale, float* panel) const;

private:
    Index scalars() const { return filter_.area() * inner(); }
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
