// A product of two matrices, a tile of sums in registers: what Winograd's points are between their changes of form.
#include "kernels/enter.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

template <int Maps, int Width>
void tile(const Product& p, Index map, Index column) {
    const float* a = p.a + map * p.a_map;
    const float* b = p.b + column;
    float* const c = p.c + map * p.c_step + column;
    Vec sums[Maps][Width];
    CONVSCOPE_UNROLL for (int m = 0; m < Maps; ++m)
        CONVSCOPE_UNROLL for (int x = 0; x < Width; ++x)
            sums[m][x] = p.accumulate ? load_unaligned(c + m * p.c_step + x * kLanes) : zero();
    for (Index done = 0; done < p.depth; done += p.a_run, a += p.a_jump) {
        const float* weights = a;
        const Index end = p.depth - done < p.a_run ? p.depth - done : p.a_run;
        for (Index k = 0; k < end; ++k) {
            Vec values[Width];
            CONVSCOPE_UNROLL for (int x = 0; x < Width; ++x) values[x] = in_register(load(b + x * kLanes));
            CONVSCOPE_UNROLL for (int m = 0; m < Maps; ++m) {
                const Vec weight = broadcast(weights[m * p.a_map]);
                CONVSCOPE_UNROLL for (int x = 0; x < Width; ++x) sums[m][x] += weight * values[x];
            }
            weights += p.a_step;
            b += p.b_step;
        }
    }
    CONVSCOPE_UNROLL for (int m = 0; m < Maps; ++m)
        CONVSCOPE_UNROLL for (int x = 0; x < Width; ++x)
            store_unaligned(c + m * p.c_step + x * kLanes, sums[m][x]);
}

// All maps of `Width` registers of columns: b's rows stay in the first-level cache.
template <int Width>
void strip(const Product& p, Index column) {
    constexpr int kMaps = (kRegisters == 32 ? 8 : 4) * (Width == 1 ? 2 : 1);
    Index map = 0;
    for (; map + kMaps <= p.maps; map += kMaps) tile<kMaps, Width>(p, map, column);
    if constexpr (kMaps > 8)
        for (; map + 8 <= p.maps; map += 8) tile<8, Width>(p, map, column);
    for (; map + 4 <= p.maps; map += 4) tile<4, Width>(p, map, column);
    for (; map < p.maps; ++map) tile<1, Width>(p, map, column);
}

// Three registers wide, and at the end two twice rather than three and one.
void product(const Product& p) {
    Index left = p.columns / kLanes, column = 0;
    for (; left > 4 || left == 3; left -= 3, column += 3 * kLanes) strip<3>(p, column);
    for (; left >= 2; left -= 2, column += 2 * kLanes) strip<2>(p, column);
    if (left == 1) strip<1>(p, column);
}

}  // namespace

void enter_product(KernelTable& table) { table.product = product; }

}  // namespace convscope::CONVSCOPE_ISA
