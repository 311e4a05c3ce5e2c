// Into low precision and out of it, and its products in plain loops and by 16-bit pairs.
#include "kernels/low.h"

#include "kernels/enter.h"
#include "kernels/low_enter.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace convscope::CONVSCOPE_ISA {
namespace {

using WordVec = std::uint16_t __attribute__((vector_size(2 * CONVSCOPE_LANES), may_alias, aligned(2)));
using OutVec = std::uint8_t __attribute__((vector_size(CONVSCOPE_LANES), may_alias, aligned(1)));
constexpr Index kParts = kLowOutputs / kLanes;  // registers of a block of outputs

// Ties to even; a NaN stays one.
inline UintVec rounded_bits(Vec value) {
    const UintVec bits = reinterpret_cast<UintVec>(value);
    const UintVec rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return value == value ? rounded : (bits >> 16) | 0x40u;
}

void convert_bfloat16(const LowConvert& a) {
    for (Index block = 0; block < a.blocks; ++block) {
        const float* const from = a.from + block * a.block_step;
        std::uint8_t* const to = a.to + block * kLanes * 2;
        for (Index i = 0; i < a.positions; ++i)
            *reinterpret_cast<WordVec*>(to + i * a.position_bytes) =
                __builtin_convertvector(rounded_bits(load_unaligned(from + i * kLanes)), WordVec);
    }
}

// Adding 1.5 · 2²³ leaves no room for a fraction. The bounds come first: they are whole, so that rounding keeps to them,
// and stand between the product and the sum, which a fused multiply-add would round once instead of twice.
inline Vec rounded(Vec value, float least, float most) {
    const Vec low = broadcast(least), high = broadcast(most);
    value = value > low ? value : low;
    value = value < high ? value : high;
    return (value + 12582912.0f) - 12582912.0f;
}

void convert_int8(const LowConvert& a) {
    const Vec inverse = broadcast(a.inverse);
    for (Index block = 0; block < a.blocks; ++block) {
        const float* const from = a.from + block * a.block_step;
        std::uint8_t* const to = a.to + block * kLanes;
        for (Index i = 0; i < a.positions; ++i) {
            const Vec whole = rounded(load_unaligned(from + i * kLanes) * inverse, -a.zero, 255.0f - a.zero) + a.zero;
            *reinterpret_cast<OutVec*>(to + i * a.position_bytes) = __builtin_convertvector(to_int(whole), OutVec);
        }
    }
}

// Through a row of registers' worth of one channel at a time.
template <bool Whole>
void convert_few(const LowConvertFew& a) {
    for (Index channel = 0; channel < a.channels; ++channel) {
        const float* const from = a.from + channel * a.channel_step;
        std::uint8_t* const to = a.to + channel * (Whole ? 1 : 2);
        for (Index first = 0; first < a.positions; first += kLanes) {
            const Index present = a.positions - first < kLanes ? a.positions - first : kLanes;
            Vec x{};
            if (a.position_step == 1 && present == kLanes) x = load_unaligned(from + first);
            else
                for (Index i = 0; i < present; ++i) x[i] = from[(first + i) * a.position_step];
            IntVec number;
            if constexpr (Whole) number = to_int(rounded(x * a.inverse, -a.zero, 255.0f - a.zero) + a.zero);
            else number = reinterpret_cast<IntVec>(rounded_bits(x));
            for (Index i = 0; i < present; ++i) {
                const std::int32_t one = number[i];
                __builtin_memcpy(to + (first + i) * a.position_bytes, &one, Whole ? 1 : 2);
            }
        }
    }
}

void weights_bfloat16(const LowWeights& a) {
    for (Index pair = 0; pair < 16; ++pair)
        CONVSCOPE_UNROLL for (Index part = 0; part < kParts; ++part) {
            const float* const from = a.from + 2 * pair * kLowOutputs + part * kLanes;
            const UintVec words = rounded_bits(load(from)) | (rounded_bits(load(from + kLowOutputs)) << 16);
            store(reinterpret_cast<float*>(a.to) + pair * kLowOutputs + part * kLanes, reinterpret_cast<Vec>(words));
        }
}

void weights_int8(const LowWeights& a) {
    CONVSCOPE_UNROLL for (Index part = 0; part < kParts; ++part) {
        const Vec inverse = load(a.inverse + part * kLanes);
        IntVec total = *reinterpret_cast<const IntVec*>(a.sums + part * kLanes);
        for (Index four = 0; four < 16; ++four) {
            UintVec words{};
            CONVSCOPE_UNROLL for (int i = 0; i < 4; ++i) {
                const Vec w = load(a.from + (4 * four + i) * kLowOutputs + part * kLanes);
                const IntVec whole = to_int(rounded(w * inverse, -127.0f, 127.0f));
                total += whole;
                words |= (reinterpret_cast<UintVec>(whole) & 0xffu) << (8 * i);
            }
            store(reinterpret_cast<float*>(a.to) + four * kLowOutputs + part * kLanes, reinterpret_cast<Vec>(words));
        }
        *reinterpret_cast<IntVec*>(a.sums + part * kLanes) = total;
    }
}

float extent(const float* row, Index count) {
    Vec most = zero(), none = zero();
    Index i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        const Vec w = load_unaligned(row + i);
        none += w - w;  // 0, or NaN of what is not finite
        most = w > most ? w : most;
        most = -w > most ? -w : most;
    }
    float found = 0, odd = 0;
    for (Index lane = 0; lane < kLanes; ++lane) {
        found = most[lane] > found ? most[lane] : found;
        odd += none[lane];
    }
    for (; i < count; ++i) {
        odd += row[i] - row[i];
        const float w = row[i] < 0 ? -row[i] : row[i];
        found = w > found ? w : found;
    }
    return found + odd;
}

