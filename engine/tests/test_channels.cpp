// The channels-blocked layout: every operator and option on every instruction set, directly and by Winograd's algorithm,
// with 1 to 3 threads and awkward batch sizes, against the oracle.
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <utility>

#include "cases.h"
#include "check.h"
#include "dispatch/isa.h"
#include "graph/network.h"

namespace convscope::test {
namespace {

#if defined(CONVSCOPE_QUICK_TESTS)  // under a sanitizer everything takes ten to fifty times as long
constexpr std::pair<Index, int> kSizes[] = {{1, 2}, {3, 3}};
#else
constexpr std::pair<Index, int> kSizes[] = {{1, 1}, {2, 3}, {15, 2}, {16, 1}, {17, 2}, {33, 3}};
#endif

constexpr double kTolerance = 1e-5;  // of the largest output

Draft& normalised(Draft& draft, Index channels) {
    return draft
        .add("batch_norm", {}, {{"weight", channels}, {"bias", channels}},
             {{"running_mean", channels}, {"running_var", channels}})
        .add("relu");
}

// What only this layout treats in a way of its own.
std::vector<Case> channel_cases() {
    const Attribute two = list({2, 2}), three = list({3, 3}), one = list({1, 1});
    std::vector<Case> all;
    all.push_back(Draft("three by three", {3, 9, 14})
                      .convolution(3, 37, 3, 3, {{"padding", one}})
                      .add("relu")
                      .convolution(37, 35, 3, 3)
                      .add("tanh")
                      .convolution(35, 33, 3, 3, {{"padding", two}, {"flip_kernel", list({1})}})
                      .loss());
    all.push_back(Draft("one by one", {17, 7, 9})
                      .convolution(17, 64, 1, 1)
                      .add("relu6")
                      .convolution(64, 49, 1, 1, {{"stride", two}})
                      .convolution(49, 5, 1, 1, {{"padding", one}})
                      .loss());
    all.push_back(Draft("depthwise", {33, 9, 11})
                      .convolution(1, 33, 3, 3, {{"groups", list({33})}, {"padding", one}})
                      .add("relu6")
                      .convolution(1, 33, 3, 2, {{"groups", list({33})}, {"stride", two}, {"flip_kernel", list({1})}})
                      .convolution(1, 33, 2, 2, {{"groups", list({33})}, {"dilation", two}, {"padding", one}})
                      .loss());
    all.push_back(Draft("groups of whole blocks", {32, 6, 5})
                      .convolution(16, 64, 3, 3, {{"groups", list({2})}, {"padding", one}})
                      .add("relu")
                      .convolution(4, 64, 3, 3, {{"groups", list({16})}})
                      .loss());
    all.push_back(Draft("pooled", {5, 13, 11})
                      .convolution(5, 19, 3, 3, {{"padding", one}})
                      .add("relu")
                      .add("max_pool", {{"kernel_size", two}})
                      .convolution(19, 18, 1, 1)
                      .add("tanh")
                      .add("max_pool", {{"kernel_size", two}})
                      .convolution(18, 7, 2, 2)
                      .add("silu")
                      .add("max_pool", {{"kernel_size", list({2, 1})}})
                      .loss());
    all.push_back(Draft("residual", {3, 8, 9})
                      .convolution(3, 20, 3, 3, {{"padding", one}})
                      .add("relu")
                      .convolution(20, 20, 3, 3, {{"padding", one}})
                      .add("relu")
                      .convolution(20, 20, 3, 3, {{"padding", one}})
                      .join("add", 2)
                      .add("relu")
                      .convolution(20, 20, 1, 1)
                      .join("add", 7)
                      .add("softplus")
                      .loss());
    for (const Index width : {16, 17}) {  // of what each layer adds: a whole block, and more
        Draft draft("joined again and again, " + std::to_string(width), {3, 7, 6});
        draft.convolution(3, 32, 3, 3, {{"padding", one}});
        Index channels = 32;
        int last = 1;
        for (int layer = 0; layer < 3; ++layer) {
            normalised(draft, channels).convolution(channels, 24, 1, 1);
            normalised(draft, 24).convolution(24, width, 3, 3, {{"padding", one}}).join("concat", last);
            channels += width;
            last += 7;
        }
        all.push_back(draft.add("global_mean").loss());
    }
    // Groups of three and of two blocks, which take the input in chunks of different sizes.
    for (const Index channels : {192, 400}) {
        Draft draft("normalised on the way, " + std::to_string(channels), {channels, 2, 3});
        all.push_back(normalised(draft, channels).convolution(channels, 128, 1, 1).loss());
    }
    all.push_back(Draft("chosen channels", {6, 5, 4})
                      .convolution(6, 21, 1, 1)
                      .convolution(21, 4, 1, 1, {{"table", {{}, {{20}, {3}, {3}, {16}}}}}, 4)
                      .add("relu")
                      .loss());
    all.push_back(Draft("vectors", {4, 3, 3})
                      .convolution(4, 18, 3, 3)
                      .add("relu")
                      .convolution(18, 17, 3, 3, {{"padding", one}})
                      .convolution(17, 20, 1, 1)
                      .add("softmax")
                      .loss());
    return all;
}

class Trial {
public:
    Trial(const Case& what, Index n) : what_(what) {
        std::mt19937 random(11);
        std::normal_distribution<float> normal(0.0f, 0.25f);
        for (Index i = 0; i < what.parameters; ++i) parameters_.push_back(normal(random));
        for (Index i = 0; i < what.state; ++i) state_.push_back(0.5f + static_cast<float>(i % 7) * 0.1f);
        for (Index i = 0; i < n * what.input.positions(); ++i) images_.push_back(normal(random));
        Problem problem;
        problem.input = what.input;
        problem.records = what.records;
        std::erase_if(problem.records, [](const Record& each) { return each.output < 0; });
        problem.parameters.assign(parameters_.begin(), parameters_.end());
        problem.state.assign(state_.begin(), state_.end());
        problem.images.assign(images_.begin(), images_.end());
        problem.n = n;
        oracle(problem, &wanted_);
        last_ = problem.records.back().output;
    }

