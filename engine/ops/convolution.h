#pragma once

#include "ops/channel_product.h"
#include "ops/op.h"
#include "ops/square.h"
#include "ops/weight_correlation.h"
#include "ops/winograd.h"
#include "ops/winograd_gradient.h"

namespace convscope {

// Convolution with bias, then an activation, then (where the plan had one) non-overlapping max pooling: what the graph
// fused into it. u = K ∗ x + b, y = pool(f(u)); δ of u is f′ times the unpooled δ, ∂J/∂K the correlation of x with it,
// δ of x its correlation with the rotated, transposed kernel (Bouvrie 2006, section 3.1).
class Convolution final : public Op {
public:
    Convolution(const KernelTable& kernels, const Record& record, const Shape& input);

    static Shape output_of(const Record& record, const Shape& input);
    // The kernel covers the whole picture: then the layer is fully connected, with the same weights.
    static bool is_linear(const Record& record, const Shape& input);

    bool can_take_activation() const override { return true; }
    void take(ActivationSpec activation) override { activation_ = activation; }
    bool can_fuse_pool(Size kernel) const;
    void fuse_pool(Size kernel);
    // Sums are taken as a fused pooling would have them, a row of windows at a time.
    void sum_by_rows();

    bool shares() const override { return true; }
    int phases(bool backward) const override;
    Size input_border() const override;
    std::vector<Place> parameter_places() const override { return {weight_, bias_}; }
    bool reads_input_in_backward() const override { return trainable; }
    bool reads_output_in_backward() const override { return activation_.kind != Activation::identity; }
    Index saved_bytes() const override;
    Index scratch_floats(bool backward, bool wants_input_delta) const override;
    Index packed_floats() const override;
    void arrange(const std::vector<Maps>& inputs_at, const Maps& delta_at) override;
    void prepare(const float* parameters, float* packed, bool backward, int part, int parts) const override;
    void forward(const Block& block) const override;
    void backward(const Block& block) const override;
    double cycles(int lanes, double near_bytes) const override;
    std::string describe() const override;

private:
    friend class TransposedConvolution;  // runs the same passes in each other's place

    bool pooled() const { return pool_.y > 0; }
    Index weight_index(Index to, std::size_t source_number, Index ky, Index kx) const;
    void connect(const Record& record);
    bool is_dense() const;
    void build_input_deltas();
    void build_gradients();
    void build_square();
    void build_product();
    void forward_pooled(const Block& block, const CorrelationCall& call) const;
    void pool_rows(const Block& block, Index first, Index maps, Index row) const;
    void weight_gradients(const Block& block, const Maps& delta, Index first_row, Index rows, bool accumulate) const;
    bool gradients_by_winograd() const { return winograd_gradients_.exists(); }
    void bias_gradients(const Block& block, const Maps& delta) const;
    Maps delta_scratch(const Block& block) const;
    bool copies_delta() const {
        return pooled() || (!by_square_.delta && (delta_border_.y != 0 || delta_border_.x != 0));
    }
    Index delta_map_step() const;
    bool packs_forward() const { return !by_square_.forward && !by_product_.forward; }
    bool packs_delta() const { return !by_square_.delta && !by_product_.delta; }
    Index forward_packed_floats() const { return packs_forward() ? forward_.packed_floats() : 0; }
    // Whether f is taken when all sums are there.
    bool activates_apart() const;
    Unpool unpooling(const Block& block) const;
    void pass_back(const Block& block) const;
    void input_delta(const Block& block, const Maps& delta) const;
    Index band_rows() const;
    Index own_scratch_floats(bool backward, bool wants_input_delta) const;

    const KernelTable& kernels_;
    Shape input_, conv_;  // conv_: before pooling
    Size kernel_, stride_, padding_, dilation_;
    Index groups_ = 1;
    bool flip_ = false;
    Connections sources_;  // input maps of each output map
    std::vector<Index> first_kernel_;          // of each output map, in the weights
    Place weight_, bias_;
    ActivationSpec activation_;
    Size pool_;
    Size delta_border_;
    CorrelationPass forward_;
    std::vector<CorrelationPass> input_deltas_;  // one a phase of the stride
    WeightCorrelation gradients_;
    WinogradGradient winograd_gradients_;
    // What a pass goes by: F(m × m, 3 × 3), a product of matrices, or neither.
    struct Passes {
        bool forward = false, delta = false, gradient = false;
    };
    WinogradSquare square_;
    ChannelProduct product_;
    Passes by_square_, by_product_;
};

}  // namespace convscope
