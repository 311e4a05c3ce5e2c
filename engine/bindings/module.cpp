// The Python class. Checks arrays, hands pointers on, releases the GIL.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/held.h"
#include "bindings/regions.h"
#include "dispatch/isa.h"
#include "graph/network.h"
#include "threads/pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace convscope {
namespace {

using AnyArray = nb::ndarray<nb::c_contig, nb::device::cpu>;
using FloatArray = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

[[noreturn]] void refuse_argument(const std::string& name, const std::string& got, const std::string& wanted) {
    throw std::invalid_argument(name + " has " + got + ", wanted " + wanted);
}

std::string shape_text(const AnyArray& array) {
    std::string shape = "shape (";
    for (std::size_t i = 0; i < array.ndim(); ++i) shape += (i ? ", " : "") + std::to_string(array.shape(i));
    return shape + ")";
}

// n × shape as (n, c, h, w), or as (n, features) where the shape is a vector.
bool has_shape(const AnyArray& array, Index n, const Shape& shape) {
    const auto size = [&](std::size_t axis) { return static_cast<Index>(array.shape(axis)); };
    if (array.ndim() == 2) return size(0) == n && size(1) == shape.channels && shape.height == 1 && shape.width == 1;
    return array.ndim() == 4 && size(0) == n && size(1) == shape.channels && size(2) == shape.height &&
           size(3) == shape.width;
}

float* flat(const std::string& name, const FloatArray& array, Index count) {
    if (array.ndim() != 1 || static_cast<Index>(array.shape(0)) != count)
        refuse_argument(name, shape_text(AnyArray(array)), "one axis of " + std::to_string(count));
    return array.data();
}

// n times the numbers of one image, under whatever sides the model gives them.
float* of_count(const std::string& name, const FloatArray& array, Index n, const Shape& shape) {
    const AnyArray any(array);
    if (array.ndim() < 1 || static_cast<Index>(array.shape(0)) != n ||
        static_cast<Index>(array.size()) != n * shape.positions())
        refuse_argument(name, shape_text(any), std::to_string(n) + " × " + text(shape));
    return array.data();
}

float* of_shape(const std::string& name, const FloatArray& array, Index n, const Shape& shape) {
    const AnyArray any(array);
    if (!has_shape(any, n, shape)) refuse_argument(name, shape_text(any), std::to_string(n) + " × " + text(shape));
    return array.data();
}

Attribute attribute_of(const std::string& name, nb::handle value) {
    Attribute attribute;
    const auto is_list = [](nb::handle each) {
        return nb::isinstance<nb::list>(each) || nb::isinstance<nb::tuple>(each);
    };
    if (!is_list(value)) {
        attribute.numbers.push_back(nb::cast<double>(value));
    } else if (nb::len(value) > 0 && is_list(value[0])) {
        attribute.lists = nb::cast<std::vector<std::vector<Index>>>(value);
    } else {
        attribute.numbers = nb::cast<std::vector<double>>(value);
    }
    static_cast<void>(name);
    return attribute;
}

std::map<std::string, Index> places_of(nb::handle value) {
    std::map<std::string, Index> places;
    for (const auto& [name, offset] : nb::cast<nb::dict>(value))
        places[nb::cast<std::string>(name)] = nb::cast<Index>(offset);
    return places;
}

std::pair<float, float> quantised_of(nb::handle value) {
    const auto numbers = nb::cast<std::vector<double>>(value);
    const bool fits = numbers.size() == 2 && numbers[0] > 0 && numbers[0] < 1e30 && numbers[1] >= 0 && numbers[1] <= 255 &&
                      numbers[1] == static_cast<double>(static_cast<int>(numbers[1]));
    if (!fits) throw std::invalid_argument("quantised: wanted a scale above 0 and a zero that is whole, 0 to 255");
    return {static_cast<float>(numbers[0]), static_cast<float>(numbers[1])};
}

Record record_of(nb::dict fields) {
    Record record;
    for (const auto& [key, value] : fields) {
        const auto name = nb::cast<std::string>(key);
        if (name == "kind") record.kind = nb::cast<std::string>(value);
        else if (name == "name") record.name = nb::cast<std::string>(value);
        else if (name == "inputs") record.inputs = nb::cast<std::vector<int>>(value);
        else if (name == "output") record.output = value.is_none() ? -1 : nb::cast<int>(value);
        else if (name == "trainable") record.trainable = nb::cast<bool>(value);
        else if (name == "parameters") record.parameters = places_of(value);
        else if (name == "state") record.state = places_of(value);
        else if (name == "quantised") record.quantised = quantised_of(value);
        else if (name == "attributes") {
            for (const auto& [attribute, number] : nb::cast<nb::dict>(value)) {
                const auto text = nb::cast<std::string>(attribute);
                try {
                    record.attributes[text] = attribute_of(text, number);
                } catch (const nb::cast_error&) {
                    throw std::invalid_argument(record.name + ": attribute '" + text + "' wants numbers");
                }
            }
        } else {
            throw std::invalid_argument("records: unknown field '" + name + "'");
        }
    }
    return record;
}

// The arguments all calls share.
struct Common {
    std::optional<std::vector<float>> scale, offset;
    bool training;
    std::uint64_t seed, step;
    int threads;
};

Call call_of(const Network& network, const FloatArray& parameters, const FloatArray& state, const AnyArray& images,
             Common common) {
    Call call;
    const Graph& graph = network.graph();
    call.parameters = flat("parameters", parameters, graph.parameter_count);
    call.state = flat("state", state, graph.state_count);
    if (images.ndim() != 4 || images.shape(0) < 1)
        refuse_argument("images", shape_text(images), "(n, c, h, w) with n of at least 1");
    call.images.count = static_cast<Index>(images.shape(0));
    if (!has_shape(images, call.images.count, network.input_shape()))
        refuse_argument("images", shape_text(images), "n × " + text(network.input_shape()));
    if (images.dtype() == nb::dtype<float>()) {
        if (common.scale || common.offset) throw std::invalid_argument("scale and offset go with uint8 images only");
        call.images.floats = static_cast<const float*>(images.data());
    } else if (images.dtype() == nb::dtype<std::uint8_t>()) {
        const auto channels = static_cast<std::size_t>(network.input_shape().channels);
        call.images.bytes = static_cast<const std::uint8_t*>(images.data());
        call.images.scale = common.scale.value_or(std::vector<float>(channels, 1.0f));
        call.images.offset = common.offset.value_or(std::vector<float>(channels, 0.0f));
        if (call.images.scale.size() != channels || call.images.offset.size() != channels)
            refuse_argument("scale or offset", "another length", std::to_string(channels) + " numbers, one a channel");
    } else {
        throw nb::type_error("images: wanted float32 or uint8");
    }
    if (common.threads < 1 || common.threads > 1024)
        refuse_argument("threads", std::to_string(common.threads), "1 to 1024");
    call.training = common.training;
    call.seed = common.seed;
    call.step = common.step;
    call.threads = common.threads;
    return call;
}

void take_targets(const Network& network, const AnyArray& targets, Call& call) {
    const Index n = call.images.count;
    if (network.wants_numbers()) {
        if (targets.dtype() != nb::dtype<float>())
            throw nb::type_error("targets: this loss wants float32 of (n, outputs)");
        if (static_cast<Index>(targets.size()) != n * network.target_numbers() ||
            static_cast<Index>(targets.shape(0)) != n)
            refuse_argument("targets", shape_text(targets),
                            "(" + std::to_string(n) + ", " + std::to_string(network.target_numbers()) + ")");
        call.numbers = static_cast<const float*>(targets.data());
        return;
    }
    if (targets.dtype() != nb::dtype<std::int64_t>())
        throw nb::type_error("targets: this loss wants int64 class indices");
    if (targets.ndim() != 1 || static_cast<Index>(targets.shape(0)) != n)
        refuse_argument("targets", shape_text(targets), "(" + std::to_string(n) + ",)");
    call.classes = static_cast<const std::int64_t*>(targets.data());
    for (const OpPointer& op : network.graph().ops)
        if (op->is_loss())
            for (Index image = 0; image < n; ++image)
                if (call.classes[image] < 0 || call.classes[image] >= op->output_shape.positions())
                    refuse_argument("targets", "class " + std::to_string(call.classes[image]),
                                    "0 to " + std::to_string(op->output_shape.positions() - 1));
}

std::vector<float*> outputs_of(const Network& network, const std::string& name, const std::vector<FloatArray>& arrays,
                               Index n) {
    const std::vector<Shape>& shapes = network.graph().output_shapes;
    if (arrays.size() != shapes.size())
        refuse_argument(name, std::to_string(arrays.size()) + " arrays",
                        std::to_string(shapes.size()) + ", one for each output of the plan");
    std::vector<float*> pointers;
    for (std::size_t i = 0; i < arrays.size(); ++i) pointers.push_back(of_count(name, arrays[i], n, shapes[i]));
    return pointers;
}

// A rule, and what keeps its arrays alive.
struct HeldRule {
    Rule rule;
    std::optional<FloatArray> mean, squares, steps;
};

void make_rule(HeldRule* at, Index begin, Index end, std::optional<FloatArray> mean, std::optional<FloatArray> squares,
               std::optional<FloatArray> steps) {
    if (begin < 0 || end <= begin)
        refuse_argument("end", std::to_string(end), "a place behind begin, " + std::to_string(begin));
    if (squares.has_value() != steps.has_value() || (squares && !mean))
        throw std::invalid_argument("mean, squares and steps go together; only mean goes alone");
    HeldRule held{{}, mean, squares, steps};
    held.rule.range = {begin, end};
    if (mean) held.rule.mean = flat("mean", *mean, end - begin);
    if (squares) held.rule.squares = flat("squares", *squares, end - begin);
    if (steps) held.rule.steps = flat("steps", *steps, 1);
    new (at) HeldRule(std::move(held));
}

void set_gradient_descent(HeldRule& held, double rate, double weight_decay, double momentum, double dampening,
                          bool nesterov) {
    if (held.squares || (momentum != 0 && !held.mean))
        throw std::invalid_argument("gradient descent wants mean with momentum, and neither squares nor steps");
    Rule& rule = held.rule;
    rule.adam = false;
    rule.rate = rate, rule.weight_decay = weight_decay, rule.momentum = momentum, rule.dampening = dampening;
    rule.nesterov = nesterov;
}

void set_adam(HeldRule& held, double rate, double weight_decay, double momentum, double square_momentum, double epsilon,
              bool decoupled) {
    if (!held.squares) throw std::invalid_argument("Adam wants mean, squares and steps");
    Rule& rule = held.rule;
    rule.adam = true;
    rule.rate = rate, rule.weight_decay = weight_decay, rule.momentum = momentum;
    rule.square_momentum = square_momentum, rule.epsilon = epsilon, rule.decoupled = decoupled;
}

std::vector<Rule> rules_of(const std::vector<HeldRule*>& held, Index parameter_count) {
    std::vector<Rule> rules;
    Index end = 0;
    for (const HeldRule* each : held) {
        if (!each || each->rule.range.begin < end || each->rule.range.end > parameter_count)
            throw std::invalid_argument("rules: wanted rising places that do not overlap, up to " +
                                        std::to_string(parameter_count));
        end = each->rule.range.end;
        rules.push_back(each->rule);
    }
    return rules;
}

using Arrays = std::vector<FloatArray>;
using Numbers = std::optional<std::vector<float>>;

double step(Network& network, FloatArray parameters, FloatArray gradients, FloatArray state, AnyArray images,
            AnyArray targets, Numbers scale, Numbers offset, bool training, std::uint64_t seed,
            std::uint64_t step_number, int threads, std::optional<Arrays> outputs,
            std::optional<FloatArray> input_delta, const std::vector<HeldRule*>& held_rules) {
    Call call = call_of(network, parameters, state, images, {scale, offset, training, seed, step_number, threads});
    call.gradients = flat("gradients", gradients, network.graph().parameter_count);
    const std::vector<Rule> rules = rules_of(held_rules, network.graph().parameter_count);
    call.rules = &rules;
    if (!network.has_loss()) throw std::invalid_argument("the plan has no loss; use forward() and backward()");
    take_targets(network, targets, call);
    if (outputs) call.outputs = outputs_of(network, "outputs", *outputs, call.images.count);
    if (input_delta) call.input_delta = of_shape("input_delta", *input_delta, call.images.count, network.input_shape());
    call.update_state = training;
    const nb::gil_scoped_release release;
    return network.step(call);
}

void forward(Network& network, FloatArray parameters, FloatArray state, AnyArray images, Arrays outputs, Numbers scale,
             Numbers offset, bool training, std::uint64_t seed, std::uint64_t step_number, int threads) {
    Call call = call_of(network, parameters, state, images, {scale, offset, training, seed, step_number, threads});
    call.outputs = outputs_of(network, "outputs", outputs, call.images.count);
    call.update_state = training;
    const nb::gil_scoped_release release;
    network.forward(call);
}

void backward(Network& network, FloatArray parameters, FloatArray gradients, FloatArray state, AnyArray images,
              Arrays output_deltas, Numbers scale, Numbers offset, bool training, std::uint64_t seed,
              std::uint64_t step_number, int threads, std::optional<FloatArray> input_delta) {
    Call call = call_of(network, parameters, state, images, {scale, offset, training, seed, step_number, threads});
    call.gradients = flat("gradients", gradients, network.graph().parameter_count);
    for (float* each : outputs_of(network, "output_deltas", output_deltas, call.images.count))
        call.output_deltas.push_back(each);
    if (input_delta) call.input_delta = of_shape("input_delta", *input_delta, call.images.count, network.input_shape());
    const nb::gil_scoped_release release;
    network.backward(call);
}

std::optional<channels::LowOptions> low_options(const std::string& precision, const std::string& way, bool everywhere) {
    if (precision.empty()) {
        if (!way.empty() || everywhere) throw std::invalid_argument("way and everywhere go with a precision");
        return std::nullopt;
    }
    return channels::LowOptions{low_kernels(kernels(), precision_of(precision), way), everywhere};
}

void construct(Network* at, std::vector<Index> input_shape, nb::list records, std::vector<int> outputs,
               Index parameter_count, Index state_count, const std::string& layout, const std::string& precision,
               const std::string& way, bool everywhere) {
    if (input_shape.size() != 3) throw std::invalid_argument("input_shape wants (channels, height, width)");
    std::vector<Record> plan;
    for (nb::handle each : records) plan.push_back(record_of(nb::cast<nb::dict>(each)));
    new (at) Network({input_shape[0], input_shape[1], input_shape[2]}, std::move(plan), std::move(outputs),
                     parameter_count, state_count, layout, low_options(precision, way, everywhere));
}

nb::list output_shapes(const Network& network) {
    nb::list shapes;
    for (const Shape& shape : network.graph().output_shapes)
        shapes.append(nb::make_tuple(shape.channels, shape.height, shape.width));
    return shapes;
}

}  // namespace
}  // namespace convscope

