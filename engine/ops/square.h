// A layer of 3 × 3 kernels by Winograd's F(m × m, 3 × 3) in all three passes: 36 products for 16 sums of nine with m = 4,
// 16 for 4 with m = 2, which is for maps that fill no tile of 4 × 4. Weights change form on the way, a panel of 16 output
// maps at a time, so that nothing is packed; sums differ from direct ones by rounding only (kernels/winograd_points.h).
#pragma once

#include <string>

#include "kernels/table.h"
#include "ops/correlation.h"

namespace convscope {

class WinogradSquare {
public:
    WinogradSquare() = default;
    // Stride and dilation are 1, and every output map has every input map. `rotated`: the weights stand from the last
    // tap to the first.
    WinogradSquare(const Shape& input, const Shape& output, Size padding, bool rotated, int side);

    bool exists() const { return input_.channels > 0; }

    // `call.packed` are the layer's weights themselves.
    void forward(const CorrelationCall& call, float* scratch, const Team& team) const {
        run(call, forward_, scratch, team);
    }
    void input_delta(const CorrelationCall& call, float* scratch, const Team& team) const {
        run(call, backward_, scratch, team);
    }
    // `delta` holds all rows.
    void gradient(const KernelTable& kernels, const Maps& input, const Maps& delta, float* gradient, bool accumulate,
                  float* scratch, const Team& team) const;

    Index forward_floats() const { return exists() ? forward_.floats() : 0; }
    Index input_delta_floats() const { return exists() ? backward_.floats() : 0; }
    Index gradient_floats() const;
    // Of a block of 16 images, by the model, a multiply-add of 16 images being one.
    double forward_cycles() const { return cycles_of(forward_); }
    double input_delta_cycles() const { return cycles_of(backward_); }
    double gradient_cycles() const;
    std::string describe() const;

private:
    // Forward or back: `from` maps, `to` maps, and tiles of the latter.
    struct Pass {
        int side = 0;
        bool back = false;
        Index from = 0, to = 0;
        Index top = 0, left = 0;
        Index across = 0, tiles = 0;
        Index band = 0;   // tiles at once
        Index chunk = 0;  // source maps at once

        Index source_map() const { return (band | 1) * kBlock; }
        Index source_point() const { return ((from * (band | 1)) | 1) * kBlock; }
        Index sum_point() const { return ((kBlock * (band | 1)) | 1) * kBlock; }
        Index points() const { return (side + 2) * (side + 2); }
        Index panel_floats() const;
        Index panels() const { return back ? (chunk + kBlock - 1) / kBlock : 1; }
        Index floats() const;
    };

    static Pass pass_of(const Shape& source, const Shape& destination, Size corner, int side, bool back);
    void run(const CorrelationCall& call, const Pass& pass, float* scratch, const Team& team) const;
    // Weights of maps `to` … to + 15 and of a chunk of source maps, into panels.
    void turn_weights(const CorrelationCall& call, const Pass& pass, Index to, Index from, Index sources,
                      float* panels) const;
    static double cycles_of(const Pass& pass) { return cycles_of(pass, pass.tiles, pass.to); }
    static double cycles_of(const Pass& pass, Index tiles, Index to);

    // Of weight gradients: a piece is some input maps times some output maps.
    Index piece_sources() const;
    Index piece_maps() const;
    Index pieces() const;
    Index delta_step() const { return (((conv_.channels + kBlock - 1) / kBlock) | 1) * kBlock; }
    Index delta_point() const { return gradient_band_ * kBlock * delta_step() + kBlock; }
    Index turned_sources() const { return (input_.channels + kBlock - 1) / kBlock * kBlock; }
    Index turned_point() const { return ((turned_sources() * (gradient_band_ | 1)) | 1) * kBlock; }
    Index piece_point() const { return piece_sources() * piece_maps() + kBlock; }
    void turn_band(const KernelTable& kernels, const Maps& input, const Maps& delta, const Team::Own& own, Index first,
                   Index count, float* turned, float* turned_delta) const;

    Shape input_, conv_;
    int side_ = 0;  // m
    Index points_ = 0;
    bool rotated_ = false;
    Pass forward_, backward_;
    Index gradient_band_ = 0;
};

}  // namespace convscope
