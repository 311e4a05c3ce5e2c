// Layers that training computes by products of matrices: 3 × 3 kernels by F(2 × 2, 3 × 3) on maps that fill no tile of
// 4 × 4 (and by F(4 × 4, 3 × 3) beside them), 1 × 1 kernels as they are. Forward, δ and weight gradients on every
// instruction set, for one picture to three blocks, with one and two threads, against sums in doubles.
#include <cmath>
#include <cstdlib>
#include <random>

#include "cases.h"
#include "check.h"
#include "dispatch/isa.h"
#include "graph/network.h"

namespace convscope::test {
namespace {

constexpr Index kBatches[] = {1, 5, 16, 17, 33};
constexpr double kTolerance = 1e-5;  // of the largest number of each result

struct Layer {
    Index from, to, height, width;
    Index kernel, padding;
    bool flipped;
    std::string forward, delta, gradient;  // the ways it must go
    std::string name() const {
        return std::to_string(from) + " to " + std::to_string(to) + " maps of " + std::to_string(height) + "x" +
               std::to_string(width) + ", kernel " + std::to_string(kernel) + ", padding " + std::to_string(padding);
    }
};

const std::string kTwo = "F(2x2,3x3)", kFour = "F(4x4,3x3)", kProduct = "product";

std::vector<Layer> layers() {
    std::vector<Layer> all;
    const auto square = [&](Index from, Index to, Index height, Index width, Index padding, const std::string& way,
                            bool flipped = false) {
        all.push_back({from, to, height, width, 3, padding, flipped, way, way, way});
    };
    square(8, 8, 2, 2, 1, kTwo);
    square(17, 19, 3, 2, 1, kTwo);
    square(33, 24, 1, 1, 1, kTwo);
    square(24, 35, 4, 5, 0, kTwo);
    square(16, 130, 3, 4, 0, kTwo);
    square(130, 24, 2, 2, 1, kTwo, true);  // two chunks of input maps
    square(520, 9, 2, 14, 1, kTwo);        // bands of tiles, of the sums and of the weight gradients
    square(24, 18, 5, 6, 2, kFour);
    square(19, 33, 7, 7, 1, kFour, true);
    const auto matrix = [&](Index from, Index to, Index height, Index width) {
        const bool whole = from % 16 == 0;  // what weight gradients ask for
        all.push_back({from, to, height, width, 1, 0, false, kProduct, kProduct, whole ? kProduct : ""});
    };
    matrix(8, 9, 3, 5);
    matrix(33, 24, 5, 3);
    matrix(16, 17, 2, 2);
    matrix(64, 64, 1, 2);
    matrix(48, 100, 4, 3);
    matrix(208, 40, 2, 3);  // added up in two parts
    matrix(32, 48, 17, 3);  // rows that do not divide into what is turned at once
    matrix(16, 24, 3, 21);
    matrix(32, 32, 8, 8);  // maps that lie apart
    return all;
}

struct Results {
    std::vector<double> output, delta, weights, bias;
};

// u = K ∗ x + b, and back from δ of u.
Results exactly(const Layer& layer, Index n, const std::vector<float>& parameters, const std::vector<float>& images,
                const std::vector<float>& deltas) {
    const Index k = layer.kernel, pad = layer.padding, area = layer.height * layer.width;
    const Index rows = layer.height + 2 * pad - k + 1, columns = layer.width + 2 * pad - k + 1;
    const auto u = [](Index i) { return static_cast<std::size_t>(i); };
    const Index weights = layer.from * layer.to * k * k;
    Results r;
    r.output.resize(u(n * layer.to * rows * columns));
    r.delta.resize(u(n * layer.from * area));
    r.weights.resize(u(weights));
    r.bias.resize(u(layer.to));
    for (Index image = 0; image < n; ++image)
        for (Index to = 0; to < layer.to; ++to) {
            const Index out = (image * layer.to + to) * rows * columns;
            for (Index i = 0; i < rows * columns; ++i) {
                r.output[u(out + i)] = static_cast<double>(parameters[u(weights + to)]);
                r.bias[u(to)] += static_cast<double>(deltas[u(out + i)]);
            }
            for (Index from = 0; from < layer.from; ++from)
                for (Index tap = 0; tap < k * k; ++tap) {
                    const Index at = (to * layer.from + from) * k * k + (layer.flipped ? k * k - 1 - tap : tap);
                    const auto weight = static_cast<double>(parameters[u(at)]);
                    double sum = 0;
                    for (Index y = 0; y < rows; ++y)
                        for (Index x = 0; x < columns; ++x) {
                            const Index row = y + tap / k - pad, column = x + tap % k - pad;
                            if (row < 0 || column < 0 || row >= layer.height || column >= layer.width) continue;
                            const Index in = (image * layer.from + from) * area + row * layer.width + column;
                            const auto pixel = static_cast<double>(images[u(in)]);
                            const auto delta = static_cast<double>(deltas[u(out + y * columns + x)]);
                            r.output[u(out + y * columns + x)] += weight * pixel;
                            r.delta[u(in)] += weight * delta;
                            sum += delta * pixel;
                        }
                    r.weights[u(at)] += sum;
                }
        }
    return r;
}

class Trial {
public:
    Trial(const Layer& layer, Index n) : layer_(layer), n_(n) {
        std::mt19937 random(11);
        std::normal_distribution<float> normal(0.1f, 0.5f);
        const Index k = layer.kernel, grown = 2 * layer.padding - k + 1;
        weights_ = layer.from * layer.to * k * k;
        outputs_ = layer.to * (layer.height + grown) * (layer.width + grown);
        const auto fill = [&](std::vector<float>& values, Index count) {
            for (Index i = 0; i < count; ++i) values.push_back(normal(random));
        };
        fill(parameters_, weights_ + layer.to);
        fill(images_, n * layer.from * layer.height * layer.width);
        fill(deltas_, n * outputs_);
        exact_ = exactly(layer, n, parameters_, images_, deltas_);
    }

