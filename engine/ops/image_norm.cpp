// Normalisation and softmax within each image.
#include "ops/layers.h"

namespace convscope {
namespace {

// γ and β of a layer, one a map, and their gradients: collected in doubles, in the scratch of the backward pass.
class ScaleAndOffset {
public:
    ScaleAndOffset(const Record& record, Index maps)
        : maps_(maps),
          weight_(optional_place(record.parameters, "weight", maps)),
          bias_(optional_place(record.parameters, "bias", maps)) {
        check_names(record, record.parameters, {"weight", "bias"});
    }

    std::vector<Place> places() const { return {weight_, bias_}; }
    Index scratch_floats() const { return (4 * maps_ + kBlock - 1) / kBlock * kBlock; }
    const float* scale(const Block& block) const {
        return weight_.present() ? block.parameters + weight_.offset : nullptr;
    }
    const float* offset(const Block& block) const {
        return bias_.present() ? block.parameters + bias_.offset : nullptr;
    }

    struct Sums {
        double* scale = nullptr;
        double* offset = nullptr;
    };
    Sums begin(const Block& block) const {
        if (!block.gradients) return {};
        auto* const sums = reinterpret_cast<double*>(block.scratch);
        std::fill_n(sums, 2 * maps_, 0.0);
        return {sums, sums + maps_};
    }
    void finish(const Block& block, const Sums& sums) const {
        if (!block.gradients) return;
        put(block, weight_, sums.scale);
        put(block, bias_, sums.offset);
    }

private:
    void put(const Block& block, const Place& place, const double* sums) const {
        if (!place.present()) return;
        for (Index map = 0; map < maps_; ++map) {
            float& to = block.gradients[place.offset + map];
            to = static_cast<float>(sums[map]) + (block.accumulate_gradient ? to : 0.0f);
        }
    }
    Index maps_;
    Place weight_, bias_;
};

Maps part_of(const Maps& maps, Index first, Index count) {
    Maps part = maps;
    part.count = count;
    if (part.data) part.data += first * maps.map_step;
    return part;
}

// Statistics over all positions of a group of neighbouring maps (Wu and He 2018). One group: layer normalisation of whole
// images; as many as maps: instance normalisation.
class GroupNormLayer final : public Op {
public:
    GroupNormLayer(const Record& record, const Shape& input, Index groups, double epsilon)
        : Op(record, {input}, input), groups_(groups), epsilon_(static_cast<float>(epsilon)), affine_(record, input.channels) {}

    std::vector<Place> parameter_places() const override { return affine_.places(); }
    bool reads_input_in_backward() const override { return true; }
    Index saved_bytes() const override { return groups_ * 2 * kBlock * 4; }
    Index scratch_floats(bool backward, bool) const override { return backward ? affine_.scratch_floats() : 0; }

    void forward(const Block& block) const override {
        for (Index group = 0; group < groups_; ++group) block.kernels->group_norm(arguments(block, group));
    }

    void backward(const Block& block) const override {
        const ScaleAndOffset::Sums sums = affine_.begin(block);
        const Index maps = output_shape.channels / groups_;
        for (Index group = 0; group < groups_; ++group) {
            GroupNorm a = arguments(block, group);
            a.delta = part_of(block.delta, group * maps, maps);
            a.input_delta = part_of(block.input_deltas[0], group * maps, maps);
            a.scale_gradient = sums.scale ? sums.scale + group * maps : nullptr;
            a.offset_gradient = sums.offset ? sums.offset + group * maps : nullptr;
            a.accumulate = block.accumulate_input_delta[0];
            block.kernels->group_norm_back(a);
        }
        affine_.finish(block, sums);
    }

private:
    GroupNorm arguments(const Block& block, Index group) const {
        const Index maps = output_shape.channels / groups_;
        const float* const scale = affine_.scale(block);
        const float* const offset = affine_.offset(block);
        GroupNorm a;
        a.input = part_of(block.inputs[0], group * maps, maps);
        a.output = part_of(block.output, group * maps, maps);
        a.scale = scale ? scale + group * maps : nullptr;
        a.offset = offset ? offset + group * maps : nullptr;
        a.epsilon = epsilon_;
        a.mean = reinterpret_cast<float*>(block.saved) + group * 2 * kBlock;
        a.inverse = a.mean + kBlock;
        return a;
    }
    Index groups_;
    float epsilon_;
    ScaleAndOffset affine_;
};

// Statistics over the maps at each position: torch's LayerNorm of a channels-last tensor.
class LayerNormLayer final : public Op {
public:
    LayerNormLayer(const Record& record, const Shape& input, double epsilon)
        : Op(record, {input}, input), epsilon_(static_cast<float>(epsilon)), affine_(record, input.channels) {}

