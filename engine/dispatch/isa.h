// Which instruction set's kernels run. Chosen once, at first use: the best the processor has, or CONVSCOPE_ISA.
#pragma once

#include <string>
#include <vector>

#include "kernels/table.h"

namespace convscope {

// Names that this build and this processor can run, best first.
std::vector<std::string> available_isas();

// The chosen table. Throws std::invalid_argument when CONVSCOPE_ISA names one that cannot run here.
const KernelTable& kernels();

// For tests: later networks use `name`; those that exist keep theirs.
void choose_isa(const std::string& name);

}  // namespace convscope
