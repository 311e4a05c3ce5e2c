#include <algorithm>

#include "channels/layers.h"

namespace convscope::channels {
namespace {

// y = f(s ⊙ pool(x) + b)
class Pooling final : public Op {
public:
    Pooling(const KernelTable& kernels, std::string op_name, PoolKind kind, const PoolWindow& window, const Shape& shape,
            Folding folding, Finish finish, int input, int op_output)
        : Op(std::move(op_name), {input}, op_output),
          kernels_(kernels),
          kind_(kind),
          window_(window),
          shape_(shape),
          folding_(std::move(folding)),
          finish_(std::move(finish)) {}

    Split split(int, Index pictures, int threads) const override {
        Split split;
        split.pictures = pictures;
        split.groups = blocks_of(shape_.channels, kernels_.lanes);
        split.rows = window_.output.height;
        const Index wanted = threads == 1 ? 1 : 2 * threads;
        split.group_parts = std::min(split.groups, wanted);
        split.picture_parts = std::clamp<Index>(wanted / split.group_parts, 1, pictures);
        split.row_parts = std::clamp<Index>(wanted / split.group_parts / split.picture_parts, 1, split.rows);
        return split;
    }

    void run(int, const Part& part, const Job& job) const override {
        const Index lanes = kernels_.lanes;
        const Tensor& input = job.inputs[0];
        ChannelPool pool;
        pool.kind = kind_;
        pool.kernel_height = window_.kernel.y, pool.kernel_width = window_.kernel.x;
        pool.stride_y = window_.stride.y, pool.stride_x = window_.stride.x;
        pool.pad_y = window_.padding.y, pool.pad_x = window_.padding.x;
        pool.height = shape_.height, pool.width = shape_.width;
        pool.row_step = input.row_step;
        pool.columns = window_.output.width;
        alignas(64) float scale[16], bias[16];
        ChannelAffine affine;
        affine.scale = scale, affine.offset = bias;
        affine.floor = finish_.floor, affine.ceiling = finish_.ceiling;
        affine.count = pool.columns;
        const bool changes = !folding_.empty() || !finish_.does_nothing();
        for (Index block = part.groups.begin; block < part.groups.end; ++block) {
            folding_.at(job.parameters, job.state, block * lanes, shape_.channels - block * lanes, lanes, scale, bias);
            for (Index picture = part.pictures.begin; picture < part.pictures.end; ++picture)
                for (Index row = part.rows.begin; row < part.rows.end; ++row) {
                    pool.from = input.at(picture, block, 0);
                    pool.row = row;
                    pool.to = job.output.at(picture, block, row);
                    kernels_.channel_pool_row(pool);
                    if (!changes) continue;
                    affine.from = affine.to = pool.to;
                    kernels_.channel_affine(affine);
                    finish_.run(kernels_, pool.to, pool.columns * lanes);
                }
        }
    }

    double cycles(Index pictures) const override {
        return static_cast<double>(pictures * blocks_of(shape_.channels, kernels_.lanes) * window_.output.height *
                                   window_.output.width * window_.kernel.y * window_.kernel.x);
    }
    std::string describe() const override {
        return name + ": pooling " + std::to_string(window_.kernel.y) + "×" + std::to_string(window_.kernel.x) +
               ", channels-blocked " + text(window_.output);
    }

private:
    const KernelTable& kernels_;
    PoolKind kind_;
    PoolWindow window_;
    Shape shape_;
    Folding folding_;
    Finish finish_;
};

}  // namespace

OpPointer make_pool(const KernelTable& kernels, std::string name, PoolKind kind, const PoolWindow& window,
                    const Shape& input_shape, Folding folding, Finish finish, int input, int output) {
    return std::make_unique<Pooling>(kernels, std::move(name), kind, window, input_shape, std::move(folding),
                                     std::move(finish), input, output);
}

}  // namespace convscope::channels
