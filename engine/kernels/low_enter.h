// Products that only AVX-512 processors have, each kind behind a bit of its own: compiled always, entered always, called
// where the processor has them.
#pragma once

#include "kernels/low.h"

namespace convscope::avx512 {

void enter_low_wide(LowTable& table);

}  // namespace convscope::avx512
