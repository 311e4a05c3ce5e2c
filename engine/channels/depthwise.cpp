#include "channels/depthwise.h"

#include <algorithm>

namespace convscope::channels {

Split Depthwise::split(int, Index pictures, int threads) const {
    const Filter& filter = spec_.filter;
    Split split;
    split.pictures = pictures;
    split.groups = blocks_of(filter.output.channels, kernels_.lanes);
    split.rows = filter.output.height;
    // Blocks first, each of which needs its own weights; the maps of a layer with few of them are large.
    const Index wanted = threads == 1 ? 1 : 4 * threads;
    split.group_parts = std::min(split.groups, wanted);
    split.picture_parts = std::clamp<Index>(wanted / split.group_parts, 1, pictures);
    split.row_parts = std::clamp<Index>(wanted / split.group_parts / split.picture_parts, 1,
                                        std::max<Index>(1, split.rows / 4));
    return split;
}

void Depthwise::run(int, const Part& part, const Job& job) const {
    const Filter& filter = spec_.filter;
    const Index lanes = kernels_.lanes;
    const Tensor& input = job.inputs[0];
    alignas(64) float scale[16], bias[16];
    for (Index block = part.groups.begin; block < part.groups.end; ++block) {
        const Index first = block * lanes, present = std::min(lanes, filter.output.channels - first);
        spec_.folding.at(job.parameters, job.state, first, present, lanes, scale, bias);
        WeightPanel panel;
        panel.weights = job.parameters + filter.weight.offset + first * filter.area();
        panel.row_step = panel.columns = panel.area = filter.area();
        panel.rows = present;
        panel.flip = filter.flip;
        panel.scale = scale;
        panel.to = job.scratch;
        panel.to_step = lanes;
        kernels_.weight_panel(panel);
        DepthwiseRow row;
        row.row_step = filter.dilation.y * input.row_step;
        row.column_step = filter.dilation.x * lanes;
        row.position_step = filter.stride.x * lanes;
        row.kernel_height = filter.kernel.y, row.kernel_width = filter.kernel.x;
        row.weights = job.scratch;
        row.bias = bias;
        row.floor = spec_.finish.floor, row.ceiling = spec_.finish.ceiling;
        row.positions = filter.output.width;
        for (Index picture = part.pictures.begin; picture < part.pictures.end; ++picture)
            for (Index y = part.rows.begin; y < part.rows.end; ++y) {
                row.input = input.at(picture, block, y * filter.stride.y - filter.padding.y) - filter.padding.x * lanes;
                row.output = job.output.at(picture, block, y);
                row.skip = job.skip.data ? job.skip.at(picture, block, y) : nullptr;
                kernels_.depthwise_row(row);
                spec_.finish.run(kernels_, row.output, row.positions * lanes);
            }
    }
}

double Depthwise::cycles(Index pictures) const {
    const Filter& filter = spec_.filter;
    return static_cast<double>(pictures * blocks_of(filter.output.channels, kernels_.lanes) * filter.output.height *
                               filter.output.width * filter.area());
}

std::string Depthwise::describe() const {
    return name + ": depthwise convolution " + std::to_string(spec_.filter.kernel.y) + "×" +
           std::to_string(spec_.filter.kernel.x) + ", channels-blocked " + text(spec_.filter.output);
}

}  // namespace convscope::channels
