#include "ops/winograd.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string_view>

#include "kernels/winograd_points.h"

namespace convscope {
namespace {

// A block's values in Winograd's form should stay in a second-level cache of 1 MiB, beside the weights of a plane.
constexpr Index kScratchBytes = 640 * 1024;
// Cycles for one position of one plane, by measurement: into the form and out of it.
constexpr double kCyclesIn = 5, kCyclesOut = 5;

template <int N, int Size>
std::vector<float> flat_filter() {
    constexpr auto rows = winograd::filter_matrix<N, Size>();
    std::vector<float> flat;
    for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
    return flat;
}

}  // namespace

WinogradUse winograd_use() {
    const char* const value = std::getenv("CONVSCOPE_WINOGRAD");
    if (!value || std::string_view(value) == "auto" || !*value) return WinogradUse::where_quicker;
    if (std::string_view(value) == "never") return WinogradUse::never;
    if (std::string_view(value) == "always") return WinogradUse::always;
    throw std::invalid_argument("CONVSCOPE_WINOGRAD is \"" + std::string(value) + "\", not auto, never or always");
}

WinogradForm WinogradForm::cheapest(const KernelTable& kernels, Index columns, Index taps) {
    WinogradForm best;
    double least = std::numeric_limits<double>::infinity();
    constexpr int kPoints[] = {6, 8}, kLeastOutputs = 2;
    // So that taps, points + 1 − outputs, stay below kMostPoints, the room that Correlation::pack_points has for them.
    static_assert(std::ranges::max(kPoints) <= kMostPoints && kLeastOutputs >= 2);
    for (const int points : kPoints) {
        const auto outputs = points + 1 - static_cast<int>(taps);
        if (taps < 3 || outputs < kLeastOutputs || !kernels.winograd_output[points][outputs]) continue;
        const Index tiles = (columns + outputs - 1) / outputs;
        // Fewer points change form more cheaply and round less.
        const double cost = static_cast<double>(points * tiles) * (points == 6 ? 1.0 : 1.05);
        if (cost < least) {
            least = cost;
            best = {points, outputs, static_cast<int>(taps), tiles};
        }
    }
    return best;
}

std::vector<float> WinogradForm::filter() const {
    if (points == 6) {
        switch (taps) {
            case 3: return flat_filter<6, 3>();
            case 4: return flat_filter<6, 4>();
            default: return flat_filter<6, 5>();
        }
    }
    switch (taps) {
        case 3: return flat_filter<8, 3>();
        case 4: return flat_filter<8, 4>();
        case 5: return flat_filter<8, 5>();
        case 6: return flat_filter<8, 6>();
        default: return flat_filter<8, 7>();
    }
}

WinogradRow WinogradForm::tiles_from(Index first, Index plane_step) const {
    WinogradRow row;
    row.first = first;
    row.step = outputs;
    row.tiles = tiles;
    row.plane_step = plane_step;
    return row;
}

WinogradCorrelation::WinogradCorrelation(const KernelTable& kernels, Axis rows, Axis columns,
                                         const Connections& sources,
                                         const Correlation::WeightOf& weight_of, Index source_maps)
    : rows_(rows), columns_(columns), source_maps_(source_maps), maps_(static_cast<Index>(sources.size())) {
    if (columns.step != 1 || columns.tap != 1 || columns.stride != 1 || rows.stride != 1 || rows.taps == 0) return;
    form_ = WinogradForm::cheapest(kernels, columns.count, columns.taps);
    if (form_.points == 0) return;
    filter_ = form_.filter();
    // From one tap column to the next the weights are one apart, forwards or backwards.
    for (Index to = 0; to < maps_ && !sources[static_cast<std::size_t>(to)].empty(); ++to) {
        const Index from = sources[static_cast<std::size_t>(to)].front();
        tap_step_ = weight_of(to, from, 0, 1) - weight_of(to, from, 0, 0);
        break;
    }
    const bool dense = sources.dense(source_maps);
    const Index reach = (rows.taps - 1) * rows.tap + 1;
    const Index row_floats = form_.points * form_.tiles * kBlock;
    chunk_maps_ = source_maps;
    if (dense) {
        const Index room = kScratchBytes / 2 / (row_floats * 4 * (reach + 3 * rows.step));
        chunk_maps_ = std::clamp<Index>(room, std::min<Index>(8, source_maps), source_maps);
        const Index parts = (source_maps + chunk_maps_ - 1) / chunk_maps_;
        chunk_maps_ = (source_maps + parts - 1) / parts;
    }
    const Axis tiles{form_.tiles, 1, 1, 1, 0, form_.tiles, 0, 1};
    plane_ = Correlation(
        kernels, rows, tiles, sources,
        [&](Index to, Index from, Index i, Index) { return weight_of(to, from, i, 0); }, source_maps,
        dense ? chunk_maps_ : std::numeric_limits<Index>::max());
    group_rows(1);
}

void WinogradCorrelation::group_rows(Index multiple) {
    const Index reach = (rows_.taps - 1) * rows_.tap + 1;
    const Index row_bytes = form_.points * form_.tiles * kBlock * 4;
    const Index source_row = chunk_maps_ * row_bytes, sum_row = maps_ * row_bytes;
    const Index room = (kScratchBytes - source_row * (reach - rows_.step)) / (source_row * rows_.step + sum_row);
    band_ = std::clamp<Index>(room / multiple * multiple, multiple, (rows_.count + multiple - 1) / multiple * multiple);
    source_rows_ = std::min(rows_.source, (band_ - 1) * rows_.step + reach);
    const Maps source = source_plane(nullptr), sums = sum_plane(nullptr);
    source_plane_step_ = spread(source.count * source.map_step / kBlock);
    sum_plane_step_ = spread(sums.count * sums.map_step / kBlock);
    plane_.arrange(source);
}

// Of the first point.
Maps WinogradCorrelation::source_plane(float* scratch) const {
    const Index row = form_.tiles * kBlock;
    return {scratch, chunk_maps_, source_rows_, form_.tiles, row, spread(source_rows_ * form_.tiles)};
}

Maps WinogradCorrelation::sum_plane(float* scratch) const {
    const Index row = form_.tiles * kBlock;
    return {scratch ? scratch + form_.points * source_plane_step_ : nullptr, maps_, band_, form_.tiles, row,
            spread(band_ * form_.tiles)};
}

Index WinogradCorrelation::scratch_floats() const {
    return exists() ? form_.points * (source_plane_step_ + sum_plane_step_) : 0;
}

double WinogradCorrelation::cycles() const {
    const auto per_position = static_cast<double>(form_.points * form_.tiles);
    const auto bands = static_cast<double>((rows_.count + band_ - 1) / band_);
    const double in = bands * static_cast<double>(source_rows_ * source_maps_) * per_position * kCyclesIn;
    const double out = static_cast<double>(rows_.count * maps_) * per_position * kCyclesOut;
    return in + out + form_.points * plane_.cycles();
}

void WinogradCorrelation::pack(const float* weights, float* packed, int part, int parts) const {
    plane_.pack_points(weights, packed, part, parts, {filter_.data(), form_.points, form_.taps, tap_step_});
}

void WinogradCorrelation::multiply(const CorrelationCall& call, float* scratch, Index first, Index count) const {
    const Index lowest = std::max<Index>(0, first * rows_.step + rows_.origin);
    const Index end =
        std::min(rows_.source, (first + count - 1) * rows_.step + (rows_.taps - 1) * rows_.tap + rows_.origin + 1);
    const Maps source = source_plane(scratch), sums = sum_plane(scratch);
    WinogradRow in = form_.tiles_from(columns_.origin, source_plane_step_);
    in.columns = columns_.source;
    CorrelationCall plane;
    plane.kernels = call.kernels;
    plane.floor = -std::numeric_limits<float>::infinity();
    for (Index chunk = 0; chunk < plane_.chunk_count(); ++chunk) {
        const Index first_map = chunk * chunk_maps_;
        const Index maps = std::min(chunk_maps_, source_maps_ - first_map);
        for (Index map = 0; map < maps; ++map)
            for (Index row = lowest; row < end; ++row) {
                in.from = call.source.data + (first_map + map) * call.source.map_step + row * call.source.row_step;
                in.planes = source.data + map * source.map_step + (row - lowest) * source.row_step;
                call.kernels->winograd_input[form_.points](in);
            }
        plane.source = source;
        plane.source.data -= first_map * source.map_step + lowest * source.row_step;
        plane.destination = sums;
        plane.destination.data -= first * sums.row_step;
        plane.packed = call.packed;
        for (int point = 0; point < form_.points; ++point) {
            for (Index block = 0; block < plane_.block_count(); ++block)
                plane_.run_rows(plane, block, chunk, first, count);
            plane.source.data += source_plane_step_;
            plane.destination.data += sum_plane_step_;
            plane.packed += plane_.packed_floats();
        }
    }
}

void WinogradCorrelation::finish(const CorrelationCall& call, float* scratch, Index map, Index row, float* to) const {
    const Maps sums = sum_plane(scratch);
    WinogradSums out;
    out.planes = sums.data + map * sums.map_step + row * sums.row_step;
    out.plane_step = sum_plane_step_;
    out.tiles = form_.tiles;
    out.to = to;
    out.columns = columns_.count;
    out.bias = call.bias ? call.bias[map] : 0.0f;
    out.floor = call.floor;
    out.accumulate = call.accumulate;
    call.kernels->winograd_output[form_.points][form_.outputs](out);
}

void WinogradCorrelation::run(const CorrelationCall& call, float* scratch, const Team& team) const {
    const Team::Own own = team.of(rows_.count);
    for (Index first = own.begin; first < own.end; first += band_) {
        const Index count = std::min(band_, own.end - first);
        multiply(call, scratch, first, count);
        for (Index map = 0; map < maps_; ++map)
            for (Index row = 0; row < count; ++row)
                finish(call, scratch, map, row,
                       call.destination.data + map * call.destination.map_step +
                           (first + row) * call.destination.row_step);
    }
}

std::string WinogradCorrelation::describe() const {
    return "F(" + std::to_string(form_.outputs) + "," + std::to_string(form_.taps) + ") " + plane_.describe() +
           " rows " + std::to_string(band_);
}

CorrelationPass::CorrelationPass(const KernelTable& kernels, Axis rows, Axis columns,
                                 const Connections& sources,
                                 const Correlation::WeightOf& weight_of, Index source_maps)
    : direct_(kernels, rows, columns, sources, weight_of, source_maps) {
    const WinogradUse use = winograd_use();
    if (use == WinogradUse::never) return;
    WinogradCorrelation winograd(kernels, rows, columns, sources, weight_of, source_maps);
    // Tables and groups need all their maps in Winograd's form at once; it has to stay in the caches.
    constexpr Index kMostFloats = 2 * 1024 * 1024;
    if (!winograd.exists()) return;
    if (use == WinogradUse::always ||
        (winograd.scratch_floats() < kMostFloats && winograd.cycles() < 0.9 * direct_.cycles()))
        winograd_ = std::move(winograd);
}

void CorrelationPass::run(const CorrelationCall& call, float* scratch, const Team& team) const {
    if (winograd_.exists()) winograd_.run(call, scratch, team);
    else direct_.run(call, team);
}

}  // namespace convscope
