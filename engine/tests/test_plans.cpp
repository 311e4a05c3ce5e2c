// What goes wrong is refused by name; what is odd (NaN, empty paths, frozen and shared layers) is handled.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "check.h"
#include "dispatch/isa.h"
#include "graph/network.h"
#include "oracle.h"

namespace convscope::test {
namespace {

Attribute numbers(std::vector<double> values) { return {std::move(values), {}}; }

std::vector<Record> small_plan() {
    return {record("conv2d", 0, 1, {{"out_channels", numbers({2})}, {"kernel_size", numbers({3, 3})}},
                   {{"weight", 0}, {"bias", 18}}),
            record("relu", 1, 2),
            record("linear", 2, 3, {{"out_features", numbers({3})}}, {{"weight", 20}, {"bias", 20 + 3 * 32}}),
            record("cross_entropy", 3, -1)};
}
constexpr Index kParameters = 20 + 3 * 32 + 3;
const Shape kInput{1, 6, 6};

std::string refusal(std::vector<Record> records, std::vector<int> outputs = {3}, Index parameters = kParameters) {
    return message_of<std::invalid_argument>(
        [&] { Network(kInput, std::move(records), std::move(outputs), parameters, 0); });
}

bool says(const std::string& message, const std::string& name, const std::string& why) {
    return message.find(name) != std::string::npos && message.find(why) != std::string::npos;
}

void refusals() {
    const auto changed = [](auto change) {
        std::vector<Record> plan = small_plan();
        change(plan);
        return refusal(plan);
    };
    check(refusal(small_plan()).empty(), "the plan itself is fine");
    check(says(changed([](auto& p) { p[1].kind = "rellu"; }), "relu2", "unknown kind"), "unknown kind");
    check(says(changed([](auto& p) { p[0].attributes["strides"] = numbers({1}); }), "conv2d1",
               "unknown attribute 'strides'"),
          "unknown attribute");
    check(says(changed([](auto& p) { p[0].attributes.erase("kernel_size"); }), "conv2d1", "'kernel_size' is missing"),
          "missing attribute");
    check(says(changed([](auto& p) { p[0].attributes["kernel_size"] = numbers({7, 7}); }), "conv2d1", "reaches over 7"),
          "kernel too large");
    check(says(changed([](auto& p) { p[0].attributes["groups"] = numbers({2}); }), "conv2d1", "does not divide"),
          "groups");
    check(says(changed([](auto& p) { p[0].attributes["stride"] = numbers({0}); }), "conv2d1", "at least 1"),
          "stride 0");
    check(says(changed([](auto& p) { p[2].inputs = {7}; }), "linear3", "not defined"), "undefined input");
    check(says(changed([](auto& p) { p[2].output = 1; }), "linear3", "defined twice"), "output twice");
    check(says(changed([](auto& p) { p[2].parameters["weight"] = 100; }), "linear3", "the buffer at 119"),
          "parameters beyond the buffer");
    check(says(changed([](auto& p) { p[2].parameters.erase("weight"); }), "linear3", "'weight' is missing"),
          "missing parameter");
    check(says(refusal(small_plan(), {9}), "outputs", "9"), "undefined output");
    check(says(message_of<std::invalid_argument>([] { choose_isa("mmx"); }), "mmx", "portable"),
          "unknown instruction set");
}

struct Run {
    std::vector<float> parameters = std::vector<float>(kParameters), gradients = std::vector<float>(kParameters, -7.0f),
                       images;
    std::vector<std::int64_t> classes;
    float state = 0;
    explicit Run(Index n)
        : images(static_cast<std::size_t>(n * kInput.positions())), classes(static_cast<std::size_t>(n), 1) {
        for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i] = 0.1f * std::sin(static_cast<float>(i));
        for (std::size_t i = 0; i < images.size(); ++i) images[i] = std::cos(static_cast<float>(i) * 0.7f);
    }
    double step(Network& network, int threads) {
        Call call;
        call.parameters = parameters.data();
        call.gradients = gradients.data();
        call.state = &state;
        call.images.floats = images.data();
        call.images.count = static_cast<Index>(classes.size());
        call.classes = classes.data();
        call.training = true;
        call.threads = threads;
        return network.step(call);
    }
};

void oddities() {
    Network network(kInput, small_plan(), {3}, kParameters, 0);
    Run poisoned(33);
    poisoned.images[100] = std::numeric_limits<float>::quiet_NaN();
    check(std::isnan(poisoned.step(network, 2)), "NaN in, NaN out, and it returns");

    std::vector<Record> frozen = small_plan();
    frozen[0].trainable = false;
    Network half(kInput, frozen, {3}, kParameters, 0);
    Run run(17);
    run.step(half, 2);
    check(std::all_of(run.gradients.begin(), run.gradients.begin() + 20, [](float g) { return g == -7.0f; }),
          "frozen gradients are left alone");
    Run full(17);
    full.step(network, 2);
    check(std::equal(run.gradients.begin() + 20, run.gradients.end(), full.gradients.begin() + 20),
          "the others are the same");

    // The same layer twice: its gradient is the sum, so that of two copies with places of their own.
    const auto chain = [](Index second) {
        return std::vector<Record>{record("linear", 0, 1, {{"out_features", numbers({36})}}, {{"weight", 0}}),
                                   record("tanh", 1, 2),
                                   record("linear", 2, 3, {{"out_features", numbers({36})}}, {{"weight", second}}),
                                   record("cross_entropy", 3, -1)};
    };
    constexpr Index kSquare = 36 * 36;
    Network shared(kInput, chain(0), {3}, kSquare, 0), apart(kInput, chain(kSquare), {3}, 2 * kSquare, 0);
    Run once(33), twice(33);
    once.parameters.resize(kSquare);
    for (std::size_t i = 0; i < once.parameters.size(); ++i)
        once.parameters[i] = 0.1f * std::sin(static_cast<float>(i));
    twice.parameters = once.parameters;
    twice.parameters.insert(twice.parameters.end(), once.parameters.begin(), once.parameters.end());
    once.gradients.assign(kSquare, NAN);
    twice.gradients.assign(2 * kSquare, NAN);
    once.step(shared, 3);
    twice.step(apart, 3);
    float most = 0;
    for (std::size_t i = 0; i < kSquare; ++i)
        most = std::max(most, std::abs(once.gradients[i] - twice.gradients[i] - twice.gradients[i + kSquare]));
    check(most < 1e-6f, "shared weights add their gradients");
}

void dropping() {
    std::vector<Record> plan{record("dropout", 0, 1, {{"p", numbers({0.25})}})};
    const Shape wide{3, 40, 41};
    Network network(wide, plan, {1}, 0, 0);
    const Index n = 19;
    std::vector<float> images(static_cast<std::size_t>(n * wide.positions()), 1.0f), first(images.size()),
        second(images.size()), other(images.size());
    Call call;
    call.images.floats = images.data();
    call.images.count = n;
    call.training = true;
    call.seed = 3;
    call.outputs = {first.data()};
    network.forward(call);
    call.threads = 2;
    call.outputs = {second.data()};
    network.forward(call);
    check(first == second, "dropout does not depend on the threads");
    call.step = 1;
    call.outputs = {other.data()};
    network.forward(call);
    double kept = 0, both = 0;
    for (std::size_t i = 0; i < images.size(); ++i) {
        kept += first[i] != 0.0f;
        both += first[i] != 0.0f && other[i] != 0.0f;
        if (first[i] != 0.0f && std::abs(first[i] - 4.0f / 3.0f) > 1e-6f) check(false, "kept units are scaled by 4/3");
    }
    const auto count = static_cast<double>(images.size());
    const double deviation = std::sqrt(0.25 * 0.75 / count);
    check(std::abs(kept / count - 0.75) < 5 * deviation, "a quarter falls out");
    check(std::abs(both / count - 0.5625) < 5 * deviation, "another step drops independently");
    call.training = false;
    network.forward(call);
    check(other == images, "evaluation drops nothing");
}

}  // namespace
}  // namespace convscope::test

int main() {
    using namespace convscope::test;
    refusals();
    oddities();
    for (const std::string& isa : convscope::available_isas()) {
        convscope::choose_isa(isa);
        dropping();
    }
    return report();
}
