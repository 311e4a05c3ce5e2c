#include "graph/build.h"

#include <algorithm>

#include "ops/convolution.h"

namespace convscope {
namespace {

// Consumers of each value, as record numbers.
using Uses = std::vector<std::vector<std::size_t>>;

Uses uses_of(const std::vector<Record>& records, std::size_t values) {
    Uses uses(values);
    for (std::size_t number = 0; number < records.size(); ++number)
        for (const int input : records[number].inputs) uses[static_cast<std::size_t>(input)].push_back(number);
    return uses;
}

// Every input defined before, every output new. Returns the number of values.
std::size_t check_numbers(const std::vector<Record>& records, const std::vector<int>& outputs) {
    std::vector<bool> defined{true};
    const auto known = [&](int value) {
        return value >= 0 && static_cast<std::size_t>(value) < defined.size() &&
               defined[static_cast<std::size_t>(value)];
    };
    for (const Record& record : records) {
        for (const int input : record.inputs)
            if (!known(input)) refuse(record, "input " + std::to_string(input) + " is not defined before it");
        if (record.output < 0) continue;
        if (record.output > 1'000'000)
            refuse(record, "output " + std::to_string(record.output) + " is too large a number");
        if (known(record.output)) refuse(record, "output " + std::to_string(record.output) + " is defined twice");
        if (static_cast<std::size_t>(record.output) >= defined.size())
            defined.resize(static_cast<std::size_t>(record.output) + 1);
        defined[static_cast<std::size_t>(record.output)] = true;
    }
    for (const int output : outputs)
        if (!known(output)) throw std::invalid_argument("outputs: value " + std::to_string(output) + " is not defined");
    return defined.size();
}

void check_places(const Record& record, const std::vector<Place>& places, Index count, const char* buffer) {
    for (const Place& place : places)
        if (place.present() && place.offset + place.count > count)
            refuse(record, std::string("its ") + buffer + " end at " + std::to_string(place.offset + place.count) +
                               ", the buffer at " + std::to_string(count));
}

class Builder {
public:
    Builder(const KernelTable& kernels, std::vector<Record> records, std::vector<int> outputs)
        : kernels_(kernels), records_(std::move(records)) {
        const std::size_t values = check_numbers(records_, outputs);
        graph_.outputs = std::move(outputs);
        graph_.values.resize(values);
        shapes_.resize(values);
        alias_.resize(values);
        for (std::size_t value = 0; value < values; ++value) alias_[value] = static_cast<int>(value);
        uses_ = uses_of(records_, values);
    }

    Graph build(const Shape& input, Index parameter_count, Index state_count) {
        graph_.parameter_count = parameter_count;
        graph_.state_count = state_count;
        shape_of(0) = input;
        graph_.values[0].shape = input;
        std::vector<bool> done(records_.size(), false);
        for (std::size_t number = 0; number < records_.size(); ++number)
            if (!done[number]) add(number, done);
        for (const int output : graph_.outputs) graph_.output_shapes.push_back(shape_of(output));
        find_borders();
        elide_flattening();
        separate_dense_consumers();
        separate_dense_producers();
        link();
        find_gaps();
        find_shared_parameters();
        for (const OpPointer& op : graph_.ops) {
            std::vector<Maps> inputs_at;
            for (std::size_t i = 0; i < op->inputs.size(); ++i) {  // dense memory lies as the op's own shape says
                const Value& from = value(op->inputs[i]);
                inputs_at.push_back(from.dense() ? dense_maps(op->input_shapes[i]) : from.at(nullptr));
            }
            op->arrange(inputs_at, op->output >= 0 ? value(op->output).delta_at(nullptr) : Maps{});
        }
        return std::move(graph_);
    }

private:
    Shape& shape_of(int value) { return shapes_[static_cast<std::size_t>(value)]; }

    // The only record that reads `value`, whoever else wants to see it.
    const Record* only_consumer(int value, std::size_t& number) const {
        const auto& uses = uses_[static_cast<std::size_t>(value)];
        if (uses.size() != 1) return nullptr;
        number = uses[0];
        return &records_[number];
    }

    bool is_wanted(int value) const {
        return std::find(graph_.outputs.begin(), graph_.outputs.end(), value) != graph_.outputs.end();
    }