    void run(const std::string& label, int threads) {
        Network network(what_.input, what_.records, {last_}, what_.parameters, what_.state, "channels");
        check(network.describe(1, threads, false).find("channels-blocked") != std::string::npos, label + " layout");
        const std::vector<float> got = answer(network, threads);
        const double off = distance({got.begin(), got.end()}, wanted_);
        check(off < kTolerance, label + " " + std::to_string(off));
        check(answer(network, threads) == got, label + " again");
        check(answer(network, 1) == got, label + " on one thread");
        std::vector<double> other(got.begin(), got.end());
        other[other.size() / 2] += 3 * kTolerance * std::max(1e-6, largest(wanted_));
        check(!(distance(other, wanted_) < kTolerance), label + " canary");
        if (parameters_.empty()) return;
        // Parameters that change under the network's hands.
        const std::vector<float> kept = parameters_;
        for (float& each : parameters_) each *= 1.5f;
        check(answer(network, threads) != got, label + " sees changed parameters");
        parameters_ = kept;
        check(answer(network, threads) == got, label + " sees them changed back");
    }

private:
    std::vector<float> answer(Network& network, int threads) {
        std::vector<float> output(wanted_.size(), std::numeric_limits<float>::quiet_NaN());
        Call call;
        call.parameters = parameters_.data();
        call.state = state_.data();
        call.images.floats = images_.data();
        call.images.count = static_cast<Index>(images_.size()) / what_.input.positions();
        call.outputs = {output.data()};
        call.threads = threads;
        network.forward(call);
        return output;
    }

    const Case& what_;
    std::vector<float> parameters_, state_, images_;
    std::vector<double> wanted_;
    int last_ = 0;
};

}  // namespace
}  // namespace convscope::test

int main() {
    using namespace convscope;
    using namespace convscope::test;
    std::vector<Case> all = channel_cases();
    for (Case& each : cases()) all.push_back(std::move(each));
    for (const Case& each : all)
        for (const auto& [n, threads] : kSizes) {
            Trial trial(each, n);
            for (const std::string winograd : {"never", "always"}) {
                setenv("CONVSCOPE_WINOGRAD", winograd.c_str(), 1);
                for (const std::string& isa : available_isas()) {
                    choose_isa(isa);
                    trial.run(isa + ", Winograd " + winograd + ", " + each.name + ", n = " + std::to_string(n),
                              threads);
                }
            }
        }
    check(!message_of<std::invalid_argument>([] { layout_of("rows", false); }).empty(), "unknown layouts are refused");
    return report();
}
