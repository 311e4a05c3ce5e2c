// Weighted sums and maxima over rows × columns of source positions that tables name: resizing, padding, adaptive pooling.
#include "kernels/enter.h"
#include "kernels/tensor_arguments.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

float weight(const Taps& taps, Index tap) { return taps.weight ? taps.weight[tap] : 1.0f; }

void resample(const Resample& a) {
    for (Index map = 0; map < a.to.count; ++map)
        for (Index row = 0; row < a.to.height; ++row) {
            float* to = a.to.data + map * a.to.map_step + row * a.to.row_step;
            const float* from = a.from.data + map * a.from.map_step;
            for (Index column = 0; column < a.to.width; ++column) {
                Vec total[kVectors] = {};
                for (Index i = a.rows.first[row]; i < a.rows.first[row + 1]; ++i) {
                    const float* line = from + a.rows.source[i] * a.from.row_step;
                    for (Index j = a.columns.first[column]; j < a.columns.first[column + 1]; ++j) {
                        const float share = weight(a.rows, i) * weight(a.columns, j);
                        CONVSCOPE_UNROLL for (Index v = 0; v < kVectors; ++v)
                            total[v] += share * load(line + a.columns.source[j] * kImages + v * kLanes);
                    }
                }
                CONVSCOPE_UNROLL for (Index v = 0; v < kVectors; ++v) store(to + column * kImages + v * kLanes, total[v]);
            }
        }
}

// The same taps the other way: each δ goes to the sources of its position.
void resample_back(const Resample& a) {
    for (Index map = 0; map < a.from.count; ++map)
        for (Index row = 0; row < a.from.height; ++row) {
            const float* from = a.from.data + map * a.from.map_step + row * a.from.row_step;
            float* to = a.to.data + map * a.to.map_step;
            for (Index column = 0; column < a.from.width; ++column)
                for (Index i = a.rows.first[row]; i < a.rows.first[row + 1]; ++i) {
                    float* line = to + a.rows.source[i] * a.to.row_step;
                    for (Index j = a.columns.first[column]; j < a.columns.first[column + 1]; ++j) {
                        const float share = weight(a.rows, i) * weight(a.columns, j);
                        float* at = line + a.columns.source[j] * kImages;
                        CONVSCOPE_UNROLL for (Index v = 0; v < kImages; v += kLanes)
                            store(at + v, load(at + v) + share * load(from + column * kImages + v));
                    }
                }
        }
}

void max_windows(const MaxWindows& a) {
    std::int32_t* winner = a.winner;
    for (Index map = 0; map < a.output.count; ++map)
        for (Index row = 0; row < a.output.height; ++row) {
            float* to = a.output.data + map * a.output.map_step + row * a.output.row_step;
            for (Index column = 0; column < a.output.width; ++column, winner += kImages)
                for (Index v = 0; v < kImages; v += kLanes) {
                    Vec best = broadcast(-__builtin_inff());
                    const auto first = static_cast<std::int32_t>(a.rows.source[a.rows.first[row]] * 65536 +
                                                                 a.columns.source[a.columns.first[column]]);
                    IntVec at = IntVec{} + first;
                    for (Index i = a.rows.first[row]; i < a.rows.first[row + 1]; ++i) {
                        const float* line = a.input.data + map * a.input.map_step + a.rows.source[i] * a.input.row_step;
                        for (Index j = a.columns.first[column]; j < a.columns.first[column + 1]; ++j) {
                            const Vec value = load(line + a.columns.source[j] * kImages + v);
                            const auto number =
                                static_cast<std::int32_t>(a.rows.source[i] * 65536 + a.columns.source[j]);
                            at = (value <= best) ? at : IntVec{} + number;  // NaN wins over what came before it
                            best = (value <= best) ? best : value;
                        }
                    }
                    store(to + column * kImages + v, best);
                    *reinterpret_cast<IntVec*>(winner + v) = at;
                }
        }
}

void max_windows_back(const MaxWindows& a) {
    const std::int32_t* winner = a.winner;
    for (Index map = 0; map < a.delta.count; ++map)
        for (Index row = 0; row < a.delta.height; ++row) {
            const float* from = a.delta.data + map * a.delta.map_step + row * a.delta.row_step;
            float* to = a.input_delta.data + map * a.input_delta.map_step;
            for (Index column = 0; column < a.delta.width; ++column, winner += kImages)
                for (Index image = 0; image < kImages; ++image) {
                    const std::int32_t at = winner[image];
                    to[(at >> 16) * a.input_delta.row_step + (at & 65535) * kImages + image] +=
                        from[column * kImages + image];
                }
        }
}

}  // namespace

void enter_windows(KernelTable& table) {
    table.resample = resample;
    table.resample_back = resample_back;
    table.max_windows = max_windows;
    table.max_windows_back = max_windows_back;
}

}  // namespace convscope::CONVSCOPE_ISA