template <bool Whole>
void finish(const LowFinish& a) {
    const Vec floor = broadcast(a.floor), ceiling = broadcast(a.ceiling);
    for (Index part = 0; part < a.lane_blocks; ++part) {
        const Vec scale = load(a.scale + part * kLanes), bias = load(a.bias + part * kLanes);
        IntVec less{};
        if constexpr (Whole) less = *reinterpret_cast<const IntVec*>(a.less + part * kLanes);
        for (Index i = 0; i < a.positions; ++i) {
            const Index place = i * kLowOutputs + part * kLanes;
            Vec y;
            if constexpr (Whole)
                y = to_float(*reinterpret_cast<const IntVec*>(static_cast<const std::int32_t*>(a.sums) + place) - less);
            else y = load(static_cast<const float*>(a.sums) + place);
            y = y * scale + bias;
            if (a.skip) y += load(a.skip + part * a.skip_block_step + i * kLanes);
            store(a.to + part * a.block_step + i * kLanes, at_most(ceiling, at_least(floor, y)));
        }
    }
}

inline float of_bfloat16(std::uint16_t word) {
    const auto bits = static_cast<std::uint32_t>(word) << 16;
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

template <class Number, class Weight, class Sum, Index Together>
void plain(const LowTile& a) {
    const auto value = [](auto number) {
        if constexpr (sizeof(number) == 2) return of_bfloat16(number);
        else return static_cast<std::int32_t>(number);
    };
    for (int block = 0; block < a.blocks; ++block)
        for (Index position = 0; position < a.positions; ++position) {
            Sum sums[kLowOutputs] = {};
            for (Index tap = 0; tap < a.tap_count; ++tap) {
                const auto* const x =
                    reinterpret_cast<const Number*>(a.input + a.taps[tap] + position * a.position_step);
                const auto* const w = reinterpret_cast<const Weight*>(a.weights + (tap * a.blocks + block) * kTapBytes);
                for (Index channel = 0; channel < 16 * Together; ++channel)
                    for (Index output = 0; output < kLowOutputs; ++output)
                        sums[output] += value(x[channel]) * value(w[(channel / Together * kLowOutputs + output) *
                                                                      Together + channel % Together]);
            }
            auto* const to = static_cast<Sum*>(a.sums) + (block * kLowPositions + position) * kLowOutputs;
            for (Index output = 0; output < kLowOutputs; ++output) to[output] = sums[output];
        }
}

#if defined(__AVX2__)

#if defined(CONVSCOPE_ISA_AVX512)
using Whole = __m512i;
inline Whole load_whole(const void* from) { return _mm512_loadu_si512(from); }
inline void store_whole(void* to, Whole value) { _mm512_storeu_si512(to, value); }
inline Whole four_bytes(std::int32_t word) { return _mm512_set1_epi32(word); }
inline Whole even_bytes(Whole x) { return _mm512_and_si512(x, _mm512_set1_epi16(0xff)); }
inline Whole odd_bytes(Whole x) { return _mm512_srli_epi16(x, 8); }
inline Whole even_signed(Whole x) { return _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8); }
inline Whole odd_signed(Whole x) { return _mm512_srai_epi16(x, 8); }
inline Whole add_products(Whole sum, Whole x, Whole w) { return _mm512_add_epi32(sum, _mm512_madd_epi16(x, w)); }
inline Whole no_sum() { return _mm512_setzero_si512(); }
#else
using Whole = __m256i;
inline Whole load_whole(const void* from) { return _mm256_loadu_si256(static_cast<const Whole*>(from)); }
inline void store_whole(void* to, Whole value) { _mm256_storeu_si256(static_cast<Whole*>(to), value); }
inline Whole four_bytes(std::int32_t word) { return _mm256_set1_epi32(word); }
inline Whole even_bytes(Whole x) { return _mm256_and_si256(x, _mm256_set1_epi16(0xff)); }
inline Whole odd_bytes(Whole x) { return _mm256_srli_epi16(x, 8); }
inline Whole even_signed(Whole x) { return _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8); }
inline Whole odd_signed(Whole x) { return _mm256_srai_epi16(x, 8); }
inline Whole add_products(Whole sum, Whole x, Whole w) { return _mm256_add_epi32(sum, _mm256_madd_epi16(x, w)); }
inline Whole no_sum() { return _mm256_setzero_si256(); }
#endif

