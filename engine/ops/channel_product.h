// A layer of 1 × 1 kernels, stride 1, as products of matrices: weights are read where torch has them, forward along their
// rows, for δ along their columns, and weight gradients are written where torch wants them. Nothing is packed, and no
// gradient is added up over lanes: for it the input is transposed, so that lanes are input maps.
#pragma once

#include "kernels/table.h"
#include "ops/correlation.h"

namespace convscope {

class ChannelProduct {
public:
    ChannelProduct() = default;
    ChannelProduct(const Shape& input, Index output_maps) : input_(input), maps_(output_maps) {}

    // `call.packed` are the layer's weights themselves; no floor is taken.
    void forward(const CorrelationCall& call, const Team& team) const;
    void input_delta(const CorrelationCall& call, const Team& team) const;
    // Input maps are a multiple of 16; `delta` and `input` hold the same rows.
    void gradient(const KernelTable& kernels, Maps input, Maps delta, float* gradient, bool accumulate,
                  float* scratch, const Team& team) const;
    Index gradient_floats() const { return rows_at_once() * input_.width * kBlock * turned_step(); }

private:
    Index rows_at_once() const;
    Index turned_step() const { return (input_.channels / kBlock | 1) * kBlock; }

    Shape input_;
    Index maps_ = 0;
};

}  // namespace convscope
