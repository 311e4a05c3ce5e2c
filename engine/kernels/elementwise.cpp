// Rows of positions: scale, shift, add, and sums over them.
#include "kernels/enter.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

IntVec presence(Index v, Index images_present) {
    return lane_numbers() + static_cast<std::int32_t>(v * kLanes) < static_cast<std::int32_t>(images_present);
}

// The centre is taken off first: folded into the offset it would cost digits where the mean is many deviations.
void affine(float scale, float centre, float offset, const float* from, float* to, Index count) {
    const Vec shift = broadcast(offset);
    for (Index i = 0; i < count * kImages; i += kLanes) store(to + i, scale * (load(from + i) - centre) + shift);
}

void scale_add(float scale, const float* from, float* to, Index count) {
    for (Index i = 0; i < count * kImages; i += kLanes) store(to + i, load(to + i) + scale * load(from + i));
}

// Float sums run over 64 positions at most before they enter the double, so that large pictures lose nothing.
void moments(Moments& a) {
    constexpr Index kStretch = 64;
    double sum = 0, product = 0;
    for (Index first = 0; first < a.count; first += kStretch) {
        const Index last = first + kStretch < a.count ? first + kStretch : a.count;
        for (Index v = 0; v < kVectors; ++v) {
            const IntVec present = presence(v, a.images_present);
            Vec sums = zero(), products = zero();
            for (Index i = first; i < last; ++i) {
                const Vec x = load(a.x + i * kImages + v * kLanes);
                if (a.y == nullptr) {
                    sums += select(present, x, zero());
                } else {
                    const Vec centred = select(present, x - a.centre, zero());
                    const Vec y = load(a.y + i * kImages + v * kLanes);
                    sums += select(present, y, zero());
                    products += centred * (a.y == a.x ? centred : y);
                }
            }
            for (int lane = 0; lane < CONVSCOPE_LANES; ++lane) {
                sum += static_cast<double>(sums[lane]);
                product += static_cast<double>(products[lane]);
            }
        }
    }
    a.sum = sum;
    a.product = product;
}

void combine(const Combine& a) {
    for (Index v = 0; v < kVectors; ++v) {
        const IntVec present = presence(v, a.images_present);
        for (Index i = v * kLanes; i < a.count * kImages; i += kImages) {
            const Vec value = select(present, a.a * load(a.x + i) + (a.b * (load(a.y + i) - a.centre) + a.c), zero());
            store(a.to + i, a.accumulate ? load(a.to + i) + value : value);
        }
    }
}

}  // namespace

void enter_elementwise(KernelTable& table) {
    table.affine = affine;
    table.scale_add = scale_add;
    table.moments = moments;
    table.combine = combine;
}

}  // namespace convscope::CONVSCOPE_ISA
