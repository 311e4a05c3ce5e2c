#include "channels/folding.h"

#include <algorithm>
#include <cmath>

namespace convscope::channels {

bool Folding::scales() const {
    return std::any_of(steps_.begin(), steps_.end(),
                       [](const Step& step) { return step.weight.present() || step.variance.present(); });
}

void Folding::at(const float* parameters, const float* state, Index first, Index present, Index count, float* scale,
                 float* bias) const {
    for (Index i = 0; i < count; ++i) {
        if (i >= present) {
            scale[i] = bias[i] = 0;
            continue;
        }
        double s = 1, b = 0;
        const Index channel = first + i;
        for (const Step& step : steps_) {
            const auto of = [channel](const float* from, const Place& place, double absent) {
                return place.present() ? static_cast<double>(from[place.offset + channel]) : absent;
            };
            double slope = of(parameters, step.weight, 1);
            if (step.variance.present()) slope /= std::sqrt(of(state, step.variance, 1) + step.epsilon);
            b = slope * (b - of(state, step.mean, 0)) + of(parameters, step.bias, 0);
            s *= slope;
        }
        scale[i] = static_cast<float>(s);
        bias[i] = static_cast<float>(b);
    }
}

bool Finish::does_nothing() const {
    return !after && floor == -std::numeric_limits<float>::infinity() &&
           ceiling == std::numeric_limits<float>::infinity();
}

Finish Finish::of(const ActivationSpec& spec) {
    Finish finish;
    switch (spec.kind) {
        case Activation::identity: break;
        case Activation::relu: finish.floor = 0; break;
        case Activation::relu6: finish.floor = 0, finish.ceiling = 6; break;
        case Activation::hard_tanh: finish.floor = spec.a, finish.ceiling = spec.b; break;
        default: finish.after = spec;
    }
    return finish;
}

}  // namespace convscope::channels
