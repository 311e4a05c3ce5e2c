// How much of a working set stays close to a core.
#pragma once

#include "kernels/arguments.h"

namespace convscope::channels {

// Bytes of a core's first and second level, as the system says; 32 KiB and 512 KiB where it does not.
Index first_level_bytes();
Index second_level_bytes();

}  // namespace convscope::channels
