// A step that moves the parameters: the same gradients as one that does not, moved as the formulas in doubles say.
#include <algorithm>
#include <array>
#include <cmath>
#include <random>

#include "check.h"
#include "dispatch/isa.h"
#include "graph/network.h"
#include "oracle.h"

namespace convscope::test {
namespace {

const Shape kInput{2, 5, 4};
constexpr Index kInner = 37;
constexpr Index kFirst = kInner * 40, kBias = kFirst + kInner, kParameters = kBias + 3 * kInner;

std::vector<Record> plan() {
    const auto features = [](Index count) { return Attribute{{static_cast<double>(count)}, {}}; };
    return {record("linear", 0, 1, {{"out_features", features(kInner)}}, {{"weight", 0}, {"bias", kFirst}}),
            record("tanh", 1, 2), record("linear", 2, 3, {{"out_features", features(3)}}, {{"weight", kBias}}),
            record("cross_entropy", 3, -1)};
}

struct Memory {
    std::vector<float> parameters, gradients, mean, squares;
    float steps = 4;

    explicit Memory(std::uint32_t seed) {
        std::mt19937 random(seed);
        std::normal_distribution<float> normal;
        for (auto* each : {&parameters, &gradients, &mean, &squares})
            for (Index i = 0; i < kParameters; ++i) each->push_back(0.1f * normal(random));
        for (float& each : squares) each = each * each;
    }

    double step(Network& network, Index images_count, int threads, const std::vector<Rule>* rules) {
        std::vector<float> images(static_cast<std::size_t>(images_count * kInput.positions()));
        for (std::size_t i = 0; i < images.size(); ++i) images[i] = std::cos(static_cast<float>(i) * 0.7f);
        std::vector<std::int64_t> classes(static_cast<std::size_t>(images_count));
        for (std::size_t i = 0; i < classes.size(); ++i) classes[i] = static_cast<std::int64_t>(i % 3);
        Call call;
        call.parameters = parameters.data();
        call.gradients = gradients.data();
        call.images.floats = images.data();
        call.images.count = images_count;
        call.classes = classes.data();
        call.training = true;
        call.threads = threads;
        call.rules = rules;
        return network.step(call);
    }

