#pragma once

#include <nanobind/nanobind.h>

namespace convscope {

// Enrols what works on boxes and regions of interest.
void bind_regions(nanobind::module_& m);

}  // namespace convscope
