// Losses of a block: the value of every image and δ = ∂J/∂outputs. Lanes without an image get loss 0 and δ 0.
#include "kernels/enter.h"
#include "simd/math.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

// What all losses need of one register of images.
struct Lanes {
    IntVec present;
    IntVec classes;
};

Lanes lanes_of(const Loss& a, Index v) {
    Lanes lanes;
    const auto first = static_cast<std::int32_t>(v * kLanes);
    lanes.present = lane_numbers() + first < static_cast<std::int32_t>(a.images_present);
    lanes.classes = IntVec{} - 1;
    if (a.classes)
        for (int lane = 0; lane < CONVSCOPE_LANES; ++lane)
            if (first + lane < a.images_present)
                lanes.classes[lane] = static_cast<std::int32_t>(a.classes[first + lane]);
    return lanes;
}

Vec numbers_of(const Loss& a, Index v, Index output) {
    Vec numbers = zero();
    for (int lane = 0; lane < CONVSCOPE_LANES; ++lane)
        if (v * kLanes + lane < a.images_present) numbers[lane] = a.numbers[(v * kLanes + lane) * a.count + output];
    return numbers;
}

Vec output_of(const Loss& a, Index v, Index output) { return load(a.outputs + output * kImages + v * kLanes); }

void put_delta(const Loss& a, Index v, Index output, IntVec present, Vec delta) {
    float* to = a.delta + output * kImages + v * kLanes;
    const Vec masked = select(present, delta * a.scale, zero());
    store(to, a.accumulate ? load(to) + masked : masked);
}

void put_loss(const Loss& a, Index v, IntVec present, Vec loss) {
    store(a.losses + v * kLanes, select(present, loss, zero()));
}

IntVec is_class(const Lanes& lanes, Index output) { return lanes.classes == static_cast<std::int32_t>(output); }

Vec largest(const Loss& a, Index v) {
    Vec top = output_of(a, v, 0);
    for (Index i = 1; i < a.count; ++i) top = at_least(top, output_of(a, v, i));
    return top;
}

// J = −ln softmax(y)_t, δ = softmax(y) − target; a smoothed target is (1−s)·one-hot + s/classes.
void cross_entropy(const Loss& a) {
    const float share = a.parameter / static_cast<float>(a.count);
    for (Index v = 0; v < kVectors; ++v) {
        const Lanes lanes = lanes_of(a, v);
        const Vec top = largest(a, v);
        Vec total = zero(), weighted = zero();
        for (Index i = 0; i < a.count; ++i) {
            const Vec shifted = output_of(a, v, i) - top;
            const Vec target = select(is_class(lanes, i), broadcast(1.0f - a.parameter + share), broadcast(share));
            total += exp(shifted);
            weighted += select(target != 0.0f, target * shifted, zero());
        }
        put_loss(a, v, lanes.present, log(total) - weighted);
        if (!a.delta) continue;
        for (Index i = 0; i < a.count; ++i) {
            const Vec target = select(is_class(lanes, i), broadcast(1.0f - a.parameter + share), broadcast(share));
            put_delta(a, v, i, lanes.present, exp(output_of(a, v, i) - top) / total - target);
        }
    }
}

// J = s Σ (y−t)², δ = 2s (y−t)
void squared_error(const Loss& a) {
    for (Index v = 0; v < kVectors; ++v) {
        const Lanes lanes = lanes_of(a, v);
        Vec total = zero();
        for (Index i = 0; i < a.count; ++i) {
            const Vec difference = output_of(a, v, i) - numbers_of(a, v, i);
            total += difference * difference;
            if (a.delta) put_delta(a, v, i, lanes.present, 2.0f * a.parameter * difference);
        }
        put_loss(a, v, lanes.present, a.parameter * total);
    }
}

// J = Σ max(y,0) − y t + ln(1 + e^−|y|), δ = σ(y) − t
void binary_cross_entropy(const Loss& a) {
    for (Index v = 0; v < kVectors; ++v) {
        const Lanes lanes = lanes_of(a, v);
        Vec total = zero();
        for (Index i = 0; i < a.count; ++i) {
            const Vec y = output_of(a, v, i);
            const Vec target = numbers_of(a, v, i);
            const Vec magnitude = as_floats(as_bits(y) & 0x7fffffff);
            total += at_least(zero(), y) - y * target + log(1.0f + exp(-magnitude));
            if (a.delta) put_delta(a, v, i, lanes.present, logistic(y) - target);
        }
        put_loss(a, v, lanes.present, total);
    }
}

