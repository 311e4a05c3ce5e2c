// A correlation by Winograd's short algorithm along the columns: m sums of r taps from m + r − 1 products, the tap rows
// and maps being added up by the plain correlation, plane by plane. Kernels and positions of images change form; the
// result differs from the direct sum by rounding only (kernels/winograd_points.h).
#pragma once

#include <string>
#include <vector>

#include "ops/correlation.h"
#include "ops/op.h"

namespace convscope {

// The environment variable CONVSCOPE_WINOGRAD: auto (where it is quicker by the model), never, always (where it can).
enum class WinogradUse { where_quicker, never, always };
WinogradUse winograd_use();

// F(outputs, taps) with points = outputs + taps − 1.
struct WinogradForm {
    int points = 0, outputs = 0, taps = 0;
    Index tiles = 0;

    // The one with the fewest products for so many columns; points 0 where there is none.
    static WinogradForm cheapest(const KernelTable& kernels, Index columns, Index taps);
    // G: what turns the taps into their values at each point over Π (point − other point), [point][tap].
    std::vector<float> filter() const;
    // A row's tiles, each of which begins `outputs` columns after the one before.
    WinogradRow tiles_from(Index first, Index plane_step) const;
};

class WinogradCorrelation {
public:
    WinogradCorrelation() = default;
    // As Correlation's. Where `columns` do not suit, exists() is false.
    WinogradCorrelation(const KernelTable& kernels, Axis rows, Axis columns,
                        const Connections& sources, const Correlation::WeightOf& weight_of,
                        Index source_maps);

    bool exists() const { return form_.points > 0; }
    // Cycles of a block of 16 images, by the model.
    double cycles() const;

    Index packed_floats() const { return form_.points * plane_.packed_floats(); }
    void pack(const float* weights, float* packed, int part, int parts) const;
    Index scratch_floats() const;

    // Rows that are computed at once become a multiple of `multiple`.
    void group_rows(Index multiple);
    Index band() const { return band_; }
    // Products of rows first … first+count−1 (at most band()) of all maps, into scratch.
    void multiply(const CorrelationCall& call, float* scratch, Index first, Index count) const;
    // One row of the last multiply(), `row` of its band, with bias and floor.
    void finish(const CorrelationCall& call, float* scratch, Index map, Index row, float* to) const;
    void run(const CorrelationCall& call, float* scratch, const Team& team) const;
    std::string describe() const;

private:
    Maps source_plane(float* scratch) const;
    Maps sum_plane(float* scratch) const;

    WinogradForm form_;
    Axis rows_, columns_;
    Index source_maps_ = 0, maps_ = 0;
    Index chunk_maps_ = 0;
    Index band_ = 0, source_rows_ = 0;  // kept in scratch
    Index source_plane_step_ = 0, sum_plane_step_ = 0;
    Index tap_step_ = 1;  // between weights of neighbouring tap columns
    std::vector<float> filter_;
    Correlation plane_;
};

// A correlation by whichever algorithm takes fewer cycles.
class CorrelationPass {
public:
    CorrelationPass() = default;
    CorrelationPass(const KernelTable& kernels, Axis rows, Axis columns,
                    const Connections& sources, const Correlation::WeightOf& weight_of,
                    Index source_maps);

    const Correlation& direct() const { return direct_; }
    const WinogradCorrelation& winograd() const { return winograd_; }
    bool by_winograd() const { return winograd_.exists(); }
    void group_rows(Index multiple) {
        if (by_winograd()) winograd_.group_rows(multiple);
    }
    void arrange(const Maps& source) { direct_.arrange(source); }
    Index packed_floats() const { return by_winograd() ? winograd_.packed_floats() : direct_.packed_floats(); }
    void pack(const float* weights, float* packed, int part, int parts) const {
        if (by_winograd()) winograd_.pack(weights, packed, part, parts);
        else direct_.pack(weights, packed, part, parts);
    }
    Index scratch_floats() const { return winograd_.scratch_floats(); }
    double cycles() const { return by_winograd() ? winograd_.cycles() : direct_.cycles(); }
    void run(const CorrelationCall& call, float* scratch, const Team& team = {}) const;
    std::string describe() const { return by_winograd() ? winograd_.describe() : direct_.describe(); }

private:
    Correlation direct_;
    WinogradCorrelation winograd_;
};

}  // namespace convscope
