#include "dispatch/low.h"

#include <cstring>
#include <stdexcept>

#if defined(CONVSCOPE_HAS_X86_KERNELS)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace convscope {
namespace {

#if defined(CONVSCOPE_HAS_X86_KERNELS)
struct Tiles {
    bool bfloat16 = false, int8 = false;
};

// Linux keeps the 8 KiB of tiles for a process that has asked for them once; its threads have them then, too.
bool may_use_tiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
    constexpr int kAskForState = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kAskForState, kTileData) == 0;
#else
    return false;
#endif
}

Tiles find_tiles() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return {};
    constexpr unsigned kBfloat16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
    if ((d & kTile) == 0 || (d & (kBfloat16 | kInt8)) == 0 || !may_use_tiles()) return {};
    return {(d & kBfloat16) != 0, (d & kInt8) != 0};
}

const Tiles& tiles() {
    static const Tiles found = find_tiles();
    return found;
}
#endif

bool is(const KernelTable& kernels, const char* isa) { return std::strcmp(kernels.name, isa) == 0; }

const LowTable& table_of(const KernelTable& kernels) {
#if defined(CONVSCOPE_HAS_X86_KERNELS)
    static const LowTable wide = avx512::low_table(), narrow = avx2::low_table();
    if (is(kernels, "avx512")) return wide;
    if (is(kernels, "avx2")) return narrow;
#endif
    static_cast<void>(kernels);
    static const LowTable portable = portable::low_table();
    return portable;
}

struct Way {
    std::string name;
    LowProduct product;
    bool in_tiles;
};

std::vector<Way> ways(const KernelTable& kernels, Precision precision) {
    const LowTable& table = table_of(kernels);
    const std::size_t kind = precision == Precision::int8;
    std::vector<Way> found;
#if defined(CONVSCOPE_HAS_X86_KERNELS)
    if (is(kernels, "avx512")) {
        if (kind == 0 ? tiles().bfloat16 : tiles().int8)
            found.push_back({kind == 0 ? "amx-bf16" : "amx-int8", table.tiles[kind], true});
        if (kind == 0 ? __builtin_cpu_supports("avx512bf16") != 0 : __builtin_cpu_supports("avx512vnni") != 0)
            found.push_back({kind == 0 ? "avx512-bf16" : "avx512-vnni", table.dot[kind], false});
    }
#endif
    if (table.madd[kind]) found.push_back({kernels.name, table.madd[kind], false});
    found.push_back({"plain", table.plain[kind], false});
    return found;
}

}  // namespace

Precision precision_of(const std::string& name) {
    if (name == "bf16") return Precision::bfloat16;
    if (name == "int8") return Precision::int8;
    throw std::invalid_argument("precision is '" + name + "', wanted bf16 or int8");
}

const char* name_of(Precision precision) {
    return precision == Precision::single ? "float32" : precision == Precision::int8 ? "int8" : "bf16";
}

std::vector<std::string> low_ways(const KernelTable& kernels, Precision precision) {
    std::vector<std::string> names;
    for (const Way& way : ways(kernels, precision)) names.push_back(way.name);
    return names;
}

LowKernels low_kernels(const KernelTable& kernels, Precision precision, const std::string& name) {
    const LowTable& table = table_of(kernels);
    const std::size_t kind = precision == Precision::int8;
    std::string names;
    for (const Way& way : ways(kernels, precision)) {
        const bool taken = name.empty() ? way.name != "plain" || is(kernels, "portable") : way.name == name;
        names += (names.empty() ? "" : ", ") + way.name;
        if (!taken) continue;
        LowKernels found;
        found.way = way.name, found.precision = precision;
        found.convert = table.convert[kind], found.weights = table.weights[kind], found.finish = table.finish[kind];
        found.convert_few = table.convert_few[kind], found.extent = table.extent;
        found.product = way.product;
        if (way.in_tiles) found.begin = table.begin_tiles, found.end = table.end_tiles;
        return found;
    }
    if (!name.empty())
        throw std::invalid_argument("way '" + name + "' of " + name_of(precision) + " is not there: the instruction set " +
                                    kernels.name + " has here " + names);
    throw std::invalid_argument(
        std::string(name_of(precision)) +
        (kind == 0 ? " wants AMX-BF16 or AVX512-BF16" : " wants AMX-INT8, AVX512-VNNI, AVX-512 or AVX2") +
        ", and this processor, with instruction set " + kernels.name +
        ", has none of them; there are plain loops, for trying out, with CONVSCOPE_ISA=portable");
}

}  // namespace convscope
