#include "channels/fuse.h"

#include <algorithm>

#include "ops/layers.h"

namespace convscope::channels {
namespace {

std::size_t at(int number) { return static_cast<std::size_t>(number); }

// Its largest value comes of its largest argument, so that it may come after a maximum.
bool rises(const ActivationSpec& spec) {
    switch (spec.kind) {
        case Activation::silu: return false;
        case Activation::leaky_relu:
        case Activation::elu: return spec.a >= 0;
        case Activation::logistic: return spec.a > 0;
        case Activation::scaled_tanh: return spec.a * spec.b > 0;
        case Activation::hard_tanh:
        case Activation::clamp: return spec.a <= spec.b;
        case Activation::identity:
        case Activation::relu:
        case Activation::relu6:
        case Activation::tanh:
        case Activation::softplus:
        case Activation::soft_sign:
        case Activation::erf: return true;
        default: return false;
    }
}

bool is_normalisation(const Record& record) {
    if (record.kind == "batch_norm") return true;
    if (record.kind != "subsample") return false;
    Attributes read(record);
    const Size kernel = read.size("kernel_size", 1), stride = read.size("stride", 1, kernel);
    return kernel.y == 1 && kernel.x == 1 && stride.y == 1 && stride.x == 1;
}

void add_normalisation(const Record& record, Index channels, Folding& folding) {
    const Place weight = optional_place(record.parameters, "weight", channels);
    const Place bias = optional_place(record.parameters, "bias", channels);
    if (record.kind == "subsample") return folding.add_affine(weight, bias);
    Attributes read(record);
    folding.add_normalisation(weight, bias, required_place(record, record.state, "running_mean", channels),
                              required_place(record, record.state, "running_var", channels),
                              read.number("eps", 1e-5));
}

class Fuser {
public:
    Fuser(const Shape& input, const std::vector<Record>& records, const std::vector<int>& outputs)
        : records_(records), outputs_(outputs) {
        int most = 0;
        for (const Record& record : records) most = std::max(most, record.output);
        fused_.shapes.resize(at(most) + 1);
        fused_.shapes[0] = input;
        for (int value = 0; value <= most; ++value) fused_.alias.push_back(value);
        find_needed();
        uses_.resize(at(most) + 1);
        for (std::size_t number = 0; number < records.size(); ++number) {
            if (!needed_[number]) continue;
            for (const int value : records[number].inputs) uses_[at(value)].push_back(number);
        }
        made_.assign(at(most) + 1, false);
        made_[0] = true;
        done_.assign(records.size(), false);
        for (std::size_t number = 0; number < records.size(); ++number) {
            const Record& record = records[number];
            if (record.output < 0) continue;
            std::vector<Shape> shapes;
            for (const int value : record.inputs) shapes.push_back(shape(value));
            shape(record.output) = shape_of(record, shapes);
        }
    }

    Fused run() {
        for (std::size_t number = 0; number < records_.size(); ++number)
            if (needed_[number] && !done_[number]) add(number);
        take_normalisations_before();
        for (Layer& layer : fused_.layers) {
            for (int& value : layer.inputs) value = fused_.alias[at(value)];
            if (layer.skip >= 0) layer.skip = fused_.alias[at(layer.skip)];
        }
        return std::move(fused_);
    }

private:
    Shape& shape(int value) { return fused_.shapes[at(value)]; }

    void find_needed() {
        std::vector<bool> wanted(fused_.shapes.size(), false);
        for (const int output : outputs_) wanted[at(output)] = true;
        needed_.assign(records_.size(), false);
        for (std::size_t number = records_.size(); number-- > 0;) {
            const Record& record = records_[number];
            if (record.output < 0 || !wanted[at(record.output)]) continue;
            needed_[number] = true;
            for (const int value : record.inputs) wanted[at(value)] = true;
        }
    }

    // The only record that reads `value`, if the caller does not want to see it.
    const Record* only_reader(int value, std::size_t& number) const {
        const auto& uses = uses_[at(value)];
        if (uses.size() != 1 || std::find(outputs_.begin(), outputs_.end(), value) != outputs_.end()) return nullptr;
        number = uses[0];
        return &records_[number];
    }

    // The record's output is its input under another name.
    bool passes_on(const Record& record) {
        if (record.kind == "dropout" || record.kind == "identity") return true;
        if (record.kind == "concat" || record.kind == "add") return record.inputs.size() == 1;
        const Shape& input = shape(record.inputs[0]);
        return record.kind == "flatten" && input.height == 1 && input.width == 1;
    }

    void add(std::size_t number) {
        const Record& record = records_[number];
        done_[number] = true;
        if (passes_on(record)) {
            fused_.alias[at(record.output)] = fused_.alias[at(record.inputs[0])];
            made_[at(record.output)] = true;
            return;
        }
        Layer layer;
        layer.record = &record;
        layer.name = record.name;
        layer.inputs = record.inputs;
        layer.output = record.output;
        layer.shape = shape(record.output);
        layer.input = shape(record.inputs[0]);
        const bool multiplies = record.kind == "conv2d" || record.kind == "linear";
        const Place bias = optional_place(record.parameters, "bias", layer.shape.channels);
        if (multiplies && bias.present()) layer.folding.add_bias(bias);
        if (record.kind == "batch_norm" || record.kind == "subsample")
            add_normalisation(record, layer.shape.channels, layer.folding);
        if (const auto spec = activation_of(record)) layer.finish = Finish::of(*spec);
        take_followers(layer);
        made_[at(layer.output)] = true;
        fused_.layers.push_back(std::move(layer));
    }

