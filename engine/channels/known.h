// What the channels-blocked layout can run.
#pragma once

#include <string>
#include <vector>

#include "ops/record.h"

namespace convscope::channels {

// The name of the first record that the layout lacks; empty where it has them all.
std::string obstacle(const Shape& input, const std::vector<Record>& records, const std::vector<int>& outputs);

}  // namespace convscope::channels
