#include "channels/build.h"

#include <algorithm>

#include "channels/choice.h"
#include "channels/either.h"
#include "channels/fuse.h"

namespace convscope::channels {
namespace {

std::size_t at(int number) { return static_cast<std::size_t>(number); }

// Planes of a picture with so few channels are read one by one.
constexpr Index kFewChannels = 4;

class Builder {
public:
    Builder(const KernelTable& kernels, const Shape& input, const std::vector<Record>& records,
            const std::vector<int>& outputs, const LowOptions* low)
        : kernels_(kernels), low_(low), lanes_(kernels.lanes), outputs_(outputs), fused_(fuse(input, records, outputs)) {
        for (const Shape& shape : fused_.shapes) net_.values.push_back({shape, -1, 0});
    }

    Net build() {
        planar_ = reads_planes_only();
        add(make_input(kernels_, shape(0)));
        for (const Layer& layer : fused_.layers) add_layer(layer);
        for (std::size_t i = 0; i < outputs_.size(); ++i) {
            const int value = fused_.alias[at(outputs_[i])];
            add(make_output(kernels_, value, shape(value)));
        }
        join_storages();
        separate_vectors();
        find_borders();
        arrange();
        return std::move(net_);
    }

private:
    const Shape& shape(int value) const { return net_.values[at(value)].shape; }
    bool is_vector(const Shape& each) const { return each.height == 1 && each.width == 1; }

    void add(OpPointer op) { net_.ops.push_back(std::move(op)); }

    int new_value(const Shape& of) {
        net_.values.push_back({of, -1, 0});
        return static_cast<int>(net_.values.size()) - 1;
    }

    // Only plain convolutions read the picture, and its channels are few.
    bool reads_planes_only() const {
        if (shape(0).channels > kFewChannels) return false;
        for (const int output : outputs_)
            if (fused_.alias[at(output)] == 0) return false;
        for (const Layer& layer : fused_.layers) {
            if (layer.skip == 0) return false;
            if (std::find(layer.inputs.begin(), layer.inputs.end(), 0) == layer.inputs.end()) continue;
            if (layer.record->kind != "conv2d" || !layer.before.empty()) return false;
            const Filter filter = Filter::of(*layer.record, layer.input);
            if (!filter.is_plain() || filter.is_linear()) return false;
        }
        return true;
    }

    // The value as one vector.
    int flattened(int value, const std::string& name) {
        if (is_vector(shape(value))) return value;
        const int vector = new_value({shape(value).positions(), 1, 1});
        add(make_flatten(kernels_, name + ".input", value, vector, shape(value)));
        return vector;
    }

    void add_layer(const Layer& layer) {
        const Record& record = *layer.record;
        const int input = layer.inputs[0];
        if (record.kind == "conv2d") return add_convolution(layer);
        if (record.kind == "linear" || record.kind == "rbf_units") {
            LinearSpec spec;
            spec.name = layer.name;
            spec.inputs = layer.input.positions(), spec.outputs = layer.shape.channels;
            spec.distances = record.kind == "rbf_units";
            spec.weight_in_state = spec.distances && record.state.contains("weight");
            spec.weight = required_place(record, spec.weight_in_state ? record.state : record.parameters, "weight",
                                         spec.inputs * spec.outputs);
            spec.folding = layer.folding, spec.finish = layer.finish;
            const int vector = flattened(input, layer.name);
            if (!spec.distances) return add(with_low(layer, as_convolution(spec), spec, vector));
            return add(make_linear(kernels_, std::move(spec), vector, layer.output));
        }
        if (record.kind == "concat") return add_joined(layer);
        if (record.kind == "add")
            return add(make_sum(kernels_, layer.name, layer.shape, layer.finish, layer.inputs, layer.output));
        if (record.kind == "flatten")
            return add(make_flatten(kernels_, layer.name, input, layer.output, layer.input));
        if (record.kind == "softmax")
            return add(make_softmax(kernels_, layer.name, layer.shape.channels, input, layer.output));
        if (record.kind == "response_norm")
            return add(make_response_norm(kernels_, record, layer.shape, input, layer.output));
        if (record.kind.ends_with("_pool") || record.kind == "global_mean" || record.kind == "subsample")
            if (!is_one_by_one(layer)) return add_pool(layer);
        add(make_affine(kernels_, layer.name, layer.shape, layer.folding, layer.finish, input, layer.output));
    }

    // Trainable subsampling of windows of one position is a normalisation.
    static bool is_one_by_one(const Layer& layer) {
        if (layer.record->kind != "subsample") return false;
        Attributes read(*layer.record);
        const PoolWindow window = read_window(read, *layer.record, layer.input);
        return window.kernel.y == 1 && window.kernel.x == 1 && window.stride.y == 1 && window.stride.x == 1;
    }

