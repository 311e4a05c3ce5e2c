#include <algorithm>

#include "channels/layers.h"

namespace convscope::channels {
namespace {

// y = f(s ⊙ (W x) + b), W as torch has it.
class Linear final : public Op {
public:
    Linear(const KernelTable& kernels, LinearSpec spec, int input, int op_output)
        : Op(spec.name, {input}, op_output), kernels_(kernels), spec_(std::move(spec)) {}

    Split split(int, Index pictures, int threads) const override {
        Split split;
        split.pictures = pictures;
        split.groups = blocks_of(spec_.outputs, kernels_.lanes);
        // A thread streams through its own rows of weights; few long streams are what memory is quickest at.
        split.group_parts = std::min<Index>(split.groups, threads == 1 ? 1 : 2 * threads);
        return split;
    }

    void run(int, const Part& part, const Job& job) const override {
        const Index lanes = kernels_.lanes;
        const Range outputs{part.groups.begin * lanes, std::min(part.groups.end * lanes, spec_.outputs)};
        ChannelLinear a;
        a.weights = (spec_.weight_in_state ? job.state : job.parameters) + spec_.weight.offset +
                    outputs.begin * spec_.inputs;
        a.inputs = spec_.inputs;
        a.outputs = outputs.size();
        a.input = job.inputs[0].at(part.pictures.begin, 0, 0);
        a.input_step = job.inputs[0].picture_step;
        a.pictures = part.pictures.size();
        a.output = job.output.at(part.pictures.begin, part.groups.begin, 0);
        a.output_step = job.output.picture_step;
        a.distances = spec_.distances;
        kernels_.channel_linear(a);
        for (Index block = part.groups.begin; block < part.groups.end; ++block) finish(block, part.pictures, job);
    }

    double cycles(Index pictures) const override {
        return static_cast<double>((pictures + 2) * spec_.inputs * spec_.outputs) / static_cast<double>(kernels_.lanes);
    }
    std::string describe() const override {
        return name + ": linear, channels-blocked, " + std::to_string(spec_.inputs) + " → " +
               std::to_string(spec_.outputs);
    }

private:
    // The block's own lanes are overwritten with zeros where there is no output.
    void finish(Index block, const Range& pictures, const Job& job) const {
        alignas(64) float scale[16], bias[16];
        const Index lanes = kernels_.lanes, first = block * lanes, present = std::min(lanes, spec_.outputs - first);
        spec_.folding.at(job.parameters, job.state, first, present, lanes, scale, bias);
        ChannelAffine affine;
        affine.scale = scale, affine.offset = bias;
        affine.floor = spec_.finish.floor, affine.ceiling = spec_.finish.ceiling;
        affine.count = 1;
        for (Index picture = pictures.begin; picture < pictures.end; ++picture) {
            float* const row = job.output.at(picture, block, 0);
            std::fill(row + present, row + lanes, 0.0f);
            affine.from = affine.to = row;
            kernels_.channel_affine(affine);
            spec_.finish.run(kernels_, row, lanes);
        }
    }

    const KernelTable& kernels_;
    LinearSpec spec_;
};

}  // namespace

OpPointer make_linear(const KernelTable& kernels, LinearSpec spec, int input, int output) {
    return std::make_unique<Linear>(kernels, std::move(spec), input, output);
}

}  // namespace convscope::channels
