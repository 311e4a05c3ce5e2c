// The descent step: a stretch of parameters against its gradient, in one pass over all that belongs to it.
//
// The formulas and their order are those of torch's fused optimisers, so that both may take turns on the same memory.
#include "kernels/enter.h"
#include "simd/math.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

// One register of every array, or the first `count` lanes of it; the others are 0.
struct Whole {
    Vec get(const float* from) const { return load_unaligned(from); }
    void put(float* to, Vec value) const { store_unaligned(to, value); }
};
struct Rest {
    Index count;
    Vec get(const float* from) const {
        Vec value = zero();
        for (Index lane = 0; lane < count; ++lane) value[lane] = from[lane];
        return value;
    }
    void put(float* to, Vec value) const {
        for (Index lane = 0; lane < count; ++lane) to[lane] = value[lane];
    }
};

template <class Lanes>
Vec summed_gradient(const Descent& a, Index i, Lanes lanes) {
    Vec gradient = lanes.get(a.gradients + i);
    if (a.other_count == 0) return gradient;
    for (Index other = 0; other < a.other_count; ++other) gradient += lanes.get(a.others[other] + a.first + i);
    lanes.put(a.gradients + i, gradient);
    return gradient;
}

struct SumOnly {
    template <class Lanes>
    void operator()(const Descent& a, Index i, Lanes lanes) const {
        summed_gradient(a, i, lanes);
    }
};

// v ← μv + (1 − dampening)(g + λw); w ← w − ηv, or with Nesterov's momentum w ← w − η(g + λw + μv).
template <bool has_momentum>
struct GradientDescent {
    template <class Lanes>
    void operator()(const Descent& a, Index i, Lanes lanes) const {
        const Vec parameter = lanes.get(a.parameters + i);
        Vec gradient = summed_gradient(a, i, lanes);
        if (a.decay != 0) gradient += a.decay * parameter;
        if constexpr (has_momentum) {
            const Vec velocity = a.momentum * lanes.get(a.mean + i) + a.fresh * gradient;
            lanes.put(a.mean + i, velocity);
            gradient = a.nesterov ? gradient + a.momentum * velocity : velocity;
        }
        lanes.put(a.parameters + i, parameter - a.rate * gradient);
    }
};

// m ← βm + (1 − β)g, s ← γs + (1 − γ)g², w ← κw − ηm/(√s·ρ + ε); κ is 1 − ηλ in AdamW, η and ρ hold the corrections of
// the bias (Kingma & Ba 2015, algorithm 1).
struct Adam {
    template <class Lanes>
    void operator()(const Descent& a, Index i, Lanes lanes) const {
        Vec parameter = lanes.get(a.parameters + i);
        Vec gradient = summed_gradient(a, i, lanes);
        if (a.decay != 0) gradient += a.decay * parameter;
        if (a.keep != 1) parameter *= a.keep;
        Vec mean = lanes.get(a.mean + i);
        // The smaller of the two weights multiplies the difference, as in torch's lerp.
        mean = a.fresh < 0.5f ? mean + a.fresh * (gradient - mean) : gradient + (a.fresh - 1) * (gradient - mean);
        const Vec squares = a.square_momentum * lanes.get(a.squares + i) + a.square_fresh * gradient * gradient;
        lanes.put(a.mean + i, mean);
        lanes.put(a.squares + i, squares);
        const Vec root = a.root_scale * square_root(squares) + a.epsilon;
        lanes.put(a.parameters + i, parameter - a.rate * mean / root);
    }
};

template <class Move>
void descend_by(const Descent& a, Move move) {
    Index i = 0;
    for (; i + kLanes <= a.count; i += kLanes) move(a, i, Whole{});
    if (i < a.count) move(a, i, Rest{a.count - i});
}

void descend(const Descent& a) {
    switch (a.kind) {
        case DescentKind::none: return descend_by(a, SumOnly{});
        case DescentKind::gradient: return descend_by(a, GradientDescent<false>{});
        case DescentKind::momentum: return descend_by(a, GradientDescent<true>{});
        case DescentKind::adam: return descend_by(a, Adam{});
    }
}

}  // namespace

void enter_optimiser(KernelTable& table) { table.descend = descend; }

}  // namespace convscope::CONVSCOPE_ISA