NB_MODULE(_engine, m) {
    using namespace convscope;
    // Networks that are alive when Python ends are not looked for: the command line leaves without collecting rubbish.
    nb::set_leak_warnings(false);
    m.def("isa", [] { return std::string(kernels().name); }, "Name of the instruction set that new networks use.");
    m.def("isas", &available_isas, "Instruction sets that this processor and build have, best first.");
    m.def("set_isa", &choose_isa, "name"_a, "Make later networks use another instruction set.");
    m.def(
        "low_ways",
        [](const std::string& precision) { return low_ways(kernels(), precision_of(precision)); }, "precision"_a,
        "Ways in which the instruction set and this processor multiply in bf16 or int8, the quickest first.");
    m.def(
        "low_way",
        [](const std::string& precision) { return low_kernels(kernels(), precision_of(precision), "").way; },
        "precision"_a, "The way that networks take; ValueError says what the processor lacks.");
    m.def("threads", &describe_threads, "Whose threads the next call runs on: a runtime of OpenMP, or the engine's own.");
    bind_held(m);
    bind_regions(m);
    nb::class_<HeldRule>(m, "Rule")
        .def("__init__", &make_rule, "begin"_a, "end"_a, "mean"_a = nb::none(), "squares"_a = nb::none(),
             "steps"_a = nb::none())
        .def("gradient_descent", &set_gradient_descent, "rate"_a, "weight_decay"_a = 0.0, "momentum"_a = 0.0,
             "dampening"_a = 0.0, "nesterov"_a = false)
        .def("adam", &set_adam, "rate"_a, "weight_decay"_a, "momentum"_a, "square_momentum"_a, "epsilon"_a,
             "decoupled"_a);
    nb::class_<Network>(m, "Network")
        .def("__init__", &construct, "input_shape"_a, "records"_a, "outputs"_a, "parameter_count"_a,
             "state_count"_a = 0, "layout"_a = "", "precision"_a = "", "way"_a = "", "everywhere"_a = false)
        .def("step", &step, "parameters"_a, "gradients"_a, "state"_a, "images"_a, "targets"_a, "scale"_a = nb::none(),
             "offset"_a = nb::none(), "training"_a = true, "seed"_a = 0, "step"_a = 0, "threads"_a = 1,
             "outputs"_a = nb::none(), "input_delta"_a = nb::none(), "rules"_a = std::vector<HeldRule*>())
        .def("forward", &forward, "parameters"_a, "state"_a, "images"_a, "outputs"_a, "scale"_a = nb::none(),
             "offset"_a = nb::none(), "training"_a = false, "seed"_a = 0, "step"_a = 0, "threads"_a = 1)
        .def("backward", &backward, "parameters"_a, "gradients"_a, "state"_a, "images"_a, "output_deltas"_a,
             "scale"_a = nb::none(), "offset"_a = nb::none(), "training"_a = true, "seed"_a = 0, "step"_a = 0,
             "threads"_a = 1, "input_delta"_a = nb::none())
        .def_prop_ro("output_shapes", &output_shapes)
        .def("memory", &Network::memory_bytes, "Bytes the network holds now for its passes.")
        .def("low_layers", &Network::low_layers, "pictures"_a, "threads"_a = 1,
             "Names of the layers that multiply so many pictures, at most 16, in low precision.")
        .def("describe", &Network::describe, "pictures"_a = 1, "threads"_a = 1, "training"_a = false,
             "One line for each fused operation, in the layout that evaluates so many pictures.");
}
