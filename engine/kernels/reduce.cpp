// Sums and maxima over rows of positions, and what leads back from them.
#include "kernels/enter.h"
#include "kernels/tensor_arguments.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

template <class Fold>
void fold_row(const Reduce& a, Fold fold) {
    CONVSCOPE_UNROLL for (Index v = 0; v < kImages; v += kLanes) {
        if (a.y_step == 0) {
            Vec own = load(a.x + v);
            for (Index i = 1; i < a.count; ++i) own = fold(own, load(a.x + i * kImages + v));
            store(a.y + v, a.begins ? own : fold(load(a.y + v), own));
        } else {
            for (Index i = 0; i < a.count; ++i) {
                const Vec own = load(a.x + i * kImages + v);
                float* to = a.y + i * a.y_step + v;
                store(to, a.begins ? own : fold(load(to), own));
            }
        }
    }
}

void reduce_sum(const Reduce& a) {
    fold_row(a, [](Vec one, Vec other) { return one + other; });
}

// NaN stays.
void reduce_max(const Reduce& a) {
    fold_row(a, [](Vec one, Vec other) { return (one != one) | (one >= other) ? one : other; });
}

// to (+)= scale · from, where `from` may be one position for the whole row.
void spread_row(float scale, const float* from, Index from_step, float* to, Index count, bool accumulate) {
    for (Index i = 0; i < count; ++i)
        CONVSCOPE_UNROLL for (Index v = 0; v < kImages; v += kLanes) {
            const Vec value = scale * load(from + i * from_step + v);
            store(to + i * kImages + v, accumulate ? load(to + i * kImages + v) + value : value);
        }
}

void scale_images(const float* factor, const float* from, float* to, Index count, bool accumulate) {
    for (Index i = 0; i < count; ++i)
        CONVSCOPE_UNROLL for (Index v = 0; v < kImages; v += kLanes) {
            const Vec value = load(factor + v) * load(from + i * kImages + v);
            store(to + i * kImages + v, accumulate ? load(to + i * kImages + v) + value : value);
        }
}

void count_largest(const ReduceDelta& a) {
    for (Index i = 0; i < a.count; ++i)
        CONVSCOPE_UNROLL for (Index v = 0; v < kImages; v += kLanes) {
            float* share = a.shares + i * a.y_step + v;
            const IntVec equal = load(a.x + i * kImages + v) == load(a.y + i * a.y_step + v);
            store(share, load(share) + select(equal, broadcast(1.0f), zero()));
        }
}

// All that equal the maximum have equal parts of its δ.
void shared_max_delta(const ReduceDelta& a) {
    for (Index i = 0; i < a.count; ++i)
        CONVSCOPE_UNROLL for (Index v = 0; v < kImages; v += kLanes) {
            const IntVec equal = load(a.x + i * kImages + v) == load(a.y + i * a.y_step + v);
            const Vec part = load(a.delta + i * a.y_step + v) / load(a.shares + i * a.y_step + v);
            float* to = a.x_delta + i * kImages + v;
            const Vec d = select(equal, part, zero());
            store(to, a.accumulate ? load(to) + d : d);
        }
}

// The first that equals it has it all.
void first_max_delta(const ReduceDelta& a) {
    for (Index i = 0; i < a.count; ++i)
        CONVSCOPE_UNROLL for (Index v = 0; v < kImages; v += kLanes) {
            float* had = a.shares + i * a.y_step + v;
            const IntVec equal = load(a.x + i * kImages + v) == load(a.y + i * a.y_step + v);
            const IntVec hit = equal & (load(had) == 0.0f);
            float* to = a.x_delta + i * kImages + v;
            const Vec d = select(hit, load(a.delta + i * a.y_step + v), zero());
            store(to, a.accumulate ? load(to) + d : d);
            store(had, select(hit, broadcast(1.0f), load(had)));
        }
}

// Lanes without an image become 0, where what came before may have left infinities in them.
void clear_absent(float* row, Index count, Index images_present) {
    for (Index i = 0; i < count; ++i)
        for (Index image = images_present; image < kImages; ++image) row[i * kImages + image] = 0;
}

}  // namespace

void enter_reduce(KernelTable& table) {
    table.reduce_sum = reduce_sum;
    table.reduce_max = reduce_max;
    table.spread_row = spread_row;
    table.scale_images = scale_images;
    table.count_largest = count_largest;
    table.shared_max_delta = shared_max_delta;
    table.first_max_delta = first_max_delta;
    table.clear_absent = clear_absent;
}

}  // namespace convscope::CONVSCOPE_ISA
