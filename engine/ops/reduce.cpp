#include "ops/layers.h"

namespace convscope {
namespace {

// Sums, means and maxima over some of the three sides, which become 1.
class Reduction final : public Op {
public:
    Reduction(const Record& record, const Shape& input, const Shape& output, ReduceKind kind, bool shared)
        : Op(record, {input}, output), kind_(kind), shared_(shared) {}

    bool reads_input_in_backward() const override { return kind_ == ReduceKind::maximum; }
    bool reads_output_in_backward() const override { return kind_ == ReduceKind::maximum; }
    Index scratch_floats(bool backward, bool) const override {
        return backward && kind_ == ReduceKind::maximum ? output_shape.positions() * kBlock : 0;
    }

    void forward(const Block& block) const override {
        const Maps& x = block.inputs[0];
        for_rows(x, [&](Index map, Index row) {
            Reduce a;
            a.x = row_of(x, map, row);
            a.count = x.width;
            a.y = to_row(block.output, map, row);
            a.y_step = step();
            a.begins = (map == 0 || output_shape.channels > 1) && (row == 0 || output_shape.height > 1);
            (kind_ == ReduceKind::maximum ? block.kernels->reduce_max : block.kernels->reduce_sum)(a);
        });
        if (kind_ != ReduceKind::mean) return;
        for_rows(block.output, [&](Index map, Index row) {
            float* const at = row_of(block.output, map, row);
            block.kernels->affine(share(), 0.0f, 0.0f, at, at, output_shape.width);
        });
    }

    void backward(const Block& block) const override {
        if (kind_ == ReduceKind::maximum) return maximum_backward(block);
        const Maps& to = block.input_deltas[0];
        for_rows(to, [&](Index map, Index row) {
            block.kernels->spread_row(kind_ == ReduceKind::mean ? share() : 1.0f, to_row(block.delta, map, row), step(),
                                      row_of(to, map, row), to.width, block.accumulate_input_delta[0]);
        });
    }

private:
    void maximum_backward(const Block& block) const {
        const Maps& x = block.inputs[0];
        const Maps shares = dense_maps(output_shape, block.scratch);
        clear_maps(shares);
        const auto arguments = [&](Index map, Index row) {
            ReduceDelta a;
            a.x = row_of(x, map, row);
            a.count = x.width;
            a.y = to_row(block.output, map, row);
            a.delta = to_row(block.delta, map, row);
            a.shares = to_row(shares, map, row);
            a.y_step = step();
            a.x_delta = row_of(block.input_deltas[0], map, row);
            a.accumulate = block.accumulate_input_delta[0];
            return a;
        };
        if (shared_) for_rows(x, [&](Index map, Index row) { block.kernels->count_largest(arguments(map, row)); });
        const auto pass = shared_ ? block.kernels->shared_max_delta : block.kernels->first_max_delta;
        for_rows(x, [&](Index map, Index row) { pass(arguments(map, row)); });
    }

    Index step() const { return output_shape.width == 1 && input_shapes[0].width > 1 ? 0 : kBlock; }
    float share() const {
        return static_cast<float>(static_cast<double>(output_shape.positions()) /
                                  static_cast<double>(input_shapes[0].positions()));
    }
    static float* to_row(const Maps& maps, Index map, Index row) {
        return row_of(maps, maps.count == 1 ? 0 : map, maps.height == 1 ? 0 : row);
    }
    ReduceKind kind_;
    bool shared_;
};

}  // namespace

OpPointer make_reduction(const Record& record, const Shape& input) {
    Attributes read(record);
    const std::vector<Index> over = read.wholes("over", 0);
    ReduceKind kind = ReduceKind::sum;
    bool shared = false;
    if (record.kind == "reduce_mean") kind = ReduceKind::mean;
    if (record.kind == "reduce_max") {
        kind = ReduceKind::maximum;
        shared = read.whole("share", 0, 0) != 0;
    }
    read.finish();
    if (over.size() != 3) refuse(record, "attribute 'over' wants [channels, height, width], each 0 or 1");
    const Shape output{over[0] ? 1 : input.channels, over[1] ? 1 : input.height, over[2] ? 1 : input.width};
    return std::make_unique<Reduction>(record, input, output, kind, shared);
}

}  // namespace convscope
