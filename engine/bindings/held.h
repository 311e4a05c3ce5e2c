#pragma once

#include <nanobind/nanobind.h>

namespace convscope {

// Enrols the look at whether Python's dicts and lists hold what they held.
void bind_held(nanobind::module_& m);

}  // namespace convscope
