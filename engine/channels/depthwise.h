// A convolution with one kernel a channel, on lanes of channels.
#pragma once

#include "channels/direct.h"

namespace convscope::channels {

class Depthwise final : public Op {
public:
    Depthwise(const KernelTable& kernels, ConvolutionSpec spec, int input, int output)
        : Op(spec.name, {input}, output), kernels_(kernels), spec_(std::move(spec)) {}

    Size input_border() const override { return spec_.filter.border(); }
    Split split(int phase, Index pictures, int threads) const override;
    void run(int phase, const Part& part, const Job& job) const override;
    Index scratch_floats(Index, int) const override { return spec_.filter.area() * kernels_.lanes; }
    double cycles(Index pictures) const override;
    std::string describe() const override;

private:
    const KernelTable& kernels_;
    ConvolutionSpec spec_;
};

}  // namespace convscope::channels