    void add(std::size_t number, std::vector<bool>& done) {
        const Record& record = records_[number];
        std::vector<Shape> inputs;
        for (const int input : record.inputs) inputs.push_back(shape_of(input));
        OpPointer op = make_op(kernels_, record, inputs);
        done[number] = true;
        check_places(record, op->parameter_places(), graph_.parameter_count, "parameters");
        check_places(record, op->state_places(), graph_.state_count, "state");
        if (op->is_loss() != (record.output < 0))
            refuse(record, op->is_loss() ? "is a loss and has no output" : "has no output");
        if (!op->is_loss()) fuse(*op, done);
        if (op->output >= 0) {
            shape_of(op->output) = op->output_shape;
            graph_.values[static_cast<std::size_t>(op->output)].shape = op->output_shape;
        }
        graph_.ops.push_back(std::move(op));
    }

    // Takes the activation, and the max pooling, that alone reads the op's output into the op, unless somebody wants to
    // see what is between them.
    void fuse(Op& op, std::vector<bool>& done) {
        if (!op.can_take_activation()) return;
        int last = op.output;
        std::size_t next = 0;
        const Record* consumer = only_consumer(last, next);
        bool seen = is_wanted(last);
        const auto take = [&] {
            last = consumer->output;
            if (!seen) {
                done[next] = true;
                op.name += "+" + consumer->name;
                op.output = last;
            }
            consumer = only_consumer(last, next);
            seen = seen || is_wanted(last);
        };
        if (!consumer) return;
        if (const auto spec = activation_of(*consumer); spec && has_derivative_of_output(spec->kind)) {
            if (!seen) op.take(*spec);
            take();
        }
        auto* const convolution = dynamic_cast<Convolution*>(&op);
        if (!convolution || !consumer || consumer->kind != "max_pool") return;
        Attributes read(*consumer);
        const PoolWindow window = read_window(read, *consumer, op.output_shape);
        const bool apart = window.kernel.y == window.stride.y && window.kernel.x == window.stride.x &&
                           window.padding.y == 0 && window.padding.x == 0 &&
                           window.output.height == op.output_shape.height / window.kernel.y &&
                           window.output.width == op.output_shape.width / window.kernel.x;
        if (!apart || !convolution->can_fuse_pool(window.kernel)) return;
        convolution->sum_by_rows();  // fused or not: who asks for what is between them sees the fused one's numbers
        if (seen) return;
        convolution->fuse_pool(window.kernel);
        take();
    }

    void find_borders() {
        for (const OpPointer& op : graph_.ops)
            for (const int input : op->inputs) {
                Size& border = graph_.values[static_cast<std::size_t>(input)].border;
                border.y = std::max(border.y, op->input_border().y);
                border.x = std::max(border.x, op->input_border().x);
            }
    }

    // A flattened value without borders on either side is the same memory under another name.
    void elide_flattening() {
        std::erase_if(graph_.ops, [&](const OpPointer& op) {
            for (int& input : op->inputs) input = alias_[static_cast<std::size_t>(input)];
            if (op->kind != "flatten" && op->kind != "reshape") return false;
            const auto from = static_cast<std::size_t>(op->inputs[0]), to = static_cast<std::size_t>(op->output);
            if (!graph_.values[from].dense() || !graph_.values[to].dense()) return false;
            alias_[to] = op->inputs[0];
            return true;
        });
        for (int& output : graph_.outputs) output = alias_[static_cast<std::size_t>(output)];
    }

    // An op that reads its input as one vector gets a copy where another consumer wanted a border.
    void separate_dense_consumers() {
        for (std::size_t number = 0; number < graph_.ops.size(); ++number) {
            if (!graph_.ops[number]->wants_dense_input()) continue;
            const int from = graph_.ops[number]->inputs[0];
            if (graph_.values[static_cast<std::size_t>(from)].dense())
                continue;
            Record copy;
            copy.kind = "flatten";
            copy.name = graph_.ops[number]->name + ".input";
            copy.inputs = {from};
            copy.output = static_cast<int>(graph_.values.size());
            OpPointer op = make_flatten(copy, graph_.values[static_cast<std::size_t>(from)].shape);
            Value value;
            value.shape = op->output_shape;
            graph_.values.push_back(value);
            graph_.ops[number]->inputs[0] = copy.output;
            graph_.ops.insert(graph_.ops.begin() + static_cast<std::ptrdiff_t>(number), std::move(op));
        }
    }