    void take(Layer& layer, const Record& reader, std::size_t number) {
        done_[number] = true;
        layer.name += "+" + reader.name;
        layer.output = reader.output;
        layer.shape = shape(reader.output);
    }

    void skip_names(Layer& layer) {
        std::size_t next = 0;
        const Record* reader = only_reader(layer.output, next);
        while (reader && passes_on(*reader)) {
            done_[next] = true;
            layer.output = reader->output;
            layer.shape = shape(reader->output);
            reader = only_reader(layer.output, next);
        }
    }

    void take_followers(Layer& layer) {
        const std::string& kind = layer.record->kind;
        const bool folds = kind == "conv2d" || kind == "linear" || is_normalisation(*layer.record);
        const bool adds_up = kind == "conv2d" && adds_positions_up(layer);
        if (kind == "flatten" || kind == "softmax" || kind == "concat" || kind == "response_norm" ||
            kind == "rbf_units" || activation_of(*layer.record))
            return;
        std::size_t next = 0;
        const auto reader_of = [&] {
            skip_names(layer);
            return only_reader(layer.output, next);
        };
        const Record* reader = reader_of();
        while (folds && reader && is_normalisation(*reader)) {
            add_normalisation(*reader, layer.shape.channels, layer.folding);
            take(layer, *reader, next);
            reader = reader_of();
        }
        if (adds_up && reader && reader->kind == "add" && reader->inputs.size() == 2 &&
            reader->inputs[0] != reader->inputs[1]) {
            const int other = reader->inputs[reader->inputs[0] == layer.output ? 1 : 0];
            if (made_[at(other)]) {
                layer.skip = other;
                take(layer, *reader, next);
                reader = reader_of();
            }
        }
        std::optional<ActivationSpec> spec;
        if (reader && (spec = activation_of(*reader))) {
            layer.finish = Finish::of(*spec);
            take(layer, *reader, next);
            reader = reader_of();
        }
        if (adds_up && reader && pools_by_two(layer, *reader) && (!spec || rises(*spec))) {
            layer.pooled = true;
            take(layer, *reader, next);
        }
    }

    // A convolution proper, whose sums may be added to another value and pooled before they are stored.
    static bool adds_positions_up(const Layer& layer) {
        const Filter filter = Filter::of(*layer.record, layer.input);
        return !filter.is_selection() && !filter.is_linear();
    }

    bool pools_by_two(const Layer& layer, const Record& reader) {
        if (reader.kind != "max_pool" || layer.skip >= 0) return false;
        if (Filter::of(*layer.record, layer.input).is_depthwise()) return false;
        Attributes read(reader);
        const PoolWindow window = read_window(read, reader, layer.shape);
        return window.kernel.y == 2 && window.kernel.x == 2 && window.stride.y == 2 && window.stride.x == 2 &&
               window.padding.y == 0 && window.padding.x == 0 && window.output.height == layer.shape.height / 2 &&
               window.output.width == layer.shape.width / 2;
    }

    // A normalisation that only a 1×1 convolution reads is worked out as that reads its input.
    void take_normalisations_before() {
        std::vector<Layer>& layers = fused_.layers;
        for (Layer& layer : layers) {
            if (layer.record->kind != "conv2d") continue;
            const Filter filter = Filter::of(*layer.record, layer.input);
            if (!filter.is_pointwise() || !filter.is_plain() || filter.is_linear()) continue;
            const int input = fused_.alias[at(layer.inputs[0])];
            const auto found = std::find_if(layers.begin(), layers.end(), [&](const Layer& each) {
                return each.output == input && is_normalisation(*each.record);
            });
            if (found == layers.end() || readers_of(input) != 1) continue;
            layer.before = found->folding;
            layer.before_finish = found->finish;
            layer.inputs = found->inputs;
            layer.name = found->name + "+" + layer.name;
            found->output = -1;
        }
        std::erase_if(layers, [](const Layer& layer) { return layer.output < 0; });
    }

    std::size_t readers_of(int value) const {
        std::size_t count = 0;
        for (const int output : outputs_) count += fused_.alias[at(output)] == value;
        for (const Layer& layer : fused_.layers) {
            for (const int input : layer.inputs) count += fused_.alias[at(input)] == value;
            count += layer.skip >= 0 && fused_.alias[at(layer.skip)] == value;
        }
        return count;
    }

    const std::vector<Record>& records_;
    const std::vector<int>& outputs_;
    std::vector<bool> needed_, done_, made_;
    std::vector<std::vector<std::size_t>> uses_;
    Fused fused_;
};

}  // namespace

Fused fuse(const Shape& input, const std::vector<Record>& records, const std::vector<int>& outputs) {
    return Fuser(input, records, outputs).run();
}

}  // namespace convscope::channels
