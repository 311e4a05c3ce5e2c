#include <algorithm>

#include "ops/layers.h"

namespace convscope {
namespace {

// Numbers of the model as maps, the same for every image: positional encodings, scales of whole layers. δ summed over the
// images is their gradient.
class ParameterLayer final : public Op {
public:
    ParameterLayer(const Record& record, const Shape& shape) : Op(record, {}, shape) {
        trained_ = optional_place(record.parameters, "value", shape.positions());
        check_names(record, record.parameters, {"value"});
        check_names(record, record.state, {"value"});
        if (!trained_.present()) fixed_ = required_place(record, record.state, "value", shape.positions());
    }

    std::vector<Place> parameter_places() const override { return {trained_}; }
    std::vector<Place> state_places() const override { return {fixed_}; }

    void forward(const Block& block) const override {
        const float* value = trained_.present() ? block.parameters + trained_.offset : block.state + fixed_.offset;
        for_rows(block.output, [&](Index map, Index row) {
            float* to = row_of(block.output, map, row);
            for (Index column = 0; column < output_shape.width; ++column, to += kBlock)
                std::fill_n(to, kBlock, *value++);
        });
    }

    void backward(const Block& block) const override {
        if (!block.gradients || !trained_.present()) return;
        float* gradient = block.gradients + trained_.offset;
        for_rows(block.delta, [&](Index map, Index row) {
            const float* from = row_of(block.delta, map, row);
            for (Index column = 0; column < output_shape.width; ++column, from += kBlock, ++gradient) {
                float total = 0;
                for (Index image = 0; image < kBlock; ++image) total += from[image];
                *gradient = total + (block.accumulate_gradient ? *gradient : 0.0f);
            }
        });
    }

private:
    Place trained_, fixed_;
};

}  // namespace

OpPointer make_parameter(const Record& record) {
    Attributes read(record);
    const Shape shape = read.shape("shape");
    read.finish();
    return std::make_unique<ParameterLayer>(record, shape);
}

}  // namespace convscope
