// Every layer of the channels-blocked layout but convolutions.
#pragma once

#include "channels/direct.h"
#include "ops/layers.h"

namespace convscope::channels {

// The caller's pictures → value 0, in blocks of channels, or in planes with the border that a first convolution wants.
OpPointer make_input(const KernelTable& kernels, const Shape& shape);
// A value → the caller's array (n, c, h, w), and the same as a value (flattening).
OpPointer make_output(const KernelTable& kernels, int value, const Shape& shape);
OpPointer make_flatten(const KernelTable& kernels, std::string name, int input, int output, const Shape& shape);

struct LinearSpec {
    std::string name;
    Index inputs = 0, outputs = 0;
    Place weight;
    bool weight_in_state = false;
    bool distances = false;
    Folding folding;
    Finish finish;
};
OpPointer make_linear(const KernelTable& kernels, LinearSpec spec, int input, int output);

OpPointer make_pool(const KernelTable& kernels, std::string name, PoolKind kind, const PoolWindow& window,
                    const Shape& input_shape, Folding folding, Finish finish, int input, int output);

// f(s ⊙ x + b); the folding may be empty.
OpPointer make_affine(const KernelTable& kernels, std::string name, const Shape& shape, Folding folding, Finish finish,
                      int input, int output);
// f(Σ inputs)
OpPointer make_sum(const KernelTable& kernels, std::string name, const Shape& shape, Finish finish,
                   std::vector<int> inputs, int output);
// Channels `first` … of `output` are those of the input; `joined` is the shape of the whole.
OpPointer make_copy(const KernelTable& kernels, std::string name, const Shape& shape, Index first, int input,
                    int output);
OpPointer make_selection(const KernelTable& kernels, ConvolutionSpec spec, int input, int output);
OpPointer make_softmax(const KernelTable& kernels, std::string name, Index classes, int input, int output);
OpPointer make_response_norm(const KernelTable& kernels, const Record& record, const Shape& shape, int input,
                             int output);

}  // namespace convscope::channels