    void add_pool(const Layer& layer) {
        const Record& record = *layer.record;
        Attributes read(record);
        PoolWindow window;
        PoolKind kind = PoolKind::max;
        if (record.kind == "global_mean") {
            const Size all{layer.input.height, layer.input.width};
            window = {all, all, {}, {layer.input.channels, 1, 1}};
            kind = PoolKind::mean;
        } else {
            window = read_window(read, record, layer.input);
        }
        if (record.kind == "sum_pool" || record.kind == "subsample") kind = PoolKind::sum;
        if (record.kind == "l2_pool") kind = PoolKind::l2;
        if (record.kind == "mean_pool")
            kind = read.whole("count_include_pad", 0, 1) != 0 ? PoolKind::mean : PoolKind::mean_without_padding;
        add(make_pool(kernels_, layer.name, kind, window, layer.input, layer.folding, layer.finish, layer.inputs[0],
                      layer.output));
    }

    void add_convolution(const Layer& layer) {
        ConvolutionSpec spec{layer.name,   Filter::of(*layer.record, layer.input),
                             layer.folding, layer.finish,
                             layer.pooled,  layer.before,
                             layer.before_finish};
        int input = layer.inputs[0];
        if (spec.filter.is_linear()) {
            input = flattened(input, layer.name);
            OpPointer op = make_convolution(kernels_, std::move(spec), input, layer.output, false);
            op->skip = layer.skip;
            return add(std::move(op));
        }
        const bool planar = planar_ && input == 0;
        OpPointer low = make_low(layer, spec, input, planar);
        OpPointer op = make_convolution(kernels_, std::move(spec), input, layer.output, planar);
        add(with_either(std::move(op), std::move(low), layer.skip));
    }

    // The layer in low precision; null where it stays in float32.
    OpPointer make_low(const Layer& layer, const ConvolutionSpec& spec, int input, bool planar) {
        if (!low_) return nullptr;
        const Record& record = *layer.record;
        const Precision precision = low_->kernels.precision;
        const std::string why = stays_single(spec, precision, planar, record.quantised.has_value());
        if (!why.empty()) {
            net_.remarks.push_back(layer.name + ": float32, as " + why);
            return nullptr;
        }
        Quantised quantised;
        if (record.quantised) quantised = {record.quantised->first, record.quantised->second};
        return std::make_unique<Low>(kernels_, low_->kernels, spec, quantised, input, layer.output, planar);
    }

    OpPointer with_either(OpPointer single, OpPointer low, int skip) {
        OpPointer op;
        if (!low) op = std::move(single);
        else if (low_->everywhere) op = std::move(low);
        else op = std::make_unique<Either>(std::move(single), std::move(low));
        op->skip = skip;
        return op;
    }

    OpPointer with_low(const Layer& layer, const ConvolutionSpec& spec, LinearSpec linear, int input) {
        OpPointer low = make_low(layer, spec, input, false);
        OpPointer single = make_linear(kernels_, std::move(linear), input, layer.output);
        return with_either(std::move(single), std::move(low), layer.skip);
    }

    void add_joined(const Layer& layer) {
        Index first = 0;
        std::vector<Index> firsts;
        for (const int input : layer.inputs) {
            firsts.push_back(first);
            first += shape(input).channels;
        }
        joined_.push_back({layer.inputs, firsts, layer.output, net_.ops.size(), layer.name});
    }

    struct Joined {
        std::vector<int> inputs;
        std::vector<Index> firsts;
        int output;
        std::size_t at_op;  // ops that copy belong before this one
        std::string name;
    };

    // Gives every value its storage. The last join comes first: what is joined again and again, as in DenseNet, then has
    // its place in the longest array, and the shorter ones are the beginning of that.
    void join_storages() {
        struct Copy {
            std::size_t at_op;
            OpPointer op;
        };
        std::vector<Copy> copies;
        for (std::size_t number = joined_.size(); number-- > 0;) {
            const Joined& join = joined_[number];
            const Shape& whole = shape(join.output);
            Value& output = net_.values[at(join.output)];
            if (output.storage < 0 && !lies_in_place(join)) {
                output.storage = new_storage(whole);
            } else if (output.storage < 0) {
                output.storage = net_.values[at(join.inputs[0])].storage;
                output.first_channel = net_.values[at(join.inputs[0])].first_channel;
            }
            for (std::size_t i = 0; i < join.inputs.size(); ++i) {
                Value& part = net_.values[at(join.inputs[i])];
                const Index place = output.first_channel + join.firsts[i];
                if (part.storage == output.storage && part.first_channel == place) continue;
                const bool last = place + part.shape.channels == net_.storages[at(output.storage)].channels;
                const bool own_blocks = place % lanes_ == 0 && (last || part.shape.channels % lanes_ == 0);
                if (part.storage < 0 && own_blocks && join.inputs[i] != 0) {
                    part.storage = output.storage;
                    part.first_channel = place;
                    continue;
                }
                copies.push_back({join.at_op, make_copy(kernels_, join.name, part.shape, join.firsts[i], join.inputs[i],
                                                        join.output)});
            }
        }
        for (Copy& copy : copies)  // from the back, so that places stay what they are
            net_.ops.insert(net_.ops.begin() + static_cast<std::ptrdiff_t>(copy.at_op), std::move(copy.op));
        for (const OpPointer& op : net_.ops) {
            for (const int input : op->inputs) give_storage(input);
            if (op->output >= 0) give_storage(op->output);
        }
        net_.storages[at(net_.values[0].storage)].planar = planar_;
    }

