// Where a network begins and ends, and where maps become one vector: between planes and blocks of channels.
#include <algorithm>

#include "channels/layers.h"

namespace convscope::channels {
namespace {

std::string shown(const std::string& name, const std::string& what, const Shape& shape) {
    return name + ": " + what + ", channels-blocked " + text(shape);
}

Split by_groups_and_rows(Index pictures, Index groups, Index rows, int threads) {
    Split split;
    split.pictures = pictures, split.groups = groups, split.rows = rows;
    const Index wanted = threads == 1 ? 1 : 2 * threads;
    split.picture_parts = std::min(pictures, wanted);
    split.group_parts = std::clamp<Index>(wanted / split.picture_parts, 1, groups);
    split.row_parts = std::clamp<Index>(wanted / split.picture_parts / split.group_parts, 1, rows);
    return split;
}

class Input final : public Op {
public:
    Input(const KernelTable& kernels, const Shape& shape) : Op("input", {}, 0), kernels_(kernels), shape_(shape) {}

    void arrange(const std::vector<Tensor>&, const Tensor& output_at, const Tensor&) override {
        groups_ = output_at.planar ? shape_.channels : blocks_of(shape_.channels, kernels_.lanes);
    }
    Split split(int, Index pictures, int threads) const override {
        return by_groups_and_rows(pictures, groups_, shape_.height, threads);
    }
    void run(int, const Part& part, const Job& job) const override {
        const Index unit = job.output.planar ? 1 : kernels_.lanes, area = shape_.height * shape_.width;
        ChannelPack pack;
        pack.bytes = job.source.bytes != nullptr;
        pack.plane_step = area;
        pack.columns = shape_.width;
        for (Index picture = part.pictures.begin; picture < part.pictures.end; ++picture)
            for (Index group = part.groups.begin; group < part.groups.end; ++group) {
                const Index first = group * unit;
                pack.channels = std::min(unit, shape_.channels - first);
                pack.scale = job.source.scale + first;
                pack.offset = job.source.offset + first;
                for (Index row = part.rows.begin; row < part.rows.end; ++row) {
                    const Index at = (picture * shape_.channels + first) * area + row * shape_.width;
                    pack.planes = pack.bytes ? static_cast<const void*>(job.source.bytes + at) : job.source.floats + at;
                    pack.to = job.output.at(picture, group, row);
                    if (job.output.planar) kernels_.channel_plane(pack);
                    else kernels_.channel_pack(pack);
                }
            }
    }
    double cycles(Index pictures) const override { return static_cast<double>(pictures * shape_.positions()) / 4; }
    std::string describe() const override { return shown(name, "pictures", shape_); }

private:
    const KernelTable& kernels_;
    Shape shape_;
    Index groups_ = 1;
};

// Into planes that follow each other: the caller's, or a vector of features.
class ToPlanes final : public Op {
public:
    ToPlanes(const KernelTable& kernels, std::string op_name, int input, int op_output, const Shape& shape)
        : Op(std::move(op_name), {input}, op_output), kernels_(kernels), shape_(shape) {}

    Split split(int, Index pictures, int threads) const override {
        return by_groups_and_rows(pictures, blocks_of(shape_.channels, kernels_.lanes), 1, threads);
    }
    void run(int, const Part& part, const Job& job) const override {
        const Index lanes = kernels_.lanes, area = shape_.height * shape_.width;
        const Tensor& from = job.inputs[0];
        const bool whole = from.dense(lanes);
        for (Index picture = part.pictures.begin; picture < part.pictures.end; ++picture) {
            float* const to = output < 0 ? job.target + picture * shape_.positions() : job.output.at(picture, 0, 0);
            for (Index block = part.groups.begin; block < part.groups.end; ++block) {
                const Index first = block * lanes, present = std::min(lanes, shape_.channels - first);
                for (Index row = 0; row < (whole ? 1 : shape_.height); ++row)
                    kernels_.channel_unpack(from.at(picture, block, row), present, whole ? area : shape_.width,
                                            to + first * area + row * shape_.width, area);
            }
            if (output >= 0 && part.groups.end == blocks_of(shape_.channels, lanes))
                std::fill(to + shape_.positions(), to + rounded_up(shape_.positions(), lanes), 0.0f);
        }
    }
    double cycles(Index pictures) const override { return static_cast<double>(pictures * shape_.positions()) / 4; }
    std::string describe() const override { return shown(name, output < 0 ? "output" : "flatten", shape_); }

private:
    const KernelTable& kernels_;
    Shape shape_;
};

}  // namespace

OpPointer make_input(const KernelTable& kernels, const Shape& shape) { return std::make_unique<Input>(kernels, shape); }

OpPointer make_output(const KernelTable& kernels, int value, const Shape& shape) {
    return std::make_unique<ToPlanes>(kernels, "output", value, -1, shape);
}

OpPointer make_flatten(const KernelTable& kernels, std::string name, int input, int output, const Shape& shape) {
    return std::make_unique<ToPlanes>(kernels, std::move(name), input, output, shape);
}

}  // namespace convscope::channels
