// Activations f and their derivatives, over rows of positions.
#include "kernels/enter.h"
#include "simd/math.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

// `derivative` takes the kind's own argument: y where `from_output`, else u.
struct Identity {
    static Vec value(Vec u, Vec, Vec) { return u; }
    static Vec derivative(Vec, Vec, Vec, Vec) { return broadcast(1.0f); }
};
struct Relu {
    static Vec value(Vec u, Vec, Vec) { return at_least(zero(), u); }
    static Vec derivative(Vec, Vec y, Vec, Vec) { return select(y > 0.0f, broadcast(1.0f), zero()); }
};
struct Relu6 {
    static Vec value(Vec u, Vec, Vec) { return at_most(broadcast(6.0f), at_least(zero(), u)); }
    static Vec derivative(Vec, Vec y, Vec, Vec) { return select((y > 0.0f) & (y < 6.0f), broadcast(1.0f), zero()); }
};
struct LeakyRelu {
    static Vec value(Vec u, Vec a, Vec) { return select(u > 0.0f, u, a * u); }
    static Vec derivative(Vec u, Vec, Vec a, Vec) { return select(u > 0.0f, broadcast(1.0f), a); }
};
struct Elu {
    static Vec value(Vec u, Vec a, Vec) { return select(u > 0.0f, u, a * (exp(u) - 1.0f)); }
    static Vec derivative(Vec u, Vec, Vec a, Vec) { return select(u > 0.0f, broadcast(1.0f), a * exp(u)); }
};
struct Logistic {
    static Vec value(Vec u, Vec a, Vec) { return logistic(a * u); }
    static Vec derivative(Vec, Vec y, Vec a, Vec) { return a * y * (1.0f - y); }
};
struct Tanh {
    static Vec value(Vec u, Vec, Vec) { return tanh(u); }
    static Vec derivative(Vec, Vec y, Vec, Vec) { return 1.0f - y * y; }
};
struct ScaledTanh {
    static Vec value(Vec u, Vec a, Vec b) { return a * tanh(b * u); }
    // a b (1 - tanh²) = (b/a) (a - y)(a + y)
    static Vec derivative(Vec, Vec y, Vec a, Vec b) { return b / a * (a - y) * (a + y); }
};
struct Silu {
    static Vec value(Vec u, Vec, Vec) { return u * logistic(u); }
    static Vec derivative(Vec u, Vec, Vec, Vec) {
        const Vec s = logistic(u);
        return s * (1.0f + u * (1.0f - s));
    }
};
struct HardTanh {
    static Vec value(Vec u, Vec a, Vec b) { return at_most(b, at_least(a, u)); }
    static Vec derivative(Vec, Vec y, Vec a, Vec b) { return select((y > a) & (y < b), broadcast(1.0f), zero()); }
};
struct Softplus {
    // max(u, 0) + ln(1 + e^-|u|)
    static Vec value(Vec u, Vec, Vec) {
        const Vec magnitude = as_floats(as_bits(u) & 0x7fffffff);
        return at_least(zero(), u) + log(1.0f + exp(-magnitude));
    }
    static Vec derivative(Vec u, Vec, Vec, Vec) { return logistic(u); }
};

template <class F>
void activate_with(ActivationSpec spec, const float* u, float* y, Index floats) {
    const Vec a = broadcast(spec.a);
    const Vec b = broadcast(spec.b);
    for (Index i = 0; i < floats; i += kLanes) store(y + i, F::value(load(u + i), a, b));
}

template <class F>
void differentiate_with(ActivationSpec spec, const float* u, const float* y, const float* delta, float* input_delta,
                        Index count, bool accumulate) {
    const Vec a = broadcast(spec.a);
    const Vec b = broadcast(spec.b);
    for (Index i = 0; i < count * kImages; i += kLanes) {
        const Vec at_u = u ? load(u + i) : zero();
        const Vec at_y = y ? load(y + i) : zero();
        const Vec d = load(delta + i) * F::derivative(at_u, at_y, a, b);
        store(input_delta + i, accumulate ? load(input_delta + i) + d : d);
    }
}

struct Pair {
    decltype(KernelTable::activate) value;
    decltype(KernelTable::differentiate) derivative;
};

template <class F>
constexpr Pair pair_of() {
    return {activate_with<F>, differentiate_with<F>};
}

constexpr Pair pairs_in_order_of_kind[] = {
    pair_of<Identity>(), pair_of<Relu>(),     pair_of<Relu6>(),    pair_of<LeakyRelu>(),
    pair_of<Elu>(),      pair_of<Logistic>(), pair_of<Tanh>(),     pair_of<ScaledTanh>(),
    pair_of<Silu>(),     pair_of<HardTanh>(), pair_of<Softplus>(),
};

void activate(ActivationSpec spec, const float* u, float* y, Index floats) {
    pairs_in_order_of_kind[static_cast<int>(spec.kind)].value(spec, u, y, floats);
}

void differentiate(ActivationSpec spec, const float* u, const float* y, const float* delta, float* input_delta,
                   Index count, bool accumulate) {
    pairs_in_order_of_kind[static_cast<int>(spec.kind)].derivative(spec, u, y, delta, input_delta, count, accumulate);
}

}  // namespace

void enter_activation(KernelTable& table) {
    table.activate = activate;
    table.differentiate = differentiate;
}

}  // namespace convscope::CONVSCOPE_ISA