// Products of bytes with bytes add up in 16 bits by saturating (vpmaddubsw), which is not exact. So even and odd bytes
// become pairs of 16-bit numbers, whose products add up in 32 bits.
template <int X>
inline void madd_tile(const LowTile& a, Index first, int block, Index part) {
    Whole sums[X];
    for (int p = 0; p < X; ++p) sums[p] = no_sum();
    for (Index tap = 0; tap < a.tap_count; ++tap) {
        const std::uint8_t* const x = a.input + a.taps[tap] + first * a.position_step;
        const std::uint8_t* const w = a.weights + (tap * a.blocks + block) * kTapBytes + part * kLanes * 4;
        for (Index four = 0; four < 16; ++four) {
            const Whole weights = load_whole(w + four * kChunkBytes);
            const Whole even = even_signed(weights), odd = odd_signed(weights);
            for (int p = 0; p < X; ++p) {
                std::int32_t word;
                __builtin_memcpy(&word, x + p * a.position_step + 4 * four, 4);
                const Whole bytes = four_bytes(word);
                sums[p] = add_products(add_products(sums[p], even_bytes(bytes), even), odd_bytes(bytes), odd);
            }
        }
    }
    auto* const to = static_cast<std::int32_t*>(a.sums) + (block * kLowPositions + first) * kLowOutputs + part * kLanes;
    for (int p = 0; p < X; ++p) store_whole(to + p * kLowOutputs, sums[p]);
}

void madd_int8(const LowTile& a) {
    for (int block = 0; block < a.blocks; ++block)
        for (Index part = 0; part < kParts; ++part) {
            Index first = 0;
            for (; first + 8 <= a.positions; first += 8) madd_tile<8>(a, first, block, part);
            for (; first < a.positions; ++first) madd_tile<1>(a, first, block, part);
        }
}

#endif

}  // namespace

LowTable low_table() {
    LowTable table;
    table.convert[0] = convert_bfloat16, table.convert[1] = convert_int8;
    table.convert_few[0] = convert_few<false>, table.convert_few[1] = convert_few<true>;
    table.weights[0] = weights_bfloat16, table.weights[1] = weights_int8;
    table.finish[0] = finish<false>, table.finish[1] = finish<true>;
    table.extent = extent;
    table.plain[0] = plain<std::uint16_t, std::uint16_t, float, 2>;
    table.plain[1] = plain<std::uint8_t, std::int8_t, std::int32_t, 4>;
#if defined(__AVX2__)
    table.madd[1] = madd_int8;
#endif
#if defined(CONVSCOPE_ISA_AVX512)
    enter_low_wide(table);
#endif
    return table;
}

}  // namespace convscope::CONVSCOPE_ISA
