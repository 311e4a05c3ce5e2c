// Products of low precision by the dot products of AVX-512 and by the tiles of AMX.
#include "kernels/low_enter.h"
#include "simd/vec.h"

#if defined(CONVSCOPE_ISA_AVX512)

#include <immintrin.h>

namespace convscope::avx512 {
namespace {

#define CONVSCOPE_DOT_TARGET \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma")))
#define CONVSCOPE_TILE_TARGET __attribute__((target("amx-tile,amx-bf16,amx-int8,avx512f")))

struct Floats {
    using Sum = __m512;
    CONVSCOPE_DOT_TARGET static Sum none() { return _mm512_setzero_ps(); }
    CONVSCOPE_DOT_TARGET static Sum add(Sum sum, __m512i x, __m512i w) {
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
    }
    CONVSCOPE_DOT_TARGET static void store(void* to, Sum sum) { _mm512_storeu_ps(to, sum); }
};

struct Wholes {
    using Sum = __m512i;
    CONVSCOPE_DOT_TARGET static Sum none() { return _mm512_setzero_si512(); }
    CONVSCOPE_DOT_TARGET static Sum add(Sum sum, __m512i x, __m512i w) { return _mm512_dpbusd_epi32(sum, x, w); }
    CONVSCOPE_DOT_TARGET static void store(void* to, Sum sum) { _mm512_storeu_si512(to, sum); }
};

inline void fetch(const std::uint8_t*& ahead, const LowTile& a) {
    for (Index line = 0; line < a.ahead_lines && ahead < a.ahead_end; ++line, ahead += 64)
        __builtin_prefetch(ahead, 0, 2);
}

// B blocks × X positions of sums in registers: 2 × 12 of 32, beside two of weights.
template <class Way, int B, int X>
CONVSCOPE_DOT_TARGET inline void dot_tile(const LowTile& a, Index first, const std::uint8_t*& ahead) {
    typename Way::Sum sums[B][X];
    for (int b = 0; b < B; ++b)
        for (int p = 0; p < X; ++p) sums[b][p] = Way::none();
    const std::uint8_t* w = a.weights;
    for (Index tap = 0; tap < a.tap_count; ++tap, w += B * kTapBytes) {
        const std::uint8_t* const x = a.input + a.taps[tap] + first * a.position_step;
        fetch(ahead, a);
        for (Index row = 0; row < 16; ++row) {
            __m512i weights[B];
            for (int b = 0; b < B; ++b) weights[b] = _mm512_load_si512(w + b * kTapBytes + row * kChunkBytes);
            CONVSCOPE_UNROLL for (int p = 0; p < X; ++p) {
                std::int32_t word;
                __builtin_memcpy(&word, x + p * a.position_step + 4 * row, 4);
                const __m512i all = _mm512_set1_epi32(word);
                for (int b = 0; b < B; ++b) sums[b][p] = Way::add(sums[b][p], all, weights[b]);
            }
        }
    }
    auto* const to = static_cast<float*>(a.sums);
    for (int b = 0; b < B; ++b)
        for (int p = 0; p < X; ++p) Way::store(to + (b * kLowPositions + first + p) * kLowOutputs, sums[b][p]);
}

template <class Way, int B>
CONVSCOPE_DOT_TARGET void dot_blocks(const LowTile& a) {
    Index first = 0;
    const std::uint8_t* ahead = a.ahead;
    for (; first + 12 <= a.positions; first += 12) dot_tile<Way, B, 12>(a, first, ahead);
    for (; first + 4 <= a.positions; first += 4) dot_tile<Way, B, 4>(a, first, ahead);
    for (; first < a.positions; ++first) dot_tile<Way, B, 1>(a, first, ahead);
}

template <class Way>
CONVSCOPE_DOT_TARGET void dot(const LowTile& a) {
    if (a.blocks == 2) dot_blocks<Way, 2>(a);
    else dot_blocks<Way, 1>(a);
}

// Tiles 0 … 3 hold sums, 4 and 5 positions, 6 and 7 weights; all of 16 rows of 64 bytes.
CONVSCOPE_TILE_TARGET void begin_tiles() {
    alignas(64) std::uint8_t settings[64] = {1};
    for (int tile = 0; tile < 8; ++tile) {
        settings[16 + 2 * tile] = 64;
        settings[48 + tile] = 16;
    }
    asm volatile("" : : "r"(settings) : "memory");  // GCC 12 takes only the first 8 bytes for read
    _tile_loadconfig(settings);
}

CONVSCOPE_TILE_TARGET void end_tiles() { _tile_release(); }

// Two loads of positions and two of weights serve four products of 16 cycles each.
template <bool Whole>
CONVSCOPE_TILE_TARGET void tiles(const LowTile& a) {
    const bool wide = a.positions > 16, both = a.blocks == 2;
    const Index step = a.position_step;
    const std::uint8_t* w = a.weights;
    const std::uint8_t* ahead = a.ahead;
    asm volatile("" : : : "memory");  // loads of tiles are not seen as reads of memory
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const auto sweep = [&](auto product) CONVSCOPE_TILE_TARGET {
        for (Index tap = 0; tap < a.tap_count; ++tap, w += a.blocks * kTapBytes) {
            fetch(ahead, a);
            product(a.input + a.taps[tap]);
        }
    };
#define CONVSCOPE_TILE_PRODUCT(sum, x, weights)          \
    if constexpr (Whole) _tile_dpbusd(sum, x, weights);  \
    else _tile_dpbf16ps(sum, x, weights)
    if (wide && both) {
        sweep([&](const std::uint8_t* x) CONVSCOPE_TILE_TARGET {
            _tile_loadd(6, w, 64);
            _tile_loadd(4, x, step);
            _tile_loadd(7, w + kTapBytes, 64);
            _tile_loadd(5, x + 16 * step, step);
            CONVSCOPE_TILE_PRODUCT(0, 4, 6);
            CONVSCOPE_TILE_PRODUCT(1, 4, 7);
            CONVSCOPE_TILE_PRODUCT(2, 5, 6);
            CONVSCOPE_TILE_PRODUCT(3, 5, 7);
        });
    } else if (both) {
        sweep([&](const std::uint8_t* x) CONVSCOPE_TILE_TARGET {
            _tile_loadd(6, w, 64);
            _tile_loadd(4, x, step);
            _tile_loadd(7, w + kTapBytes, 64);
            CONVSCOPE_TILE_PRODUCT(0, 4, 6);
            CONVSCOPE_TILE_PRODUCT(1, 4, 7);
        });
    } else if (wide) {
        sweep([&](const std::uint8_t* x) CONVSCOPE_TILE_TARGET {
            _tile_loadd(6, w, 64);
            _tile_loadd(4, x, step);
            _tile_loadd(5, x + 16 * step, step);
            CONVSCOPE_TILE_PRODUCT(0, 4, 6);
            CONVSCOPE_TILE_PRODUCT(2, 5, 6);
        });
    } else {
        sweep([&](const std::uint8_t* x) CONVSCOPE_TILE_TARGET {
            _tile_loadd(6, w, 64);
            _tile_loadd(4, x, step);
            CONVSCOPE_TILE_PRODUCT(0, 4, 6);
        });
    }
#undef CONVSCOPE_TILE_PRODUCT
    auto* const sums = static_cast<std::uint8_t*>(a.sums);
    constexpr Index kBlockBytes = kLowPositions * kLowOutputs * 4;
    _tile_stored(0, sums, 64);
    if (wide) _tile_stored(2, sums + kBlockBytes / 2, 64);
    if (both) _tile_stored(1, sums + kBlockBytes, 64);
    if (wide && both) _tile_stored(3, sums + kBlockBytes + kBlockBytes / 2, 64);
}

}  // namespace

void enter_low_wide(LowTable& table) {
    table.dot[0] = dot<Floats>, table.dot[1] = dot<Wholes>;
    table.tiles[0] = tiles<false>, table.tiles[1] = tiles<true>;
    table.begin_tiles = begin_tiles, table.end_tiles = end_tiles;
}

}  // namespace convscope::avx512

#endif
