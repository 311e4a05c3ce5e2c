// Regions of interest: the maximum or a weighted sum of some places of a map, all channels at once; and which boxes are
// overlapped too much by a better one.
#include "kernels/regions.h"

#include "kernels/enter.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

// The first of equals in row order stays; NaN is larger than all, as in torch.
void region_max(const RegionMax& a) {
    for (Index c = 0; c < a.places.channels; c += kLanes) {
        Vec best = load(a.at + c);
        IntVec place = IntVec{} + static_cast<std::int32_t>(a.first);
        for (Index i = 0; i < a.places.rows; ++i) {
            const float* row = a.at + i * a.places.row_step + c;
            for (Index j = 0; j < a.places.columns; ++j) {
                const Vec value = load(row + j * a.places.step);
                const IntVec takes = (value > best) | (value != value);
                best = takes ? value : best;
                place = takes ? IntVec{} + static_cast<std::int32_t>(a.first + i * a.width + j) : place;
            }
        }
        store(a.value + c, best);
        *reinterpret_cast<IntVec*>(a.place + c) = place;
    }
}

// Four vectors of channels at a time hide the latency of the sums.
template <int Vectors>
void sum_channels(const RegionSum& a, Index c) {
    Vec sums[Vectors] = {};
    const float* weight = a.weights;
    for (Index i = 0; i < a.places.rows; ++i) {
        const float* at = a.at + i * a.places.row_step + c;
        for (Index j = 0; j < a.places.columns; ++j, at += a.places.step, ++weight)
            CONVSCOPE_UNROLL for (int v = 0; v < Vectors; ++v) sums[v] += *weight * load(at + v * kLanes);
    }
    CONVSCOPE_UNROLL for (int v = 0; v < Vectors; ++v) store(a.sum + c + v * kLanes, sums[v]);
}

void region_sum(const RegionSum& a) {
    Index c = 0;
    for (; c + 4 * kLanes <= a.places.channels; c += 4 * kLanes) sum_channels<4>(a, c);
    for (; c < a.places.channels; c += kLanes) sum_channels<1>(a, c);
}

void region_share(const RegionSum& a) {
    const float* weight = a.weights;
    for (Index i = 0; i < a.places.rows; ++i) {
        float* at = a.at + i * a.places.row_step;
        for (Index j = 0; j < a.places.columns; ++j, at += a.places.step, ++weight)
            for (Index c = 0; c < a.places.channels; c += kLanes) store(at + c, load(at + c) + *weight * load(a.sum + c));
    }
}

// `box` ends those behind it that overlap it by more than `most`. The product is kept out of a fused multiply-add, so that
// every overlap is rounded as torch and torchvision round it; most vectors of boxes do not meet the box at all.
void suppress(const Rivals& a, Index box, float most) {
    const Vec x1 = broadcast(a.x1[box]), y1 = broadcast(a.y1[box]), x2 = broadcast(a.x2[box]), y2 = broadcast(a.y2[box]);
    const Vec area = broadcast(a.area[box]);
    for (Index j = (box + 1) / kLanes * kLanes; j < a.count; j += kLanes) {
        const Vec left = load(a.x1 + j), top = load(a.y1 + j), right = load(a.x2 + j), bottom = load(a.y2 + j);
        const Vec wide = (right < x2 ? right : x2) - (left > x1 ? left : x1);
        const Vec tall = (bottom < y2 ? bottom : y2) - (top > y1 ? top : y1);
        const IntVec meet = (wide > 0.0f) & (tall > 0.0f);
        std::int32_t any = 0;
        CONVSCOPE_UNROLL for (int lane = 0; lane < CONVSCOPE_LANES; ++lane) any |= meet[lane];
        if (!any && most >= 0.0f) continue;
        const Vec shared = in_register((wide > 0.0f ? wide : zero()) * (tall > 0.0f ? tall : zero()));
        IntVec over = shared / (area + load(a.area + j) - shared) > broadcast(most);
        if (a.group) over &= *reinterpret_cast<const IntVec*>(a.group + j) == a.group[box];
        over &= lane_numbers() + static_cast<std::int32_t>(j) > static_cast<std::int32_t>(box);
        *reinterpret_cast<IntVec*>(a.alive + j) &= ~over;
    }
}

}  // namespace

void enter_regions(KernelTable& table) {
    table.region_max = region_max;
    table.region_sum = region_sum;
    table.region_share = region_share;
    table.suppress = suppress;
}

}  // namespace convscope::CONVSCOPE_ISA