    bool lies_in_place(const Joined& join) const {
        const Value& first = net_.values[at(join.inputs[0])];
        if (first.storage < 0) return false;
        for (std::size_t i = 0; i < join.inputs.size(); ++i) {
            const Value& part = net_.values[at(join.inputs[i])];
            if (part.storage != first.storage) return false;
            if (part.first_channel != first.first_channel + join.firsts[i]) return false;
        }
        return true;
    }

    int new_storage(const Shape& of) {
        net_.storages.push_back({of.channels, of.height, of.width, {}, false});
        return static_cast<int>(net_.storages.size()) - 1;
    }

    void give_storage(int value) {
        if (net_.values[at(value)].storage < 0) net_.values[at(value)].storage = new_storage(shape(value));
    }

    // Vectors have no border of zeros, since linear layers read and write them as they are; an op that asks for one reads
    // a copy of its own.
    void separate_vectors() {
        for (std::size_t number = 0; number < net_.ops.size(); ++number) {
            Op& op = *net_.ops[number];
            for (int& input : op.inputs) {
                const Value from = net_.values[at(input)];
                const bool wants = op.input_border().y > 0 || op.input_border().x > 0;
                if (!wants || !is_vector(from.shape) || (planar_ && input == 0)) continue;
                const int copy = new_value(from.shape);
                OpPointer copying = make_copy(kernels_, op.name + ".input", from.shape, 0, input, copy);
                give_storage(copy);
                input = copy;
                net_.ops.insert(net_.ops.begin() + static_cast<std::ptrdiff_t>(number), std::move(copying));
                ++number;
                break;
            }
        }
    }

    void find_borders() {
        for (const OpPointer& op : net_.ops)
            for (const int input : op->inputs) {
                Size& border = net_.storages[at(net_.values[at(input)].storage)].border;
                border.y = std::max(border.y, op->input_border().y);
                border.x = std::max(border.x, op->input_border().x);
            }
    }

    void arrange() {
        for (const OpPointer& op : net_.ops) {
            std::vector<Tensor> inputs_at;
            for (const int input : op->inputs) inputs_at.push_back(net_.tensor(input, lanes_, nullptr));
            op->arrange(inputs_at, op->output >= 0 ? net_.tensor(op->output, lanes_, nullptr) : Tensor{},
                        op->skip >= 0 ? net_.tensor(op->skip, lanes_, nullptr) : Tensor{});
        }
    }

    const KernelTable& kernels_;
    const LowOptions* low_;
    Index lanes_;
    const std::vector<int>& outputs_;
    Fused fused_;
    bool planar_ = false;
    std::vector<Joined> joined_;
    Net net_;
};

}  // namespace

Tensor Net::tensor(int value, Index lanes, float* base) const {
    const Value& each = values[at(value)];
    const Storage& storage = storages[at(each.storage)];
    Tensor tensor;
    tensor.channels = each.shape.channels, tensor.height = each.shape.height, tensor.width = each.shape.width;
    tensor.planar = storage.planar;
    tensor.row_step = storage.row_floats(lanes);
    tensor.block_step = storage.block_floats(lanes);
    tensor.picture_step = storage.picture_floats(lanes);
    const Index unit = storage.planar ? 1 : lanes;
    const Index first = storage.border.y * tensor.row_step + storage.border.x * unit +
                        each.first_channel / unit * tensor.block_step;
    tensor.data = base ? base + first : nullptr;
    return tensor;
}

Net build(const KernelTable& kernels, const Shape& input, const std::vector<Record>& records,
          const std::vector<int>& outputs, const LowOptions* low) {
    return Builder(kernels, input, records, outputs, low).build();
}

}  // namespace convscope::channels
