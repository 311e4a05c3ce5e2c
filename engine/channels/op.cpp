#include "channels/op.h"

namespace convscope::channels {

Part part_of(const Split& split, Index item) {
    const Index groups = item % split.group_parts;
    const Index rows = item / split.group_parts % split.row_parts;
    const Index pictures = item / split.group_parts / split.row_parts;
    return {share(split.pictures, pictures, split.picture_parts), share(split.groups, groups, split.group_parts),
            share(split.rows, rows, split.row_parts)};
}

Part largest_part(const Split& split) {
    const auto most = [](Index count, Index parts) { return Range{0, (count + parts - 1) / parts}; };
    return {most(split.pictures, split.picture_parts), most(split.groups, split.group_parts),
            most(split.rows, split.row_parts)};
}

}  // namespace convscope::channels