    void run(const std::string& isa) {
        Network network = built();
        const std::string described = network.describe(n_, 1, true);
        const auto goes = [&](const std::string& pass, const std::string& way) {
            const std::string told = pass + " " + way;
            check(described.find(told) != std::string::npos, layer_.name() + " goes by " + told + ": " + described);
        };
        goes("forward", layer_.forward);
        goes("delta", layer_.delta);
        goes("gradient", layer_.gradient);
        const std::string label = isa + ", " + layer_.name() + ", " + std::to_string(n_) + " pictures";
        const Found one = pass(network, 1);
        compare(label + ", forward", one.output, exact_.output);
        compare(label + ", delta", one.delta, exact_.delta);
        compare(label + ", weights", {one.gradients.begin(), one.gradients.begin() + weights_}, exact_.weights);
        compare(label + ", bias", {one.gradients.begin() + weights_, one.gradients.end()}, exact_.bias);
        same(label, one, pass(network, 1), true);
        Network other = built();
        same(label + ", another network", one, pass(other, 1), true);
        // Threads share out whole blocks: what belongs to pictures is the same, and of two blocks the gradients are
        // added up in another order.
        const Found two = pass(network, 2);
        same(label + ", two threads beside one", one, two, n_ <= 16);
        same(label + ", two threads", two, pass(network, 2), true);
        compare(label + ", two threads, weights", {two.gradients.begin(), two.gradients.begin() + weights_},
                exact_.weights);
    }

private:
    struct Found {
        std::vector<float> output, delta, gradients;
    };

    Network built() const {
        const auto both = [](Index each) { return list({static_cast<double>(each), static_cast<double>(each)}); };
        std::vector<Record> records{record("conv2d", 0, 1,
                                           {{"out_channels", list({static_cast<double>(layer_.to)})},
                                            {"kernel_size", both(layer_.kernel)},
                                            {"padding", both(layer_.padding)},
                                            {"flip_kernel", list({layer_.flipped ? 1.0 : 0.0})}},
                                           {{"weight", 0}, {"bias", weights_}})};
        return Network({layer_.from, layer_.height, layer_.width}, std::move(records), {1}, weights_ + layer_.to, 0,
                       "images");
    }

    Found pass(Network& network, int threads) {
        Found found{std::vector<float>(static_cast<std::size_t>(n_ * outputs_), NAN),
                    std::vector<float>(images_.size(), NAN), std::vector<float>(parameters_.size(), NAN)};
        Call call;
        call.parameters = parameters_.data();
        call.images.floats = images_.data();
        call.images.count = n_;
        call.training = true;
        call.threads = threads;
        call.outputs = {found.output.data()};
        network.forward(call);
        call.outputs = {};
        call.output_deltas = {deltas_.data()};
        call.gradients = found.gradients.data();
        call.input_delta = found.delta.data();
        network.backward(call);
        return found;
    }

    static void compare(const std::string& label, const std::vector<float>& got, const std::vector<double>& wanted) {
        const double off = distance({got.begin(), got.end()}, wanted);
        check(off < kTolerance, label + " " + std::to_string(off * 1e6) + "e-6");
    }

    static void same(const std::string& label, const Found& one, const Found& other, bool gradients) {
        check(one.output == other.output, label + ": forward, bit for bit");
        check(one.delta == other.delta, label + ": delta, bit for bit");
        check(!gradients || one.gradients == other.gradients, label + ": gradients, bit for bit");
    }

    Layer layer_;
    Index n_, weights_ = 0, outputs_ = 0;
    std::vector<float> parameters_, images_, deltas_;
    Results exact_;
};

}  // namespace
}  // namespace convscope::test

int main() {
    using namespace convscope;
    using namespace convscope::test;
    setenv("CONVSCOPE_WINOGRAD", "always", 1);
    for (const Layer& layer : layers())
        for (const Index n : kBatches) {
            Trial trial(layer, n);
            for (const std::string& isa : available_isas()) {
                choose_isa(isa);
                trial.run(isa);
            }
        }
    return report();
}
