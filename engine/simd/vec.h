// One vector register of floats, for the instruction set this file is compiled for.
//
// Everything here lives in an inline namespace named after the instruction set, because the same source is compiled
// several times with different flags: without it the linker would be free to keep one AVX-512 copy of an inline
// function for everybody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#if defined(CONVSCOPE_ISA_AVX512)
#define CONVSCOPE_ISA avx512
#define CONVSCOPE_LANES 16
#define CONVSCOPE_REGISTERS 32
#elif defined(CONVSCOPE_ISA_AVX2)
#define CONVSCOPE_ISA avx2
#define CONVSCOPE_LANES 8
#define CONVSCOPE_REGISTERS 16
#elif defined(CONVSCOPE_ISA_PORTABLE)
#define CONVSCOPE_ISA portable
#define CONVSCOPE_LANES 4
#if defined(__aarch64__)
#define CONVSCOPE_REGISTERS 32
#else
#define CONVSCOPE_REGISTERS 16
#endif
#else
#error "compile this file with one of CONVSCOPE_ISA_AVX512, CONVSCOPE_ISA_AVX2, CONVSCOPE_ISA_PORTABLE"
#endif

#define CONVSCOPE_UNROLL _Pragma("GCC unroll 32")

namespace convscope::CONVSCOPE_ISA {

using Index = std::ptrdiff_t;

inline constexpr Index kLanes = CONVSCOPE_LANES;
inline constexpr int kRegisters = CONVSCOPE_REGISTERS;
inline constexpr Index kImages = 16;                   // images in a block: the layout, the same everywhere
inline constexpr Index kVectors = kImages / kLanes;    // registers that hold one position of a block

// GCC and Clang vector extensions: +, *, comparisons and ?: work lane by lane, a scalar operand is broadcast.
// `may_alias` because the same bytes are read as floats and as integers.
using Vec = float __attribute__((vector_size(4 * CONVSCOPE_LANES), may_alias));
using IntVec = std::int32_t __attribute__((vector_size(4 * CONVSCOPE_LANES), may_alias));
using UintVec = std::uint32_t __attribute__((vector_size(4 * CONVSCOPE_LANES), may_alias));
using ByteVec = std::uint8_t __attribute__((vector_size(CONVSCOPE_LANES), may_alias));
using UnalignedVec = float __attribute__((vector_size(4 * CONVSCOPE_LANES), aligned(4), may_alias));

inline Vec load(const float* from) { return *reinterpret_cast<const Vec*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<Vec*>(to) = value; }
inline Vec load_unaligned(const float* from) { return *reinterpret_cast<const UnalignedVec*>(from); }
inline void store_unaligned(float* to, Vec value) { *reinterpret_cast<UnalignedVec*>(to) = value; }
inline Vec zero() { return Vec{}; }

template <int... Lane>
inline Vec broadcast_to(float value, std::integer_sequence<int, Lane...>) {
    return Vec{(static_cast<void>(Lane), value)...};
}
// Not `Vec{} + value`: that keeps the addition, because 0 + -0 is not -0, and cost the convolution 6 %.
inline Vec broadcast(float value) { return broadcast_to(value, std::make_integer_sequence<int, CONVSCOPE_LANES>{}); }

// A loaded value used several times stays one load: left alone, GCC 12 makes it a memory operand of every use.
inline Vec in_register(Vec value) {
#if defined(__x86_64__)
    asm("" : "+v"(value));
#elif defined(__aarch64__)
    asm("" : "+w"(value));
#endif
    return value;
}


// NaN in `value` comes through, as in torch; the first argument is the bound.
inline Vec at_least(Vec bound, Vec value) { return bound > value ? bound : value; }
inline Vec at_most(Vec bound, Vec value) { return bound < value ? bound : value; }
inline Vec select(IntVec mask, Vec yes, Vec no) { return mask ? yes : no; }

inline IntVec as_bits(Vec value) { return reinterpret_cast<IntVec>(value); }
inline Vec as_floats(IntVec bits) { return reinterpret_cast<Vec>(bits); }
inline IntVec to_int(Vec value) { return __builtin_convertvector(value, IntVec); }
inline Vec to_float(IntVec value) { return __builtin_convertvector(value, Vec); }

inline IntVec load_bytes(const std::uint8_t* from) {
    return __builtin_convertvector(*reinterpret_cast<const ByteVec*>(from), IntVec);
}
inline void store_bytes(std::uint8_t* to, IntVec value) {
    *reinterpret_cast<ByteVec*>(to) = __builtin_convertvector(value, ByteVec);
}

// 0, 1, 2, … in the lanes.
inline IntVec lane_numbers() {
    IntVec numbers{};
    for (int lane = 0; lane < CONVSCOPE_LANES; ++lane) numbers[lane] = lane;
    return numbers;
}

}  // namespace convscope::CONVSCOPE_ISA
