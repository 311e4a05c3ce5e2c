// Which way a convolution is computed.
#pragma once

#include "channels/layers.h"

namespace convscope::channels {

// The way that takes the fewest cycles by the model: one for each number of pictures, where they differ. `planar`: the
// input is in planes. Linear where the filter covers its whole picture; its input is then one vector.
OpPointer make_convolution(const KernelTable& kernels, ConvolutionSpec spec, int input, int output, bool planar);

}  // namespace convscope::channels
