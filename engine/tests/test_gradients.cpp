// Every operator and option on every instruction set, with 1 to 3 threads and awkward batch sizes, against the oracle:
// outputs and loss directly, gradients of parameters and images by central differences of the oracle in doubles.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <random>
#include <utility>

#include "check.h"
#include "dispatch/isa.h"
#include "graph/network.h"
#include "oracle.h"

namespace convscope::test {
namespace {

#if defined(CONVSCOPE_QUICK_TESTS)  // under a sanitizer everything takes ten to fifty times as long
constexpr std::pair<Index, int> kSizes[] = {{17, 2}, {33, 3}};
constexpr std::size_t kVariables = 2;
#else
constexpr std::pair<Index, int> kSizes[] = {{1, 1}, {15, 2}, {16, 1}, {17, 2}, {33, 3}};
constexpr std::size_t kVariables = 12;  // of the parameters, and of the images, whose derivatives are compared
#endif

struct Case {
    std::string name;
    Shape input;
    std::vector<Record> records;  // parameters and state are given places by `Draft`
    Index parameters = 0, state = 0;
    bool classes = true;
};

Attribute list(std::vector<double> numbers) { return {std::move(numbers), {}}; }

// Writes plans of one chain, giving each layer its places.
class Draft {
public:
    Draft(std::string name, Shape input) : case_{std::move(name), input, {}, 0, 0, true} {}

