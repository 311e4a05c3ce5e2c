// Gradients of kernels by Winograd's short algorithm: r taps from tiles of m columns of δ, with m + r − 1 products.
#pragma once

#include <string>
#include <vector>

#include "ops/weight_correlation.h"
#include "ops/winograd.h"

namespace convscope {

class WinogradGradient {
public:
    WinogradGradient() = default;
    // Axes of the convolution itself; `rotated`: the weights stand from the last tap to the first. Where the columns do
    // not suit, exists() is false.
    WinogradGradient(const KernelTable& kernels, Axis rows, Axis columns,
                     const Connections& sources, Index source_maps, bool rotated);

    bool exists() const { return form_.points > 0; }
    // Of a block of 16 images, by the model.
    double cycles() const;
    Index scratch_floats() const;

    // `delta` holds rows first_row … of the convolution's output; `gradient` (connection, tap row, tap column).
    void run(const KernelTable& kernels, const Maps& input, const Maps& delta, Index first_row, float* gradient,
             bool accumulate, float* scratch) const;
    std::string describe() const;

private:
    Index source_rows(Index rows) const { return (rows - 1) * rows_.step + (rows_.taps - 1) * rows_.tap + 1; }
    Maps source_plane(float* scratch) const;
    Maps delta_plane(float* scratch) const;
    float* sums(float* scratch) const;

    WinogradForm form_;
    Axis rows_, columns_;
    Index source_maps_ = 0, maps_ = 0;
    bool rotated_ = false;
    Index band_ = 0;
    Index source_plane_step_ = 0, delta_plane_step_ = 0, sum_plane_step_ = 0;
    WeightCorrelation plane_;
};

}  // namespace convscope