    // Rules for [3, 17), [17, bias) and the last parameters but one: the others stay.
    std::vector<Rule> rules(const Rule& like) {
        std::vector<Rule> all;
        for (const Range range : {Range{3, 17}, Range{17, kBias}, Range{kBias, kParameters - 1}}) {
            Rule rule = like;
            rule.range = range;
            rule.mean = mean.data() + range.begin;
            if (like.adam) rule.squares = squares.data() + range.begin;
            if (like.adam && range.begin == 3) rule.steps = &steps;
            if (like.adam && range.begin != 3) rule.steps = range.begin == 17 ? &steps_of_second : &steps_of_third;
            all.push_back(rule);
        }
        return all;
    }
    float steps_of_second = 4, steps_of_third = 4;
};

struct Moved {
    double parameter, mean, squares;
};

Moved by_formula(const Rule& rule, double w, double g, double m, double s, double t) {
    if (!rule.adam) {
        g += rule.weight_decay * w;
        if (rule.momentum == 0) return {w - rule.rate * g, m, s};
        m = rule.momentum * m + (1 - rule.dampening) * g;
        return {w - rule.rate * (rule.nesterov ? g + rule.momentum * m : m), m, s};
    }
    if (rule.decoupled) w *= 1 - rule.rate * rule.weight_decay;
    else g += rule.weight_decay * w;
    m = rule.momentum * m + (1 - rule.momentum) * g;
    s = rule.square_momentum * s + (1 - rule.square_momentum) * g * g;
    const double mean = m / (1 - std::pow(rule.momentum, t)), square = s / (1 - std::pow(rule.square_momentum, t));
    return {w - rule.rate * mean / (std::sqrt(square) + rule.epsilon), m, s};
}

std::vector<Rule> kinds() {
    Rule plain, momentum, nesterov, adam, adamw;
    plain.rate = 0.1, plain.weight_decay = 0.01;
    momentum.rate = 0.05, momentum.momentum = 0.9, momentum.dampening = 0.3;
    nesterov.rate = 0.05, nesterov.momentum = 0.8, nesterov.nesterov = true, nesterov.weight_decay = 0.02;
    adam.adam = true, adam.rate = 0.01, adam.momentum = 0.9, adam.square_momentum = 0.999, adam.epsilon = 1e-8;
    adam.weight_decay = 0.1;
    adamw = adam;
    adamw.decoupled = true, adamw.momentum = 0.3;  // the other side of lerp
    return {plain, momentum, nesterov, adam, adamw};
}

double off(float found, double wanted) { return std::abs(static_cast<double>(found) - wanted) / (0.1 + std::abs(wanted)); }

void descending(const std::string& isa, const Rule& rule, std::size_t number, Index images, int threads) {
    const std::string label = isa + ", rule " + std::to_string(number) + ", " + std::to_string(threads) + " threads";
    Network network(kInput, plan(), {3}, kParameters, 0);
    Memory still(1), moved(1), again(1);
    const double loss = still.step(network, images, threads, nullptr);
    const std::vector<Rule> rules = moved.rules(rule), same = again.rules(rule);
    check(moved.step(network, images, threads, &rules) == loss, label + ": the loss before the step");
    check(moved.gradients == still.gradients, label + ": gradients are left as without a step");
    double largest = 0, change = 0;
    for (std::size_t i = 0; i < still.parameters.size(); ++i) {
        const auto at = static_cast<Index>(i);
        if (at < 3 || at == kParameters - 1) {
            check(moved.parameters[i] == still.parameters[i], label + ": what has no rule stays");
            continue;
        }
        const auto wide = [](float value) { return static_cast<double>(value); };
        const Moved wanted = by_formula(rule, wide(still.parameters[i]), wide(still.gradients[i]), wide(still.mean[i]),
                                        wide(still.squares[i]), 5);
        largest = std::max({largest, off(moved.parameters[i], wanted.parameter), off(moved.mean[i], wanted.mean),
                            off(moved.squares[i], wanted.squares)});
        change = std::max(change, off(moved.parameters[i], wide(still.parameters[i])));
    }
    check(largest < 1e-6, label + ": as the formula says, off by " + std::to_string(largest));
    check(change > 1e-4, label + " canary: they did move");
    if (rule.adam) check(moved.steps == 5 && moved.steps_of_third == 5, label + ": steps are counted");
    again.step(network, images, threads, &same);
    check(again.parameters == moved.parameters && again.mean == moved.mean && again.squares == moved.squares,
          label + ": repeats bit for bit");
}

void pieces() {
    const std::vector<Range> summed{{0, 10}, {20, 40}};
    std::vector<Rule> rules(2);
    rules[0].range = {5, 25}, rules[1].range = {25, 30};
    const std::vector<Piece> found = cut_pieces(summed, rules);
    const std::vector<std::array<Index, 4>> wanted{{0, 5, 1, -1}, {5, 10, 1, 0},  {10, 20, 0, 0},
                                                   {20, 25, 1, 0}, {25, 30, 1, 1}, {30, 40, 1, -1}};
    check(found.size() == wanted.size(), "pieces: as many as there are");
    for (std::size_t i = 0; i < std::min(found.size(), wanted.size()); ++i) {
        const Index rule = found[i].rule ? found[i].rule - rules.data() : -1;
        check(std::array<Index, 4>{found[i].range.begin, found[i].range.end, found[i].summed, rule} == wanted[i],
              "piece " + std::to_string(i));
    }
    for (const Range& range : {Range{0, 100}, Range{7, 9}, Range{15, 17}, Range{3, 1000}})
        for (const int parts : {1, 2, 3, 7}) {
            Index at = range.begin;
            for (int part = 0; part < parts; ++part) {
                const Range own = share(range, part, parts);
                check(own.begin == at && own.end >= own.begin && (part == 0 || own.begin % 16 == 0 || own.begin == range.begin),
                      "shares follow each other at whole lines");
                at = own.end;
            }
            check(at == range.end, "shares cover the range");
        }
}

// A layer that leads to no loss runs no backward pass, so that no thread has a part of its gradient.
void unreached() {
    std::vector<Record> all = plan();
    all.push_back(record("linear", 2, 4, {{"out_features", {{5.0}, {}}}}, {{"weight", kParameters}}));
    const Index count = kParameters + 5 * kInner;
    Network network(kInput, all, {3, 4}, count, 0);
    Memory memory(2);
    memory.parameters.resize(static_cast<std::size_t>(count), 0.5f);
    memory.gradients.resize(static_cast<std::size_t>(count), -7.0f);
    memory.step(network, 33, 3, nullptr);
    check(std::all_of(memory.gradients.begin() + kParameters, memory.gradients.end(), [](float g) { return g == -7.0f; }),
          "gradients of a layer without a loss are left alone");
}

}  // namespace
}  // namespace convscope::test

int main() {
    using namespace convscope::test;
    pieces();
    unreached();
    for (const std::string& isa : convscope::available_isas()) {
        convscope::choose_isa(isa);
        const auto all = kinds();
        for (std::size_t number = 0; number < all.size(); ++number)
            for (const int threads : {1, 2, 3}) descending(isa, all[number], number, 33, threads);
    }
    return report();
}
