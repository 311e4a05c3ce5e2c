#include "ops/layers.h"

namespace convscope {
namespace {

// z = x ∘ y; a side of 1 goes with any other, as in torch, and its δ is the sum over that side.
class BinaryLayer final : public Op {
public:
    BinaryLayer(const Record& record, const std::vector<Shape>& shapes, const Shape& joined, BinaryKind kind)
        : Op(record, shapes, joined), kind_(kind) {}

    bool reads_input_in_backward() const override {
        return kind_ != BinaryKind::add && kind_ != BinaryKind::subtract;
    }

    void forward(const Block& block) const override {
        for_rows(block.output, [&](Index map, Index row) {
            Binary a = row_at(block.inputs, map, row);
            a.z = row_of(block.output, map, row);
            block.kernels->binary(a);
        });
        if (kind_ == BinaryKind::divide) clear_absent(block, block.output);
    }

    void backward(const Block& block) const override {
        bool add[2] = {};
        for (std::size_t i = 0; i < 2; ++i) {
            add[i] = block.accumulate_input_delta[i] || input_shapes[i] != output_shape;
            if (block.input_deltas[i].data && add[i] && !block.accumulate_input_delta[i])
                clear_maps(block.input_deltas[i]);
        }
        for_rows(block.delta, [&](Index map, Index row) {
            BinaryDelta a;
            a.forward = row_at(block.inputs, map, row);
            a.delta = row_of(block.delta, map, row);
            if (block.input_deltas[0].data) a.x_delta = operand_row(block.input_deltas[0], map, row);
            if (block.input_deltas[1].data) a.y_delta = operand_row(block.input_deltas[1], map, row);
            a.add_x = add[0];
            a.add_y = add[1];
            block.kernels->binary_delta(a);
        });
        if (kind_ != BinaryKind::divide) return;
        for (std::size_t i = 0; i < 2; ++i)
            if (block.input_deltas[i].data) clear_absent(block, block.input_deltas[i]);
    }

private:
    static float* operand_row(const Maps& maps, Index map, Index row) {
        return row_of(maps, maps.count == 1 ? 0 : map, maps.height == 1 ? 0 : row);
    }
    Index step(std::size_t input) const {
        return input_shapes[input].width == 1 && output_shape.width != 1 ? 0 : kBlock;
    }
    Binary row_at(const Maps* operands, Index map, Index row) const {
        Binary a;
        a.kind = kind_;
        a.x = operand_row(operands[0], map, row);
        a.y = operand_row(operands[1], map, row);
        a.x_step = step(0);
        a.y_step = step(1);
        a.count = output_shape.width;
        return a;
    }
    BinaryKind kind_;
};

}  // namespace

OpPointer make_binary(const Record& record, const std::vector<Shape>& inputs, BinaryKind kind) {
    Attributes(record).finish();
    const auto joined = [&](Index x, Index y) {
        if (x != y && x != 1 && y != 1)
            refuse(record, "cannot combine " + text(inputs[0]) + " with " + text(inputs[1]));
        return x == 1 ? y : x;
    };
    const Shape &x = inputs[0], &y = inputs[1];
    return std::make_unique<BinaryLayer>(
        record, inputs, Shape{joined(x.channels, y.channels), joined(x.height, y.height), joined(x.width, y.width)},
        kind);
}

}  // namespace convscope
