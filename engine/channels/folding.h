// What becomes of a layer's sums before they are stored: batch normalisation with running statistics, activation.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "kernels/arguments.h"
#include "kernels/table.h"
#include "ops/record.h"

namespace convscope::channels {

// y = s·u + b by channel: the layer's own bias and the batch normalisations after it, γ·(u − μ)/√(σ² + ε) + β each, read
// from the parameters as they are at every call and worked out in double.
class Folding {
public:
    void add_bias(const Place& bias) { steps_.push_back({Place{}, bias, Place{}, Place{}, 0}); }
    void add_affine(const Place& weight, const Place& bias) { steps_.push_back({weight, bias, Place{}, Place{}, 0}); }
    void add_normalisation(const Place& weight, const Place& bias, const Place& mean, const Place& variance,
                           double epsilon) {
        steps_.push_back({weight, bias, mean, variance, epsilon});
    }
    bool empty() const { return steps_.empty(); }
    bool scales() const;

    // s and b of channels `first` …, of which `present` exist; both are 0 in the rest of the `count`.
    void at(const float* parameters, const float* state, Index first, Index present, Index count, float* scale,
            float* bias) const;

private:
    struct Step {
        Place weight, bias, mean, variance;
        double epsilon;
    };
    std::vector<Step> steps_;
};

// Bounds, which kernels apply as they store, or any other activation, which runs over a row just stored.
struct Finish {
    float floor = -std::numeric_limits<float>::infinity();
    float ceiling = std::numeric_limits<float>::infinity();
    std::optional<ActivationSpec> after;

    bool does_nothing() const;
    static Finish of(const ActivationSpec& spec);
    void run(const KernelTable& kernels, float* row, Index floats) const {
        if (after) kernels.activate(*after, row, row, floats);
    }
};

}  // namespace convscope::channels
