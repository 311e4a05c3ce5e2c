#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/layers.h"

namespace convscope {
namespace {

std::size_t row_bytes(const Maps& maps) { return static_cast<std::size_t>(maps.width * kBlock) * sizeof(float); }

// to = from, or to += from, of this thread's maps.
void pass_on(const Block& block, const Maps& from, const Maps& to, bool accumulate) {
    for_own_rows(block, from, [&](Index map, Index row) {
        if (accumulate) block.kernels->scale_add(1.0f, row_of(from, map, row), row_of(to, map, row), from.width);
        else std::memcpy(row_of(to, map, row), row_of(from, map, row), row_bytes(from));
    });
}

class ActivationLayer final : public Op {
public:
    ActivationLayer(const Record& record, const Shape& input, ActivationSpec spec)
        : Op(record, {input}, input),
          spec_(spec),
          from_output_(has_derivative_of_output(spec.kind)),
          unbounded_(is_unbounded(spec.kind)) {}

    bool reads_input_in_backward() const override { return !from_output_; }
    bool reads_output_in_backward() const override { return from_output_; }
    bool shares() const override { return true; }

    void forward(const Block& block) const override {
        for_own_rows(block, block.output, [&](Index map, Index row) {
            block.kernels->activate(spec_, row_of(block.inputs[0], map, row), row_of(block.output, map, row),
                                    output_shape.width * kBlock);
        });
        if (unbounded_) clear_absent(block, block.output);
    }
    void backward(const Block& block) const override {
        for_own_rows(block, block.delta, [&](Index map, Index row) {
            const float* u = from_output_ ? nullptr : row_of(block.inputs[0], map, row);
            const float* y = from_output_ ? row_of(block.output, map, row) : nullptr;
            block.kernels->differentiate(spec_, u, y, row_of(block.delta, map, row),
                                         row_of(block.input_deltas[0], map, row), output_shape.width,
                                         block.accumulate_input_delta[0]);
        });
        if (unbounded_) clear_absent(block, block.input_deltas[0]);
    }

private:
    // Infinite, or of infinite slope, at 0: which is what lanes without an image may hold.
    static bool is_unbounded(Activation kind) {
        switch (kind) {
            case Activation::exponential:
            case Activation::logarithm:
            case Activation::square_root:
            case Activation::inverse_root:
            case Activation::reciprocal:
            case Activation::power: return true;
            default: return false;
        }
    }
    ActivationSpec spec_;
    bool from_output_, unbounded_;
};

// Kept units are divided by 1 − p; in evaluation the input passes unchanged.
class DropoutLayer final : public Op {
public:
    DropoutLayer(const Record& record, const Shape& input, double p, Index side)
        : Op(record, {input}, input), p_(p), side_(side) {}

    void forward(const Block& block) const override { drop(block, block.inputs[0], block.output, false); }
    void backward(const Block& block) const override {
        drop(block, block.delta, block.input_deltas[0], block.accumulate_input_delta[0]);
    }

private:
    void drop(const Block& block, const Maps& from, const Maps& to, bool accumulate) const {
        if (!block.training || p_ == 0) return pass_on(block, from, to, accumulate);
        Dropout a;
        // Neighbouring seeds, steps and layers differ in every bit of the key after the generator's 20 rounds.
        a.key[0] = static_cast<std::uint32_t>(block.seed ^ (block.seed >> 32)) +
                   0x9E3779B9u * static_cast<std::uint32_t>(output);
        a.key[1] = static_cast<std::uint32_t>(block.step) ^ static_cast<std::uint32_t>(block.step >> 32) * 0x85EBCA6Bu;
        a.first_image = static_cast<std::uint32_t>(block.first_image);
        a.threshold = static_cast<std::uint32_t>(std::min(std::ldexp(p_, 32), 4294967295.0));
        a.scale = p_ < 1 ? static_cast<float>(1 / (1 - p_)) : 0.0f;
        if (side_ > 0) return drop_together(block, a, from, to, accumulate);
        a.accumulate = accumulate;
        // A row starts at an even unit, because units share random bits two by two.
        const Index row_units = (from.width + 1) / 2 * 2;
        for_rows(from, [&](Index map, Index row) {
            a.input = row_of(from, map, row);
            a.output = row_of(to, map, row);
            a.units = from.width;
            a.first_unit = static_cast<std::uint32_t>((map * from.height + row) * row_units);
            block.kernels->dropout(a);
        });
    }
    // Whole maps, or the whole image: one unit's chance decides for all of its positions.
    void drop_together(const Block& block, Dropout a, const Maps& from, const Maps& to, bool accumulate) const {
        alignas(64) float ones[kBlock], factor[kBlock];
        std::fill_n(ones, kBlock, 1.0f);
        a.input = ones;
        a.output = factor;
        a.units = 1;
        for (Index map = 0; map < from.count; ++map) {
            if (map == 0 || side_ == 1) {
                a.first_unit = static_cast<std::uint32_t>(2 * map);
                block.kernels->dropout(a);
            }
            for (Index row = 0; row < from.height; ++row)
                block.kernels->scale_images(factor, row_of(from, map, row), row_of(to, map, row), from.width, accumulate);
        }
    }

