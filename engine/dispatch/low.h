// The ways in which this processor multiplies in low precision.
#pragma once

#include <string>
#include <vector>

#include "kernels/low.h"
#include "kernels/table.h"

namespace convscope {

// One way, with the kernels around it; `begin` and `end` are a thread's, or null.
struct LowKernels {
    std::string way;
    Precision precision = Precision::single;
    void (*convert)(const LowConvert&) = nullptr;
    void (*convert_few)(const LowConvertFew&) = nullptr;
    void (*weights)(const LowWeights&) = nullptr;
    void (*finish)(const LowFinish&) = nullptr;
    float (*extent)(const float*, Index) = nullptr;
    LowProduct product = nullptr;
    void (*begin)() = nullptr;
    void (*end)() = nullptr;
};

// "bf16" or "int8".
Precision precision_of(const std::string& name);
const char* name_of(Precision precision);

// Names of the ways that instruction set `kernels` and this processor have, the quickest first; "plain" is always one.
std::vector<std::string> low_ways(const KernelTable& kernels, Precision precision);

// The named way; an empty name for the quickest, which "plain" is only where the instruction set is "portable". Throws
// std::invalid_argument saying what the processor lacks and what is there.
LowKernels low_kernels(const KernelTable& kernels, Precision precision, const std::string& way);

}  // namespace convscope
