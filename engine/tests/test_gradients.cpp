// Every operator and option on every instruction set, with 1 to 3 threads and awkward batch sizes, against the oracle:
// outputs and loss directly, gradients of parameters and images by central differences of the oracle in doubles.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <utility>

#include "cases.h"
#include "check.h"
#include "dispatch/isa.h"
#include "graph/network.h"

namespace convscope::test {
namespace {

#if defined(CONVSCOPE_QUICK_TESTS)  // under a sanitizer everything takes ten to fifty times as long
constexpr std::pair<Index, int> kSizes[] = {{17, 3}, {33, 2}};
constexpr std::size_t kVariables = 2;
#else
constexpr std::pair<Index, int> kSizes[] = {{1, 1}, {15, 2}, {16, 1}, {17, 2}, {33, 2}, {33, 3}};
constexpr std::size_t kVariables = 12;  // of the parameters, and of the images, whose derivatives are compared
#endif

bool widely_convolved(const Case& what) {
    return std::any_of(what.records.begin(), what.records.end(), [](const Record& each) {
        return each.kind == "conv2d" && each.attributes.at("kernel_size").numbers[1] >= 3;
    });
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
