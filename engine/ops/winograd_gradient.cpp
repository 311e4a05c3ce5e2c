#include "ops/winograd_gradient.h"

#include <algorithm>

namespace convscope {
namespace {

// Rows taken at once: adding up the lanes at their end costs as much as a dozen tiles of a row, so all of them unless
// they would leave the third-level cache.
constexpr Index kBandBytes = 3 * 1024 * 1024;
constexpr double kCyclesIn = 5, kCyclesOut = 8;

}  // namespace

WinogradGradient::WinogradGradient(const KernelTable& kernels, Axis rows, Axis columns,
                                   const Connections& sources, Index source_maps, bool rotated)
    : rows_(rows),
      columns_(columns),
      source_maps_(source_maps),
      maps_(static_cast<Index>(sources.size())),
      rotated_(rotated) {
    if (columns.step != 1 || columns.tap != 1) return;
    form_ = WinogradForm::cheapest(kernels, columns.count, columns.taps);
    if (form_.points == 0) return;
    std::vector<WeightCorrelation::Tap> taps;
    for (Index i = 0; i < rows.taps; ++i) taps.push_back({(rotated ? rows.taps - 1 - i : i) * rows.tap, 0});
    plane_ = WeightCorrelation(kernels, sources, std::move(taps));
    const Index row_bytes = form_.points * form_.tiles * kBlock * 4;
    const Index reach = source_rows(1);
    const Index room = (kBandBytes - source_maps * (reach - rows.step) * row_bytes) /
                       ((source_maps * rows.step + maps_) * row_bytes);
    band_ = std::clamp<Index>(room, 1, rows.count);
    const Index bands = (rows.count + band_ - 1) / band_;
    band_ = (rows.count + bands - 1) / bands;
    const Maps source = source_plane(nullptr), delta = delta_plane(nullptr);
    source_plane_step_ = spread(source.count * source.map_step / kBlock);
    delta_plane_step_ = spread(delta.count * delta.map_step / kBlock);
    sum_plane_step_ = (plane_.gradient_count() + kBlock - 1) / kBlock * kBlock;
    plane_.arrange(source);
}

// Of the first point.
Maps WinogradGradient::source_plane(float* scratch) const {
    const Index rows = source_rows(band_);
    return {scratch, source_maps_, rows, form_.tiles, form_.tiles * kBlock, spread(rows * form_.tiles)};
}

Maps WinogradGradient::delta_plane(float* scratch) const {
    return {scratch ? scratch + form_.points * source_plane_step_ : nullptr, maps_, band_, form_.tiles,
            form_.tiles * kBlock, spread(band_ * form_.tiles)};
}

float* WinogradGradient::sums(float* scratch) const {
    return scratch + form_.points * (source_plane_step_ + delta_plane_step_);
}

Index WinogradGradient::scratch_floats() const {
    return exists() ? form_.points * (source_plane_step_ + delta_plane_step_ + sum_plane_step_) : 0;
}

double WinogradGradient::cycles() const {
    const auto bands = static_cast<double>((rows_.count + band_ - 1) / band_);
    const auto positions = static_cast<double>(rows_.count * form_.tiles);
    const auto turned = bands * static_cast<double>(source_maps_ * source_rows(band_)) +
                        static_cast<double>(maps_ * rows_.count);
    const double products = positions * plane_.cycles() + bands * plane_.closing_cycles();
    return form_.points * (products + turned * static_cast<double>(form_.tiles) * kCyclesIn) +
           kCyclesOut * static_cast<double>(plane_.gradient_count());
}

void WinogradGradient::run(const KernelTable& kernels, const Maps& input, const Maps& delta, Index first_row,
                           float* gradient, bool accumulate, float* scratch) const {
    const Maps source = source_plane(scratch);
    const Maps turned = delta_plane(scratch);
    WinogradRow in = form_.tiles_from(columns_.origin, source_plane_step_);
    WinogradRow out = form_.tiles_from(0, delta_plane_step_);
    out.columns = columns_.count;
    WeightCorrelation::Call call;
    call.kernels = &kernels;
    call.input_rows = rows_.step;
    for (Index first = 0; first < delta.height; first += band_) {
        const Index rows = std::min(band_, delta.height - first);
        const Index lowest = (first_row + first) * rows_.step + rows_.origin;
        for (Index map = 0; map < source_maps_; ++map)
            for (Index row = 0; row < source_rows(rows); ++row) {
                const bool there = lowest + row >= 0 && lowest + row < rows_.source;
                in.columns = there ? columns_.source : 0;
                in.from = input.data + map * input.map_step + (there ? lowest + row : 0) * input.row_step;
                in.planes = source.data + map * source.map_step + row * source.row_step;
                kernels.winograd_input[form_.points](in);
            }
        for (Index map = 0; map < maps_; ++map)
            for (Index row = 0; row < rows; ++row) {
                out.from = delta.data + map * delta.map_step + (first + row) * delta.row_step;
                out.planes = turned.data + map * turned.map_step + row * turned.row_step;
                kernels.winograd_delta[form_.points][form_.outputs](out);
            }
        call.input = source;
        call.delta = turned;
        call.delta.height = rows;
        call.gradient = sums(scratch);
        call.accumulate = first > 0;
        for (int point = 0; point < form_.points; ++point) {
            plane_.run(call);
            call.input.data += source_plane_step_;
            call.delta.data += delta_plane_step_;
            call.gradient += sum_plane_step_;
        }
    }
    WinogradTaps taps;
    taps.planes = sums(scratch);
    taps.plane_step = sum_plane_step_;
    taps.rows = plane_.gradient_count();
    taps.gradient = gradient;
    taps.rotated = rotated_;
    taps.accumulate = accumulate;
    kernels.winograd_taps[form_.points][form_.taps](taps);
}

std::string WinogradGradient::describe() const {
    return "F(" + std::to_string(form_.taps) + "," + std::to_string(form_.outputs) + ") " + plane_.describe() +
           " rows " + std::to_string(band_);
}

}  // namespace convscope
