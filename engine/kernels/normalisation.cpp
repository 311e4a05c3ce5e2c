// Local response normalisation (Krizhevsky et al. 2012), with torch's convention that alpha is divided by the size:
// y_c = x_c d_c^−β with d_c = k + α/size Σ x_j² over the `size` maps j from c − size/2 on.
#include "kernels/enter.h"
#include "simd/math.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

// d_c at one position.
Vec denominator(const ResponseNorm& a, const float* position, Index map) {
    const Index below = map - a.size / 2;
    const Index first = below > 0 ? below : 0;
    const Index last = below + a.size < a.input.count ? below + a.size : a.input.count;
    Vec squares = zero();
    for (Index j = first; j < last; ++j) {
        const Vec x = load(position + j * a.input.map_step);
        squares += x * x;
    }
    return a.k + a.alpha / static_cast<float>(a.size) * squares;
}

void response_norm_forward(const ResponseNorm& a) {
    for (Index row = 0; row < a.input.height; ++row)
        for (Index i = 0; i < a.input.width * kImages; i += kLanes) {
            const float* from = a.input.data + row * a.input.row_step + i;
            float* to = a.output.data + row * a.output.row_step + i;
            for (Index map = 0; map < a.input.count; ++map)
                store(to + map * a.output.map_step,
                      load(from + map * a.input.map_step) * power(denominator(a, from, map), broadcast(-a.beta)));
        }
}

// δx_c = δ_c d_c^−β − 2αβ/size x_c Σ_j δ_j y_j / d_j over the maps j whose window holds c.
void response_norm_backward(const ResponseNorm& a) {
    const float factor = 2.0f * a.alpha * a.beta / static_cast<float>(a.size);
    for (Index row = 0; row < a.input.height; ++row)
        for (Index i = 0; i < a.input.width * kImages; i += kLanes) {
            const float* from = a.input.data + row * a.input.row_step + i;
            const float* y = a.output.data + row * a.output.row_step + i;
            const float* delta = a.delta.data + row * a.delta.row_step + i;
            float* to = a.input_delta.data + row * a.input_delta.row_step + i;
            for (Index map = 0; map < a.input.count; ++map) {
                const Index above = map + a.size / 2;
                const Index lowest = above - a.size + 1;
                const Index first = lowest > 0 ? lowest : 0;
                const Index last = above + 1 < a.input.count ? above + 1 : a.input.count;
                Vec crossed = zero(), own = zero();
                for (Index j = first; j < last; ++j) {
                    const Vec d = denominator(a, from, j);
                    const Vec delta_j = load(delta + j * a.delta.map_step);
                    crossed += delta_j * load(y + j * a.output.map_step) / d;
                    if (j == map) own = delta_j * power(d, broadcast(-a.beta));
                }
                const Vec value = own - factor * load(from + map * a.input.map_step) * crossed;
                float* place = to + map * a.input_delta.map_step;
                store(place, a.accumulate ? load(place) + value : value);
            }
        }
}

}  // namespace

void enter_normalisation(KernelTable& table) {
    table.response_norm_forward = response_norm_forward;
    table.response_norm_backward = response_norm_backward;
}

}  // namespace convscope::CONVSCOPE_ISA