    Draft& convolution(Index in, Index out, Index kh, Index kw, std::map<std::string, Attribute> more = {},
                       Index kernels = 0) {
        more["out_channels"] = list({static_cast<double>(out)});
        more["kernel_size"] = list({static_cast<double>(kh), static_cast<double>(kw)});
        return add("conv2d", more, {{"weight", (kernels ? kernels : in * out) * kh * kw}, {"bias", out}});
    }
    Draft& linear(Index in, Index out) {
        return add("linear", {{"out_features", list({static_cast<double>(out)})}},
                   {{"weight", in * out}, {"bias", out}});
    }
    Draft& add(const std::string& kind, std::map<std::string, Attribute> attributes = {},
               std::map<std::string, Index> parameters = {}, std::map<std::string, Index> state = {}) {
        for (auto& [name, count] : parameters) case_.parameters += std::exchange(count, case_.parameters);
        for (auto& [name, count] : state) case_.state += std::exchange(count, case_.state);
        case_.records.push_back(record(kind, last_, last_ + 1, attributes, parameters, state));
        ++last_;
        return *this;
    }
    Draft& join(const std::string& kind, int with) {
        add(kind);
        case_.records.back().inputs.push_back(with);
        return *this;
    }
    Case loss(const std::string& kind = "cross_entropy", std::map<std::string, Attribute> attributes = {}) {
        case_.records.push_back(record(kind, last_, -1, attributes));
        case_.classes = kind != "squared_error" && kind != "binary_cross_entropy";
        return case_;
    }

private:
    Case case_;
    int last_ = 0;
};

std::vector<Case> cases() {
    std::vector<Case> all;
    const Attribute two = list({2, 2}), three = list({3, 3}), one = list({1, 1}), yes = list({1});
    all.push_back(Draft("fused lenet", {1, 12, 11})
                      .convolution(1, 6, 5, 5, {{"padding", two}})
                      .add("relu")
                      .add("max_pool", {{"kernel_size", two}})
                      .convolution(6, 7, 3, 3)
                      .add("tanh")
                      .add("max_pool", {{"kernel_size", list({2, 1})}})
                      .add("flatten")
                      .linear(42, 9)
                      .add("sigmoid")
                      .linear(9, 4)
                      .loss());
    all.push_back(Draft("strided", {3, 9, 13})
                      .convolution(3, 5, 3, 4, {{"stride", list({2, 3})}, {"padding", list({1, 2})}})
                      .add("relu")
                      .linear(5 * 5 * 5, 3)
                      .loss());
    all.push_back(
        Draft("dilated", {2, 11, 12})
            .convolution(2, 17, 3, 2, {{"dilation", list({2, 3})}, {"padding", two}, {"stride", list({1, 2})}})
            .linear(17 * 11 * 7, 3)
            .loss());
    all.push_back(Draft("groups", {6, 7, 5})
                      .convolution(2, 6, 3, 3, {{"groups", list({3})}, {"padding", one}})
                      .convolution(1, 6, 3, 3, {{"groups", list({6})}})
                      .linear(6 * 5 * 3, 3)
                      .loss());
    all.push_back(
        Draft("table", {3, 8, 7})
            .convolution(3, 4, 3, 3, {{"table", {{}, {{0, 1}, {1, 2}, {0, 1, 2}, {2}}}}, {"flip_kernel", yes}}, 8)
            .add("scaled_tanh")
            .linear(4 * 6 * 5, 3)
            .loss());
    all.push_back(Draft("overlapping maxima", {2, 9, 8})
                      .convolution(2, 3, 3, 3, {{"padding", one}})
                      .add("max_pool", {{"kernel_size", three}, {"stride", two}, {"padding", one}})
                      .add("max_pool", {{"kernel_size", two}, {"ceil_mode", yes}})
                      .linear(3 * 3 * 2, 3)
                      .loss());
    all.push_back(
        Draft("means", {2, 9, 8})
            .convolution(2, 3, 3, 3, {{"padding", one}})
            .add("mean_pool", {{"kernel_size", three}, {"stride", two}, {"padding", one}, {"ceil_mode", yes}})
            .add("mean_pool",
                 {{"kernel_size", three}, {"stride", one}, {"padding", one}, {"count_include_pad", list({0})}})
            .add("global_mean")
            .linear(3, 3)
            .loss());
    all.push_back(Draft("sums", {2, 9, 8})
                      .convolution(2, 3, 3, 3)
                      .add("sum_pool", {{"kernel_size", two}})
                      .add("l2_pool", {{"kernel_size", two}, {"stride", one}})
                      .linear(3 * 2 * 2, 3)
                      .loss());
    all.push_back(Draft("subsampling", {1, 8, 8})
                      .convolution(1, 3, 3, 3)
                      .add("scaled_tanh")
                      .add("subsample", {{"kernel_size", two}}, {{"weight", 3}, {"bias", 3}})
                      .add("scaled_tanh")
                      .linear(27, 5)
                      .add("rbf_units", {{"out_features", list({4})}}, {}, {{"weight", 20}})
                      .loss("rbf_loss"));
    all.push_back(Draft("curves", {1, 9, 6})
                      .convolution(1, 3, 2, 2)
                      .add("leaky_relu")
                      .convolution(3, 3, 2, 2)
                      .add("elu")
                      .convolution(3, 3, 2, 2)
                      .add("silu")
                      .convolution(3, 3, 2, 1)
                      .add("softplus")
                      .convolution(3, 3, 2, 1)
                      .add("relu6")
                      .add("hard_tanh", {{"high", list({2})}})
                      .linear(36, 4)
                      .add("softmax")
                      .loss());
    all.push_back(Draft("response norm", {5, 3, 4})
                      .convolution(5, 6, 1, 1)
                      .add("response_norm", {{"size", list({5})}, {"alpha", list({0.5})}})
                      .add("response_norm", {{"size", list({4})}, {"alpha", list({0.3})}, {"k", list({2})}})
                      .linear(72, 3)
                      .loss());
    all.push_back(Draft("batch norm", {2, 6, 5})
                      .convolution(2, 5, 3, 3)
                      .add("batch_norm", {}, {{"weight", 5}, {"bias", 5}}, {{"running_mean", 5}, {"running_var", 5}})
                      .add("tanh")
                      .convolution(5, 4, 2, 2)
                      .add("batch_norm", {}, {{"weight", 4}, {"bias", 4}}, {{"running_mean", 4}, {"running_var", 4}})
                      .linear(24, 3)
                      .loss());
    all.push_back(Draft("branches", {3, 6, 5})
                      .convolution(3, 4, 3, 3, {{"padding", one}})
                      .add("tanh")
                      .convolution(4, 4, 3, 3, {{"padding", one}})
                      .join("add", 2)
                      .add("relu")
                      .join("concat", 2)
                      .linear(8 * 30, 3)
                      .loss());
    all.push_back(Draft("many maps", {17, 6, 7})
                      .convolution(17, 33, 3, 3, {{"padding", one}})
                      .add("relu")
                      .convolution(33, 18, 1, 1, {{"stride", two}})
                      .linear(18 * 12, 3)
                      .loss());
    // Maps of 8 × 8 positions get a gap; in the second case one reader wants a border, another a vector.
    all.push_back(Draft("maps of a page", {3, 8, 8})
                      .convolution(3, 5, 1, 1)
                      .add("tanh")
                      .convolution(5, 4, 1, 1)
                      .add("dropout", {{"p", list({0})}})
                      .join("concat", 2)
                      .add("max_pool", {{"kernel_size", three}, {"stride", two}})
                      .linear(81, 3)
                      .loss());
    all.push_back(Draft("border and vector", {2, 8, 8})
                      .convolution(2, 4, 3, 3, {{"padding", one}})
                      .convolution(4, 4, 3, 3, {{"padding", one}})
                      .join("add", 1)
                      .add("flatten")
                      .add("tanh")
                      .linear(256, 3)
                      .loss());
    // Columns of 3 to 7 taps, each with tiles cut off at the right; rows strided, dilated, padded; grouped; rotated.
    all.push_back(Draft("columns of 3 and 5 taps", {3, 6, 11})
                      .convolution(3, 9, 2, 3, {{"padding", list({1, 2})}})
                      .add("relu")
                      .add("max_pool", {{"kernel_size", two}})
                      .convolution(9, 5, 5, 5, {{"padding", two}})
                      .add("tanh")
                      .linear(5 * 3 * 6, 3)
                      .loss());
    all.push_back(Draft("columns of 4 and 6 taps", {2, 7, 17})
                      .convolution(2, 4, 3, 4, {{"stride", list({2, 1})}, {"padding", one}, {"flip_kernel", yes}})
                      .convolution(2, 6, 2, 6, {{"groups", list({2})}, {"dilation", list({2, 1})}})
                      .linear(6 * 2 * 11, 3)
                      .loss());
    all.push_back(Draft("columns of 7 taps", {3, 5, 8})
                      .convolution(3, 4, 3, 7, {{"padding", list({0, 3})}})
                      .add("scaled_tanh")
                      .add("max_pool", {{"kernel_size", list({3, 1})}})
                      .linear(4 * 8, 3)
                      .loss());
    for (const char* each : {"squared_error", "binary_cross_entropy", "hinge"})
        all.push_back(Draft(each, {2, 4, 3}).linear(24, 7).add("tanh").linear(7, 5).loss(each));
    all.push_back(Draft("smoothed", {2, 4, 3})
                      .linear(24, 7)
                      .loss("cross_entropy", {{"label_smoothing", list({0.2})}, {"weight", list({0.5})}}));
    return all;
}

bool widely_convolved(const Case& what) {
    return std::any_of(what.records.begin(), what.records.end(), [](const Record& each) {
        return each.kind == "conv2d" && each.attributes.at("kernel_size").numbers[1] >= 3;
    });
}

double largest(const std::vector<double>& values) {
    double most = 0;
    for (const double each : values) most = std::max(most, std::abs(each));
    return most;
}

// Largest difference between `got` and `wanted`, relative to the largest wanted.
double distance(const std::vector<double>& got, const std::vector<double>& wanted) {
    double most = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) most = std::max(most, std::abs(got[i] - wanted[i]));
    return std::isfinite(most) ? most / std::max(1e-6, largest(wanted)) : 1e9;
}

class Trial {
public:
    Trial(const Case& what, Index n, bool training, int threads) : what_(what), threads_(threads), random_(7) {
        std::normal_distribution<float> normal(0.0f, 0.25f);
        const auto fill = [&](std::vector<float>& values, Index count, float shift) {
            for (Index i = 0; i < count; ++i) values.push_back(normal(random_) + shift);
        };
        fill(parameters_, what.parameters, 0);
        fill(images_, n * what.input.positions(), 0);
        for (Index i = 0; i < what.state; ++i) state_.push_back(0.5f + static_cast<float>(i % 7) * 0.1f);
        problem_.input = what.input;
        problem_.records = what.records;
        problem_.parameters.assign(parameters_.begin(), parameters_.end());
        problem_.state.assign(state_.begin(), state_.end());
        problem_.images.assign(images_.begin(), images_.end());
        problem_.n = n;
        problem_.training = training;
    }