    // An op that writes its output as one vector gets a copy behind it where a consumer wants a border: a 1×1
    // convolution of 1×1 maps, which runs as a linear layer, followed by a padded convolution.
    void separate_dense_producers() {
        for (std::size_t number = 0; number < graph_.ops.size(); ++number) {
            const int to = graph_.ops[number]->output;
            if (!graph_.ops[number]->writes_dense_output() || graph_.values[static_cast<std::size_t>(to)].dense())
                continue;
            Record copy;
            copy.kind = "identity";
            copy.name = graph_.ops[number]->name + ".output";
            copy.inputs = {static_cast<int>(graph_.values.size())};
            copy.output = to;
            Value value;
            value.shape = graph_.values[static_cast<std::size_t>(to)].shape;
            OpPointer op = make_op(kernels_, copy, {value.shape});
            graph_.values.push_back(value);
            graph_.ops[number]->output = copy.inputs[0];
            graph_.ops.insert(graph_.ops.begin() + static_cast<std::ptrdiff_t>(number) + 1, std::move(op));
            ++number;
        }
    }

    void link() {
        for (std::size_t number = 0; number < graph_.ops.size(); ++number) {
            const Op& op = *graph_.ops[number];
            for (const int input : op.inputs)
                graph_.values[static_cast<std::size_t>(input)].consumers.push_back(static_cast<int>(number));
            if (op.output >= 0) graph_.values[static_cast<std::size_t>(op.output)].producer = static_cast<int>(number);
        }
    }

    Value& value(int number) { return graph_.values[static_cast<std::size_t>(number)]; }

    // Maps a multiple of 4 KiB apart fall into the same few sets of the caches, where a convolution reads dozens of them
    // at one position: 256 maps of 16×16 with 1×1 kernels ran at 85 GFLOP/s and those of 15×15 at 104. One free position
    // after each map spreads them. Only where every reader takes maps one by one.
    void find_gaps() {
        constexpr Index kPositionsOfPage = 4096 / (kBlock * static_cast<Index>(sizeof(float)));
        for (Value& each : graph_.values) {
            const Index area = (each.shape.height + 2 * each.border.y) * (each.shape.width + 2 * each.border.x);
            const bool aligned = area % kPositionsOfPage == 0 || each.shape.height * each.shape.width % kPositionsOfPage == 0;
            const bool map_by_map = std::all_of(each.consumers.begin(), each.consumers.end(), [&](int consumer) {
                const Op& op = *graph_.ops[static_cast<std::size_t>(consumer)];
                return !op.wants_dense_input() && !op.is_loss() &&
                       std::all_of(op.input_shapes.begin(), op.input_shapes.end(), [&](const Shape& shape) {
                           return shape.height == each.shape.height && shape.width == each.shape.width;
                       });
            });
            if (aligned && map_by_map && each.shape.channels > 1) each.gap = 1;
        }
    }

    void find_shared_parameters() {
        const auto overlap = [](const Place& a, const Place& b) {
            return a.present() && b.present() && a.offset < b.offset + b.count && b.offset < a.offset + a.count;
        };
        graph_.shares_parameters.assign(graph_.ops.size(), false);
        for (std::size_t a = 0; a < graph_.ops.size(); ++a)
            for (std::size_t b = 0; b < graph_.ops.size(); ++b)
                for (const Place& one : graph_.ops[a]->parameter_places())
                    for (const Place& other : graph_.ops[b]->parameter_places())
                        if (a != b && overlap(one, other)) graph_.shares_parameters[a] = true;
    }

    const KernelTable& kernels_;
    std::vector<Record> records_;
    std::vector<Shape> shapes_;
    std::vector<int> alias_;
    Uses uses_;
    Graph graph_;
};

}  // namespace

Maps Value::at(float* base) const {
    const Index row = (shape.width + 2 * border.x) * kBlock;
    const Index map = (shape.height + 2 * border.y) * row + gap * kBlock;
    float* const data = base ? base + border.y * row + border.x * kBlock : nullptr;
    return {data, shape.channels, shape.height, shape.width, row, map};
}

Maps Value::delta_at(float* base) const {
    Maps maps = dense_maps(shape, base);
    maps.map_step += gap * kBlock;
    return maps;
}

Graph build_graph(const KernelTable& kernels, const Shape& input, std::vector<Record> records, std::vector<int> outputs,
                  Index parameter_count, Index state_count) {
    if (input.channels < 1 || input.height < 1 || input.width < 1)
        throw std::invalid_argument("input_shape " + text(input) + " wants three positive numbers");
    return Builder(kernels, std::move(records), std::move(outputs)).build(input, parameter_count, state_count);
}

}  // namespace convscope
