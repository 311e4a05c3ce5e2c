#include "cases.h"

#include <algorithm>
#include <cmath>

namespace convscope::test {

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
    all.push_back(Draft("panels of maps", {3, 5, 6})
                      .convolution(3, 17, 3, 3, {{"padding", one}})
                      .add("relu")
                      .convolution(17, 18, 3, 3, {{"padding", two}, {"flip_kernel", yes}})
                      .add("max_pool", {{"kernel_size", two}})
                      .linear(18 * 3 * 4, 3)
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
    // 1 × 1 and 3 × 3 kernels of many maps, too small for a tile of 4 × 4: products whose input has a border, since a
    // 3 × 3 kernel reads it too, and whose output has one for the next.
    Case products = Draft("products beside borders", {2, 2, 3})
                        .convolution(2, 16, 3, 3, {{"padding", one}})
                        .add("relu")
                        .convolution(16, 16, 3, 3, {{"padding", one}})
                        .convolution(16, 16, 1, 1)
                        .join("add", 3)
                        .convolution(16, 19, 1, 1)
                        .add("relu")
                        .convolution(19, 9, 3, 3, {{"padding", one}, {"flip_kernel", yes}})
                        .linear(54, 3)
                        .loss();
    products.records[3].inputs = {2};
    all.push_back(products);
    for (const char* each : {"squared_error", "binary_cross_entropy", "hinge"})
        all.push_back(Draft(each, {2, 4, 3}).linear(24, 7).add("tanh").linear(7, 5).loss(each));
    all.push_back(Draft("smoothed", {2, 4, 3})
                      .linear(24, 7)
                      .loss("cross_entropy", {{"label_smoothing", list({0.2})}, {"weight", list({0.5})}}));
    return all;
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

}  // namespace convscope::test