// J = (1/c) Σ_{i≠t} max(0, margin − y_t + y_i)
void hinge(const Loss& a) {
    const float share = 1.0f / static_cast<float>(a.count);
    for (Index v = 0; v < kVectors; ++v) {
        const Lanes lanes = lanes_of(a, v);
        Vec own = zero();
        for (Index i = 0; i < a.count; ++i) own = select(is_class(lanes, i), output_of(a, v, i), own);
        Vec total = zero(), violations = zero();
        for (Index i = 0; i < a.count; ++i) {
            const Vec excess = a.parameter - own + output_of(a, v, i);
            const Vec counted = select(is_class(lanes, i), zero(), excess);
            const Vec wrong = select(counted > 0.0f, broadcast(1.0f), zero());
            total += at_least(zero(), counted);
            violations += wrong;
            if (a.delta) put_delta(a, v, i, lanes.present, wrong * share);
        }
        put_loss(a, v, lanes.present, total * share);
        if (!a.delta) continue;
        for (Index i = 0; i < a.count; ++i) {
            float* to = a.delta + i * kImages + v * kLanes;
            store(to, load(to) - select(is_class(lanes, i) & lanes.present, violations * share * a.scale, zero()));
        }
    }
}

// J = y_t + ln(e^−j + Σ e^−y_i), δ_i = [i = t] − e^−y_i / (e^−j + Σ e^−y): LeCun et al. 1998, eq. (9)
void rbf_loss(const Loss& a) {
    for (Index v = 0; v < kVectors; ++v) {
        const Lanes lanes = lanes_of(a, v);
        Vec nearest = broadcast(a.parameter);
        for (Index i = 0; i < a.count; ++i) nearest = at_most(nearest, output_of(a, v, i));
        Vec total = exp(nearest - a.parameter), own = zero();
        for (Index i = 0; i < a.count; ++i) {
            const Vec y = output_of(a, v, i);
            total += exp(nearest - y);
            own = select(is_class(lanes, i), y, own);
        }
        put_loss(a, v, lanes.present, own + log(total) - nearest);
        if (!a.delta) continue;
        for (Index i = 0; i < a.count; ++i) {
            const Vec rival = exp(nearest - output_of(a, v, i)) / total;
            put_delta(a, v, i, lanes.present, select(is_class(lanes, i), 1.0f - rival, -rival));
        }
    }
}

void softmax_forward(const float* x, Index count, float* y) {
    for (Index v = 0; v < kImages; v += kLanes) {
        Vec top = load(x + v);
        for (Index i = 1; i < count; ++i) top = at_least(top, load(x + i * kImages + v));
        Vec total = zero();
        for (Index i = 0; i < count; ++i) {
            const Vec power = exp(load(x + i * kImages + v) - top);
            store(y + i * kImages + v, power);
            total += power;
        }
        for (Index i = 0; i < count; ++i) store(y + i * kImages + v, load(y + i * kImages + v) / total);
    }
}

// δx_i = y_i (δ_i − Σ_j δ_j y_j)
void softmax_backward(const float* y, const float* delta, Index count, float* input_delta, bool accumulate) {
    for (Index v = 0; v < kImages; v += kLanes) {
        Vec total = zero();
        for (Index i = 0; i < count; ++i) total += load(delta + i * kImages + v) * load(y + i * kImages + v);
        for (Index i = 0; i < count; ++i) {
            float* to = input_delta + i * kImages + v;
            const Vec d = load(y + i * kImages + v) * (load(delta + i * kImages + v) - total);
            store(to, accumulate ? load(to) + d : d);
        }
    }
}

}  // namespace

void enter_loss(KernelTable& table) {
    table.cross_entropy = cross_entropy;
    table.squared_error = squared_error;
    table.binary_cross_entropy = binary_cross_entropy;
    table.hinge = hinge;
    table.rbf_loss = rbf_loss;
    table.softmax_forward = softmax_forward;
    table.softmax_backward = softmax_backward;
}

}  // namespace convscope::CONVSCOPE_ISA