    double p_;
    Index side_;  // 0: units drop alone; 1: maps; 2: images
};

class Add final : public Op {
public:
    Add(const Record& record, const std::vector<Shape>& shapes) : Op(record, shapes, shapes[0]) {}
    bool shares() const override { return true; }
    void forward(const Block& block) const override {
        for (std::size_t i = 0; i < inputs.size(); ++i) pass_on(block, block.inputs[i], block.output, i > 0);
    }
    void backward(const Block& block) const override {
        for (std::size_t i = 0; i < inputs.size(); ++i)
            if (block.input_deltas[i].data)
                pass_on(block, block.delta, block.input_deltas[i], block.accumulate_input_delta[i]);
    }
};

class Concatenate final : public Op {
public:
    Concatenate(const Record& record, const std::vector<Shape>& shapes, const Shape& joined)
        : Op(record, shapes, joined) {}
    bool shares() const override { return true; }
    void forward(const Block& block) const override {
        Index first = 0;
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            Maps part = block.output;
            part.data = row_of(block.output, first, 0);
            pass_on(block, block.inputs[i], part, false);
            first += input_shapes[i].channels;
        }
    }
    void backward(const Block& block) const override {
        Index first = 0;
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            Maps part = block.delta;
            part.data = row_of(block.delta, first, 0);
            part.count = input_shapes[i].channels;
            if (block.input_deltas[i].data)
                pass_on(block, part, block.input_deltas[i], block.accumulate_input_delta[i]);
            first += input_shapes[i].channels;
        }
    }
};

// The same numbers in the same order as one long vector; the input may have a border, the output has none.
class Flatten final : public Op {
public:
    Flatten(const Record& record, const Shape& input) : Op(record, {input}, {input.positions(), 1, 1}) {}
    bool writes_dense_output() const override { return true; }
    void forward(const Block& block) const override {
        pass_on(block, block.inputs[0], dense_maps(input_shapes[0], block.output.data), false);
    }
    void backward(const Block& block) const override {
        pass_on(block, dense_maps(input_shapes[0], block.delta.data), block.input_deltas[0],
                block.accumulate_input_delta[0]);
    }
};

}  // namespace

bool has_derivative_of_output(Activation kind) {
    switch (kind) {
        case Activation::identity:
        case Activation::relu:
        case Activation::relu6:
        case Activation::logistic:
        case Activation::tanh:
        case Activation::scaled_tanh:
        case Activation::hard_tanh: return true;
        default: return false;
    }
}

