// Two tensors element by element, one of them perhaps the same for a whole row.
#include "kernels/enter.h"
#include "kernels/tensor_arguments.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

// `to_x` and `to_y` are ∂z/∂x and ∂z/∂y. Equal operands of a maximum share its δ, as torch has it.
struct Add {
    static Vec value(Vec x, Vec y) { return x + y; }
    static Vec to_x(Vec, Vec) { return broadcast(1.0f); }
    static Vec to_y(Vec, Vec) { return broadcast(1.0f); }
};
struct Subtract {
    static Vec value(Vec x, Vec y) { return x - y; }
    static Vec to_x(Vec, Vec) { return broadcast(1.0f); }
    static Vec to_y(Vec, Vec) { return broadcast(-1.0f); }
};
struct Multiply {
    static Vec value(Vec x, Vec y) { return x * y; }
    static Vec to_x(Vec, Vec y) { return y; }
    static Vec to_y(Vec x, Vec) { return x; }
};
struct Divide {
    static Vec value(Vec x, Vec y) { return x / y; }
    static Vec to_x(Vec, Vec y) { return 1.0f / y; }
    static Vec to_y(Vec x, Vec y) { return -x / (y * y); }
};
Vec share(IntVec more, IntVec same) {
    return select(more, broadcast(1.0f), select(same, broadcast(0.5f), zero()));
}
struct Maximum {
    static Vec value(Vec x, Vec y) { return (x != x) | (x > y) ? x : y; }
    static Vec to_x(Vec x, Vec y) { return share(x > y, x == y); }
    static Vec to_y(Vec x, Vec y) { return share(y > x, x == y); }
};
struct Minimum {
    static Vec value(Vec x, Vec y) { return (x != x) | (x < y) ? x : y; }
    static Vec to_x(Vec x, Vec y) { return share(x < y, x == y); }
    static Vec to_y(Vec x, Vec y) { return share(y < x, x == y); }
};

template <class F>
void forward_with(const Binary& a) {
    for (Index i = 0; i < a.count; ++i)
        CONVSCOPE_UNROLL for (Index v = 0; v < kImages; v += kLanes)
            store(a.z + i * kImages + v, F::value(load(a.x + i * a.x_step + v), load(a.y + i * a.y_step + v)));
}

// One operand's δ; x and y keep their places, for `slope` to be ∂z/∂x or ∂z/∂y.
template <class Slope>
void one_delta(const BinaryDelta& a, float* to, Index step, bool add, Slope slope) {
    const Binary& f = a.forward;
    CONVSCOPE_UNROLL for (Index v = 0; v < kImages; v += kLanes) {
        Vec total = zero();
        for (Index i = 0; i < f.count; ++i) {
            const Vec d = load(a.delta + i * kImages + v) *
                          slope(load(f.x + i * f.x_step + v), load(f.y + i * f.y_step + v));
            if (step == 0) total += d;
            else store(to + i * step + v, add ? load(to + i * step + v) + d : d);
        }
        if (step == 0) store(to + v, load(to + v) + total);
    }
}

template <class F>
void backward_with(const BinaryDelta& a) {
    if (a.x_delta) one_delta(a, a.x_delta, a.forward.x_step, a.add_x, F::to_x);
    if (a.y_delta) one_delta(a, a.y_delta, a.forward.y_step, a.add_y, F::to_y);
}

struct Pair {
    decltype(KernelTable::binary) value;
    decltype(KernelTable::binary_delta) derivative;
};

template <class F>
constexpr Pair pair_of() {
    return {forward_with<F>, backward_with<F>};
}

constexpr Pair pairs_in_order_of_kind[] = {pair_of<Add>(),    pair_of<Subtract>(), pair_of<Multiply>(),
                                           pair_of<Divide>(), pair_of<Maximum>(),  pair_of<Minimum>()};

void binary(const Binary& a) { pairs_in_order_of_kind[static_cast<int>(a.kind)].value(a); }

void binary_delta(const BinaryDelta& a) { pairs_in_order_of_kind[static_cast<int>(a.forward.kind)].derivative(a); }

}  // namespace

void enter_binary(KernelTable& table) {
    table.binary = binary;
    table.binary_delta = binary_delta;
}

}  // namespace convscope::CONVSCOPE_ISA