    void run(const std::string& label) {
        const int last = what_.records[what_.records.size() - 2].output;
        Network network(what_.input, what_.records, {last}, what_.parameters, what_.state);
        const Index outputs = network.graph().output_shapes[0].positions();
        for (Index i = 0; i < problem_.n; ++i) {
            if (what_.classes) problem_.classes.push_back(static_cast<std::int64_t>(i % outputs));
            else
                for (Index o = 0; o < outputs; ++o) problem_.numbers.push_back(static_cast<double>((i + o) % 3) / 2);
        }
        const std::vector<float> numbers(problem_.numbers.begin(), problem_.numbers.end());
        std::vector<float> gradients(parameters_.size(), NAN), input_delta(images_.size(), NAN),
            output(static_cast<std::size_t>(problem_.n * outputs), NAN);
        Call call;
        call.parameters = parameters_.data();
        call.gradients = gradients.data();
        call.state = state_.data();
        call.images.floats = images_.data();
        call.images.count = problem_.n;
        call.classes = problem_.classes.data();
        call.numbers = numbers.data();
        call.outputs = {output.data()};
        call.input_delta = input_delta.data();
        call.training = problem_.training;
        call.threads = threads_;
        const double loss = network.step(call);
        std::vector<double> wanted;
        const double wanted_loss = oracle(problem_, &wanted);
        check(std::abs(loss - wanted_loss) <= 2e-6 * std::max(1.0, std::abs(wanted_loss)), label + " loss");
        const double off = distance({output.begin(), output.end()}, wanted);
        check(off < 1e-5, label + " outputs " + std::to_string(off));
        compare(label + " parameters", problem_.parameters, gradients);
        compare(label + " images", problem_.images, input_delta);

        // Without δ of the images other paths are taken; the gradients are the same numbers, run after run.
        call.input_delta = nullptr;
        call.outputs = {};
        std::vector<float> again(parameters_.size(), NAN), third(parameters_.size(), NAN);
        call.gradients = again.data();
        network.step(call);
        check(distance({again.begin(), again.end()}, {gradients.begin(), gradients.end()}) < 1e-6,
              label + " without images' delta");
        call.gradients = third.data();
        network.step(call);
        check(again == third, label + " repeats bit for bit");
    }

private:
    void compare(const std::string& label, std::vector<double>& variables, const std::vector<float>& found) {
        constexpr double h = 1e-6;
        std::vector<double> got, wanted;
        // Some of the variables, and the one whose gradient is the largest, which the others are measured by.
        const std::size_t stride = std::max<std::size_t>(1, variables.size() / kVariables);
        std::vector<std::size_t> chosen;
        for (std::size_t i = 0; i < variables.size(); i += stride) chosen.push_back(i);
        const auto larger = [](float a, float b) { return std::abs(a) < std::abs(b); };
        const auto most = std::max_element(found.begin(), found.end(), larger);
        if (most != found.end()) chosen.push_back(static_cast<std::size_t>(most - found.begin()));
        for (const std::size_t i : chosen) {
            const double kept = variables[i];
            variables[i] = kept + h;
            const double up = oracle(problem_);
            variables[i] = kept - h;
            const double down = oracle(problem_);
            variables[i] = kept;
            wanted.push_back((up - down) / (2 * h));
            got.push_back(static_cast<double>(found[i]));
        }
        const double off = distance(got, wanted);
        check(off < 5e-5, label + " " + std::to_string(off));
        got[got.size() / 2] += 2e-4 * std::max(1e-6, largest(wanted));
        check(!(distance(got, wanted) < 5e-5), label + " canary");
    }

    Case what_;
    int threads_;
    std::mt19937 random_;
    std::vector<float> parameters_, images_, state_;
    Problem problem_;
};

}  // namespace
}  // namespace convscope::test

int main() {
    using namespace convscope;
    using namespace convscope::test;
    // These networks are too small for Winograd's algorithm to pay, so it is also asked for wherever it can be had.
    for (const std::string winograd : {"never", "always"}) {
        setenv("CONVSCOPE_WINOGRAD", winograd.c_str(), 1);
        for (const std::string& isa : available_isas()) {
            choose_isa(isa);
            for (const Case& each : cases())
                for (const auto& [n, threads] : kSizes)
                    for (const bool training : {true, false}) {
                        const bool normalised = each.name == "batch norm";
                        if ((!training && !normalised) || (training && normalised && n == 1)) continue;
                        if (winograd == "always" && !widely_convolved(each)) continue;
                        Trial(each, n, training, threads)
                            .run(isa + ", Winograd " + winograd + ", " + each.name + ", n = " + std::to_string(n));
                    }
        }
    }
    return report();
}