std::optional<ActivationSpec> activation_of(const Record& record) {
    struct Known {
        const char* kind;
        Activation activation;
        const char* a;
        double a_default;
        const char* b;
        double b_default;
    };
    static const Known known[] = {
        {"identity", Activation::identity, nullptr, 0, nullptr, 0},
        {"relu", Activation::relu, nullptr, 0, nullptr, 0},
        {"relu6", Activation::relu6, nullptr, 0, nullptr, 0},
        {"tanh", Activation::tanh, nullptr, 0, nullptr, 0},
        {"silu", Activation::silu, nullptr, 0, nullptr, 0},
        {"softplus", Activation::softplus, nullptr, 0, nullptr, 0},
        {"sigmoid", Activation::logistic, "slope", 1, nullptr, 0},
        {"leaky_relu", Activation::leaky_relu, "negative_slope", 0.01, nullptr, 0},
        {"elu", Activation::elu, "alpha", 1, nullptr, 0},
        {"scaled_tanh", Activation::scaled_tanh, "amplitude", 1.7159, "slope", 2.0 / 3.0},
        {"hard_tanh", Activation::hard_tanh, "low", -1, "high", 1},
        {"clamp", Activation::clamp, "low", -HUGE_VAL, "high", HUGE_VAL},
        {"gelu", Activation::gelu, nullptr, 0, nullptr, 0},
        {"gelu_tanh", Activation::gelu_tanh, nullptr, 0, nullptr, 0},
        {"mish", Activation::mish, nullptr, 0, nullptr, 0},
        {"hard_swish", Activation::hard_swish, nullptr, 0, nullptr, 0},
        {"soft_sign", Activation::soft_sign, nullptr, 0, nullptr, 0},
        {"tanh_shrink", Activation::tanh_shrink, nullptr, 0, nullptr, 0},
        {"hard_shrink", Activation::hard_shrink, "lambda", 0.5, nullptr, 0},
        {"soft_shrink", Activation::soft_shrink, "lambda", 0.5, nullptr, 0},
        {"threshold", Activation::threshold, "threshold", 0, "value", 0},
        {"absolute", Activation::absolute, nullptr, 0, nullptr, 0},
        {"exponential", Activation::exponential, nullptr, 0, nullptr, 0},
        {"logarithm", Activation::logarithm, nullptr, 0, nullptr, 0},
        {"square_root", Activation::square_root, nullptr, 0, nullptr, 0},
        {"inverse_root", Activation::inverse_root, nullptr, 0, nullptr, 0},
        {"reciprocal", Activation::reciprocal, nullptr, 0, nullptr, 0},
        {"power", Activation::power, "exponent", 1, nullptr, 0},
        {"erf", Activation::erf, nullptr, 0, nullptr, 0},
    };
    for (const Known& each : known) {
        if (record.kind != each.kind) continue;
        Attributes read(record);
        ActivationSpec spec{each.activation, 0, 0};
        if (each.a) spec.a = static_cast<float>(read.number(each.a, each.a_default));
        if (each.b) spec.b = static_cast<float>(read.number(each.b, each.b_default));
        read.finish();
        return spec;
    }
    return std::nullopt;
}

OpPointer make_activation(const Record& record, const Shape& input, ActivationSpec spec) {
    return std::make_unique<ActivationLayer>(record, input, spec);
}

OpPointer make_dropout(const Record& record, const Shape& input) {
    Attributes read(record);
    const double p = read.number("p", 0.5);
    const Index side = read.whole("together", 0, 0);
    read.finish();
    if (!(p >= 0 && p <= 1)) refuse(record, "attribute 'p' is " + std::to_string(p) + ", wanted 0 to 1");
    if (side > 2) refuse(record, "attribute 'together' is " + std::to_string(side) + ", wanted 0: units, 1: maps, 2: images");
    return std::make_unique<DropoutLayer>(record, input, p, side);
}

OpPointer make_add(const Record& record, const std::vector<Shape>& inputs) {
    Attributes(record).finish();
    const bool alike = std::all_of(inputs.begin(), inputs.end(), [&](const Shape& each) { return each == inputs[0]; });
    if (!alike && inputs.size() == 2) return make_binary(record, inputs, BinaryKind::add);
    if (!alike) refuse(record, "adds more than two inputs of one shape only");
    return std::make_unique<Add>(record, inputs);
}

OpPointer make_concat(const Record& record, const std::vector<Shape>& inputs) {
    Attributes(record).finish();
    Shape joined = inputs[0];
    joined.channels = 0;
    for (const Shape& each : inputs) {
        if (each.height != joined.height || each.width != joined.width)
            refuse(record, "cannot join " + text(each) + " with " + text(inputs[0]) + " along the channels");
        joined.channels += each.channels;
    }
    return std::make_unique<Concatenate>(record, inputs, joined);
}

OpPointer make_flatten(const Record& record, const Shape& input) {
    Attributes(record).finish();
    return std::make_unique<Flatten>(record, input);
}

}  // namespace convscope
