// Dropout with a counter-based generator: Threefry-2x32 with 20 rounds (Salmon et al., SC 2011), keyed by seed and
// layer, counting images and pairs of units. Which units fall out depends on nothing else: not on threads, blocks or
// instruction sets, and the backward pass asks again instead of remembering.
#include "kernels/enter.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

template <int Bits>
UintVec rotated(UintVec x) {
    return (x << Bits) | (x >> (32 - Bits));
}

template <int A, int B, int C, int D>
void four_rounds(UintVec& x, UintVec& y) {
    x += y;
    y = rotated<A>(y) ^ x;
    x += y;
    y = rotated<B>(y) ^ x;
    x += y;
    y = rotated<C>(y) ^ x;
    x += y;
    y = rotated<D>(y) ^ x;
}

void threefry(const std::uint32_t (&key)[2], UintVec& x, UintVec& y) {
    const std::uint32_t keys[3] = {key[0], key[1], 0x1BD11BDAu ^ key[0] ^ key[1]};
    x += keys[0];
    y += keys[1];
    four_rounds<13, 15, 26, 6>(x, y);
    x += keys[1];
    y += keys[2] + 1u;
    four_rounds<17, 29, 16, 24>(x, y);
    x += keys[2];
    y += keys[0] + 2u;
    four_rounds<13, 15, 26, 6>(x, y);
    x += keys[0];
    y += keys[1] + 3u;
    four_rounds<17, 29, 16, 24>(x, y);
    x += keys[1];
    y += keys[2] + 4u;
    four_rounds<13, 15, 26, 6>(x, y);
    x += keys[2];
    y += keys[0] + 5u;
}

void put(const Dropout& a, Index at, UintVec random) {
    const Vec scaled = load(a.input + at) * a.scale;
    const Vec value = select(reinterpret_cast<IntVec>(random >= a.threshold), scaled, zero());
    store(a.output + at, a.accumulate ? load(a.output + at) + value : value);
}

void dropout(const Dropout& a) {
    for (Index v = 0; v < kVectors; ++v) {
        const UintVec images =
            reinterpret_cast<UintVec>(lane_numbers()) + a.first_image + static_cast<std::uint32_t>(v * kLanes);
        for (Index unit = 0; unit < a.units; unit += 2) {
            UintVec x = UintVec{} + (a.first_unit + static_cast<std::uint32_t>(unit)) / 2u;
            UintVec y = images;
            threefry(a.key, x, y);
            put(a, unit * kImages + v * kLanes, x);
            if (unit + 1 < a.units) put(a, (unit + 1) * kImages + v * kLanes, y);
        }
    }
}

}  // namespace

void enter_dropout(KernelTable& table) { table.dropout = dropout; }

}  // namespace convscope::CONVSCOPE_ISA
