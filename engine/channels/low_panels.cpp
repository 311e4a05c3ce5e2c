// Which layers can be in low precision, and their weights on the way into its panels.
#include <algorithm>

#include "channels/cache.h"
#include "channels/low.h"

namespace convscope::channels {
namespace {

constexpr Index kFewChannels = 16;          // of fewer most of each chunk would be zeros
constexpr Index kMostProducts = 66'000;     // 255 · 127 of each stay below 2³¹

}  // namespace

std::string stays_single(const ConvolutionSpec& spec, Precision precision, bool planar, bool quantised) {
    const Filter& filter = spec.filter;
    const bool narrow = is_narrow(spec, precision);
    if (planar && !narrow) return "it reads the picture's planes";
    if (filter.is_depthwise()) return "each of its channels has a kernel of its own";
    if (!filter.is_plain()) return "its channels come in groups";
    if (filter.input.channels < kFewChannels && !narrow) return "its input has few channels";
    if (precision == Precision::int8 && !quantised) return "nothing is known of its input's range";
    if (precision == Precision::int8 && filter.input.channels * filter.area() > kMostProducts)
        return "its sums could leave 32 bits";
    return {};
}

bool is_narrow(const ConvolutionSpec& spec, Precision precision) {
    const Filter& filter = spec.filter;
    return filter.kernel.x > 1 && filter.dilation.x == 1 && spec.before.empty() &&
           filter.kernel.x * filter.input.channels <= chunk_channels(precision);
}

ConvolutionSpec as_convolution(const LinearSpec& linear) {
    ConvolutionSpec spec;
    spec.name = linear.name;
    spec.filter.input = {linear.inputs, 1, 1};
    spec.filter.output = {linear.outputs, 1, 1};
    spec.filter.kernel = spec.filter.stride = spec.filter.dilation = {1, 1};
    spec.filter.weight = linear.weight;
    spec.folding = linear.folding, spec.finish = linear.finish;
    return spec;
}

// [column · channels + channel][16 outputs] of one row of the kernel, and zeros.
void Low::narrow_panel(Index first_output, Index outputs, Index kernel_row, const Job& job) const {
    const Filter& filter = spec_.filter;
    const Index channels = filter.input.channels, width = filter.kernel.x;
    std::fill_n(job.scratch, chunk_channels(low_.precision) * kLowOutputs, 0.0f);
    for (Index output = 0; output < outputs; ++output)
        for (Index channel = 0; channel < channels; ++channel)
            for (Index x = 0; x < width; ++x) {
                const Index tap = kernel_row * width + x;
                const Index place = filter.flip ? filter.area() - 1 - tap : tap;
                job.scratch[(x * channels + channel) * kLowOutputs + output] =
                    job.parameters[filter.weight.offset + ((first_output + output) * channels + channel) * filter.area() +
                                   place];
            }
}

// The group's weights, in scratch behind the panel and the sums.
void Low::prepare(Index number, const Job& job, Group& to) const {
    const Filter& filter = spec_.filter;
    const bool whole = low_.precision == Precision::int8;
    to.number = number, to.first = number * kGroupOutputs;
    const Index outputs = std::min(filter.output.channels - to.first, kGroupOutputs);
    to.blocks = outputs > kLowOutputs ? 2 : 1;
    to.lane_blocks = blocks_of(outputs, lanes_);
    spec_.folding.at(job.parameters, job.state, to.first, outputs, kGroupOutputs, to.scale, to.bias);
    float* const panel = job.scratch;
    auto* const bytes = reinterpret_cast<std::uint8_t*>(job.scratch + panel_floats() + sum_floats());
    to.weights = bytes;
    const Index row = filter.input.channels * filter.area(), unit = chunk_channels(low_.precision);
    const float* const weights = job.parameters + filter.weight.offset;
    alignas(64) float inverse[kGroupOutputs] = {};
    std::fill_n(to.less, kGroupOutputs, 0);
    for (Index output = 0; whole && output < outputs; ++output) {
        const float most = low_.extent(weights + (to.first + output) * row, row);
        inverse[output] = most > 0 ? 127.0f / most : 0.0f;
        to.scale[output] *= most / 127.0f * quantised_.scale;
    }
    for (int block = 0; narrow_ && block < to.blocks; ++block)
        for (Index y = 0; y < filter.kernel.y; ++y) {
            narrow_panel(to.first + block * kLowOutputs, std::min(outputs - block * kLowOutputs, kLowOutputs), y, job);
            LowWeights a;
            a.from = panel, a.to = bytes + (y * to.blocks + block) * kTapBytes;
            a.inverse = inverse + block * kLowOutputs, a.sums = to.less + block * kLowOutputs;
            low_.weights(a);
        }
    for (int block = 0; !narrow_ && block < to.blocks; ++block)
        for (Index chunk = 0; chunk < chunks_; ++chunk) {
            const Index channels = std::min(unit, filter.input.channels - chunk * unit);
            const Index present = std::min(outputs - block * kLowOutputs, kLowOutputs);
            if (channels < unit || present < kLowOutputs) std::fill_n(panel, panel_floats(), 0.0f);
            for (Index lane = 0; lane < present; lane += lanes_) {
                WeightPanel a;
                a.weights = weights + (to.first + block * kLowOutputs + lane) * row + chunk * unit * filter.area();
                a.row_step = row;
                a.rows = std::min(lanes_, present - lane);
                a.columns = channels * filter.area();
                a.area = filter.area(), a.inner = unit;
                a.flip = filter.flip;
                a.to = panel + lane, a.to_step = kLowOutputs;
                kernels_.weight_panel(a);
            }
            LowWeights a;
            a.inverse = inverse + block * kLowOutputs, a.sums = to.less + block * kLowOutputs;
            for (Index tap = 0; tap < filter.area(); ++tap) {
                a.from = panel + tap * unit * kLowOutputs;
                a.to = bytes + ((chunk * filter.area() + tap) * to.blocks + block) * kTapBytes;
                low_.weights(a);
            }
        }
    const auto zero = static_cast<std::int32_t>(quantised_.zero);
    for (std::int32_t& each : to.less) each *= zero;
}

void Low::fetch_next(Index number, const Part& part, const Job& job, Group& group) const {
    const Filter& filter = spec_.filter;
    const Index row = filter.input.channels * filter.area(), first = (number + 1) * kGroupOutputs;
    const Index rows = std::min(kGroupOutputs, filter.output.channels - first);
    group.ahead = group.ahead_end = nullptr;
    group.call = 0, group.calls = 1;
    if (number + 1 >= part.groups.end || rows * row * 4 > second_level_bytes() / 2) return;
    group.ahead = job.parameters + filter.weight.offset + first * row;
    group.ahead_end = group.ahead + rows * row;
    const Index lines = (spec_.pooled ? 2 : 1) * part.rows.size(), width = filter.output.width;
    const auto calls_of = [](Index positions) { return (positions + kLowPositions - 1) / kLowPositions; };
    group.calls = vector()  ? calls_of(part.pictures.size())
                  : flat_ ? part.pictures.size() * calls_of((lines - 1) * pitch() + width)
                          : part.pictures.size() * lines * calls_of(width);
}

}  // namespace convscope::channels