    std::vector<Place> parameter_places() const override { return affine_.places(); }
    bool reads_input_in_backward() const override { return true; }
    Index saved_bytes() const override { return output_shape.height * output_shape.width * 2 * kBlock * 4; }
    Index scratch_floats(bool backward, bool) const override {
        return backward ? affine_.scratch_floats() + 2 * output_shape.width * kBlock : 0;
    }

    void forward(const Block& block) const override {
        for (Index row = 0; row < output_shape.height; ++row) block.kernels->position_norm(arguments(block, row));
    }

    void backward(const Block& block) const override {
        const ScaleAndOffset::Sums sums = affine_.begin(block);
        for (Index row = 0; row < output_shape.height; ++row) {
            PositionNorm a = arguments(block, row);
            a.delta = row_of(block.delta, 0, row);
            a.delta_map_step = block.delta.map_step;
            a.input_delta = block.input_deltas[0].data ? row_of(block.input_deltas[0], 0, row) : nullptr;
            a.input_delta_map_step = block.input_deltas[0].map_step;
            a.sums = block.scratch + affine_.scratch_floats();
            a.scale_gradient = sums.scale;
            a.offset_gradient = sums.offset;
            a.accumulate = block.accumulate_input_delta[0];
            block.kernels->position_norm_back(a);
        }
        affine_.finish(block, sums);
    }

private:
    PositionNorm arguments(const Block& block, Index row) const {
        PositionNorm a;
        a.input = row_of(block.inputs[0], 0, row);
        a.map_step = block.inputs[0].map_step;
        a.maps = output_shape.channels;
        a.columns = output_shape.width;
        if (block.output.data) a.output = row_of(block.output, 0, row);
        a.output_map_step = block.output.map_step;
        a.scale = affine_.scale(block);
        a.offset = affine_.offset(block);
        a.epsilon = epsilon_;
        a.mean = reinterpret_cast<float*>(block.saved) + row * 2 * output_shape.width * kBlock;
        a.inverse = a.mean + output_shape.width * kBlock;
        return a;
    }
    float epsilon_;
    ScaleAndOffset affine_;
};

// Over the maps of each position.
class ChannelSoftmaxLayer final : public Op {
public:
    ChannelSoftmaxLayer(const Record& record, const Shape& input, bool logarithm)
        : Op(record, {input}, input), logarithm_(logarithm) {}
    bool reads_output_in_backward() const override { return true; }

    void forward(const Block& block) const override {
        for (Index row = 0; row < output_shape.height; ++row) {
            PositionSoftmax a = arguments(block, row);
            a.x = row_of(block.inputs[0], 0, row);
            a.x_map_step = block.inputs[0].map_step;
            block.kernels->position_softmax(a);
        }
    }
    void backward(const Block& block) const override {
        for (Index row = 0; row < output_shape.height; ++row) {
            PositionSoftmax a = arguments(block, row);
            a.delta = row_of(block.delta, 0, row);
            a.delta_map_step = block.delta.map_step;
            a.x_delta = row_of(block.input_deltas[0], 0, row);
            a.x_delta_map_step = block.input_deltas[0].map_step;
            a.accumulate = block.accumulate_input_delta[0];
            block.kernels->position_softmax_back(a);
        }
    }

private:
    PositionSoftmax arguments(const Block& block, Index row) const {
        PositionSoftmax a;
        a.y = row_of(block.output, 0, row);
        a.y_map_step = block.output.map_step;
        a.maps = output_shape.channels;
        a.columns = output_shape.width;
        a.logarithm = logarithm_;
        return a;
    }
    bool logarithm_;
};

}  // namespace

OpPointer make_group_norm(const Record& record, const Shape& input) {
    Attributes read(record);
    const Index groups = read.whole("groups", 1);
    const double epsilon = read.number("eps", 1e-5);
    read.finish();
    if (input.channels % groups != 0)
        refuse(record, "groups " + std::to_string(groups) + " does not divide " + std::to_string(input.channels) + " maps");
    return std::make_unique<GroupNormLayer>(record, input, groups, epsilon);
}

OpPointer make_layer_norm(const Record& record, const Shape& input) {
    Attributes read(record);
    const double epsilon = read.number("eps", 1e-5);
    read.finish();
    return std::make_unique<LayerNormLayer>(record, input, epsilon);
}

OpPointer make_channel_softmax(const Record& record, const Shape& input, bool logarithm) {
    return std::make_unique<ChannelSoftmaxLayer>(record, input, logarithm);
}

}  // namespace convscope
