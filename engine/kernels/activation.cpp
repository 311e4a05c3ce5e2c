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

struct Clamp {
    static Vec value(Vec u, Vec a, Vec b) { return at_most(b, at_least(a, u)); }
    static Vec derivative(Vec u, Vec, Vec a, Vec b) { return select((u >= a) & (u <= b), broadcast(1.0f), zero()); }
};
// u Φ(u) and Φ(u) + u φ(u) of the standard normal distribution.
struct Gelu {
    static Vec distribution(Vec u) { return 0.5f + 0.5f * erf(u * 0.70710678f); }
    static Vec value(Vec u, Vec, Vec) { return u * distribution(u); }
    static Vec derivative(Vec u, Vec, Vec, Vec) { return distribution(u) + u * (0.39894228f * exp(-0.5f * u * u)); }
};
// ½ u (1 + t) with t = tanh(√(2/π) (u + 0.044715 u³))
struct GeluTanh {
    static Vec inner(Vec u) { return tanh(0.79788456f * (u + 0.044715f * u * u * u)); }
    static Vec value(Vec u, Vec, Vec) { return 0.5f * u * (1.0f + inner(u)); }
    static Vec derivative(Vec u, Vec, Vec, Vec) {
        const Vec t = inner(u);
        return 0.5f * (1.0f + t) + 0.5f * u * (1.0f - t * t) * (0.79788456f * (1.0f + 0.134145f * u * u));
    }
};
// u t with t = tanh ln(1 + e^u) = n/(n + 2), n = e^u (e^u + 2); 1 beyond 20.
struct Mish {
    static Vec inner(Vec u) {
        const Vec power = exp(at_most(broadcast(20.0f), u));
        const Vec n = power * (power + 2.0f);
        return n / (n + 2.0f);
    }
    static Vec value(Vec u, Vec, Vec) { return u * inner(u); }
    static Vec derivative(Vec u, Vec, Vec, Vec) {
        const Vec t = inner(u);
        return t + u * (1.0f - t * t) * logistic(u);
    }
};
struct HardSwish {
    static Vec value(Vec u, Vec, Vec) {
        return u * (at_most(broadcast(6.0f), at_least(zero(), u + 3.0f)) * (1.0f / 6.0f));
    }
    static Vec derivative(Vec u, Vec, Vec, Vec) {
        return select(u <= -3.0f, zero(), select(u >= 3.0f, broadcast(1.0f), (2.0f * u + 3.0f) * (1.0f / 6.0f)));
    }
};
Vec magnitude_of(Vec u) { return as_floats(as_bits(u) & 0x7fffffff); }
struct SoftSign {
    static Vec value(Vec u, Vec, Vec) { return u / (1.0f + magnitude_of(u)); }
    static Vec derivative(Vec u, Vec, Vec, Vec) {
        const Vec divisor = 1.0f + magnitude_of(u);
        return 1.0f / (divisor * divisor);
    }
};
struct TanhShrink {
    static Vec value(Vec u, Vec, Vec) { return u - tanh(u); }
    static Vec derivative(Vec u, Vec, Vec, Vec) {
        const Vec t = tanh(u);
        return t * t;
    }
};
struct HardShrink {
    static Vec value(Vec u, Vec a, Vec) { return select((u <= a) & (u >= -a), zero(), u); }
    static Vec derivative(Vec u, Vec, Vec a, Vec) { return select((u > a) | (u < -a), broadcast(1.0f), zero()); }
};
struct SoftShrink {
    static Vec value(Vec u, Vec a, Vec) { return u - at_most(a, at_least(-a, u)); }
    static Vec derivative(Vec u, Vec, Vec a, Vec) { return select((u > a) | (u < -a), broadcast(1.0f), zero()); }
};
struct Threshold {
    static Vec value(Vec u, Vec a, Vec b) { return select(u <= a, b, u); }
    static Vec derivative(Vec u, Vec, Vec a, Vec) { return select(u > a, broadcast(1.0f), zero()); }
};
struct Absolute {
    static Vec value(Vec u, Vec, Vec) { return magnitude_of(u); }
    static Vec derivative(Vec u, Vec, Vec, Vec) {
        return select(u > 0.0f, broadcast(1.0f), select(u < 0.0f, broadcast(-1.0f), zero()));
    }
};
struct Exponential {
    static Vec value(Vec u, Vec, Vec) { return exp(u); }
    static Vec derivative(Vec u, Vec, Vec, Vec) { return exp(u); }
};
struct Logarithm {
    static Vec value(Vec u, Vec, Vec) { return log(u); }
    static Vec derivative(Vec u, Vec, Vec, Vec) { return 1.0f / u; }
};
struct SquareRoot {
    static Vec value(Vec u, Vec, Vec) { return square_root(u); }
    static Vec derivative(Vec u, Vec, Vec, Vec) { return 0.5f / square_root(u); }
};
struct InverseRoot {
    static Vec value(Vec u, Vec, Vec) { return 1.0f / square_root(u); }
    static Vec derivative(Vec u, Vec, Vec, Vec) { return -0.5f / (u * square_root(u)); }
};
struct Reciprocal {
    static Vec value(Vec u, Vec, Vec) { return 1.0f / u; }
    static Vec derivative(Vec u, Vec, Vec, Vec) { return -1.0f / (u * u); }
};
struct ErrorFunction {
    static Vec value(Vec u, Vec, Vec) { return erf(u); }
    static Vec derivative(Vec u, Vec, Vec, Vec) { return 1.12837917f * exp(-u * u); }
};
// u^a. Whole exponents up to 64 are products; others are e^(a ln u), and NaN below 0 as in torch.
struct Power {
    static Vec whole(Vec u, int n) {
        Vec result = broadcast(1.0f), square = u;
        for (int bits = n < 0 ? -n : n; bits != 0; bits >>= 1) {
            if (bits & 1) result = result * square;
            square = square * square;
        }
        return n < 0 ? 1.0f / result : result;
    }
    static Vec raised(Vec u, float n) {
        if (n >= -64.0f && n <= 64.0f && n == static_cast<float>(static_cast<int>(n))) return whole(u, static_cast<int>(n));
        const Vec result = power(u, broadcast(n));
        const Vec at_zero = broadcast(n > 0.0f ? 0.0f : __builtin_inff());
        return select(u == 0.0f, at_zero, result);
    }
    static Vec value(Vec u, Vec a, Vec) { return raised(u, a[0]); }
    static Vec derivative(Vec u, Vec, Vec a, Vec) { return a[0] == 0.0f ? zero() : a[0] * raised(u, a[0] - 1.0f); }
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
    pair_of<Silu>(),     pair_of<HardTanh>(), pair_of<Softplus>(), pair_of<Clamp>(),
    pair_of<Gelu>(),     pair_of<GeluTanh>(), pair_of<Mish>(),     pair_of<HardSwish>(),
    pair_of<SoftSign>(), pair_of<TanhShrink>(), pair_of<HardShrink>(), pair_of<SoftShrink>(),
    pair_of<Threshold>(), pair_of<Absolute>(), pair_of<Exponential>(), pair_of<Logarithm>(),
    pair_of<SquareRoot>(), pair_of<InverseRoot>(), pair_of<Reciprocal>(), pair_of<Power>(),
    pair_of<ErrorFunction>(),
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
