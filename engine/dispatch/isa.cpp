#include "dispatch/isa.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <stdexcept>

namespace convscope {
namespace {

struct Candidate {
    const char* name;
    bool (*runs_here)();
    KernelTable (*make)();
};

// Best first.
const Candidate kCandidates[] = {
#if defined(CONVSCOPE_HAS_X86_KERNELS)
    {"avx512",
     [] {
         return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
                __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
                __builtin_cpu_supports("fma") != 0;
     },
     avx512::kernel_table},
    {"avx2", [] { return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0; },
     avx2::kernel_table},
#endif
    {"portable", [] { return true; }, portable::kernel_table},
};

std::mutex guard;
const KernelTable* chosen = nullptr;

const KernelTable* table_of(const Candidate& candidate) {
    static std::map<std::string, KernelTable> tables;
    return &tables.try_emplace(candidate.name, candidate.make()).first->second;
}

const KernelTable* find(const std::string& name) {
    std::string names;
    for (const Candidate& candidate : kCandidates) {
        if (!candidate.runs_here()) continue;
        if (name.empty() || name == candidate.name) return table_of(candidate);
        names += names.empty() ? candidate.name : std::string(", ") + candidate.name;
    }
    throw std::invalid_argument("instruction set '" + name +
                                "' cannot run here; this processor and build have: " + names);
}

}  // namespace

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const Candidate& candidate : kCandidates)
        if (candidate.runs_here()) names.emplace_back(candidate.name);
    return names;
}

const KernelTable& kernels() {
    const std::scoped_lock lock(guard);
    if (!chosen) {
        const char* wanted = std::getenv("CONVSCOPE_ISA");
        chosen = find(wanted ? wanted : "");
    }
    return *chosen;
}

void choose_isa(const std::string& name) {
    const std::scoped_lock lock(guard);
    chosen = find(name);
}

}  // namespace convscope
