#include "ops/op.h"

#include <cstring>

namespace convscope {

void clear_border(const Maps& maps, Size border) {
    if (border.y == 0 && border.x == 0) return;
    const Index row_floats = (maps.width + 2 * border.x) * kBlock;
    for (Index map = 0; map < maps.count; ++map)
        for (Index row = -border.y; row < maps.height + border.y; ++row) {
            float* at = row_of(maps, map, row) - border.x * kBlock;
            if (row < 0 || row >= maps.height) {
                std::memset(at, 0, static_cast<std::size_t>(row_floats) * sizeof(float));
            } else {
                const auto side = static_cast<std::size_t>(border.x * kBlock) * sizeof(float);
                std::memset(at, 0, side);
                std::memset(at + (border.x + maps.width) * kBlock, 0, side);
            }
        }
}

void clear_maps(const Maps& maps) {
    for_rows(maps, [&](Index map, Index row) {
        std::memset(row_of(maps, map, row), 0, static_cast<std::size_t>(maps.width * kBlock) * sizeof(float));
    });
}

void clear_absent(const Block& block, const Maps& maps) {
    if (block.images_present == kBlock) return;
    for_own_rows(block, maps, [&](Index map, Index row) {
        block.kernels->clear_absent(row_of(maps, map, row), maps.width, block.images_present);
    });
}

}  // namespace convscope
