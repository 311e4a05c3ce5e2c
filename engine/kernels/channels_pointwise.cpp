// Rows of single positions: batch normalisation that evaluates, sums of layers, response normalisation across channels.
#include "kernels/enter.h"
#include "simd/math.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

void channel_affine(const ChannelAffine& a) {
    const Vec scale = load_unaligned(a.scale), offset = load_unaligned(a.offset);
    const Vec floor = broadcast(a.floor), ceiling = broadcast(a.ceiling);
    for (Index i = 0; i < a.count * kLanes; i += kLanes)
        store(a.to + i, at_most(ceiling, at_least(floor, scale * load(a.from + i) + offset)));
}

void channel_add(const float* a, const float* b, float* to, float floor, float ceiling, Index count) {
    for (Index i = 0; i < count * kLanes; i += kLanes)
        store(to + i, at_most(broadcast(ceiling), at_least(broadcast(floor), load(a + i) + load(b + i))));
}

// y = x (k + α/size · Σ x² over the channels around)^−β. `squares` has room for the channels and as many around them as a
// window reaches over; those outside of the picture stay 0.
void channel_response_norm(const ChannelNorm& a) {
    const Index before = a.size / 2;
    for (Index i = 0; i < a.scratch_floats; ++i) a.squares[i] = 0.0f;
    for (Index position = 0; position < a.count; ++position) {
        for (Index channel = 0; channel < a.channels; ++channel) {
            const float x = a.from[channel / kLanes * a.block_step + position * kLanes + channel % kLanes];
            a.squares[before + channel] = x * x;
        }
        for (Index channel = 0; channel < a.channels; channel += kLanes) {
            Vec sum = zero();
            for (Index i = 0; i < a.size; ++i) sum += load_unaligned(a.squares + channel + i);
            const Vec base = a.k + a.alpha / static_cast<float>(a.size) * sum;
            const Index at = channel / kLanes * a.block_step + position * kLanes;
            const Index to = channel / kLanes * a.to_block_step + position * kLanes;
            const Vec y = load(a.from + at) * power(base, broadcast(-a.beta));
            // What fills the last block up stays 0, also where base is 0.
            const auto present = static_cast<std::int32_t>(a.channels - channel);
            store(a.to + to, select(lane_numbers() < present, y, zero()));
        }
    }
}

}  // namespace

void enter_channels_pointwise(KernelTable& table) {
    table.channel_affine = channel_affine;
    table.channel_add = channel_add;
    table.channel_response_norm = channel_response_norm;
}

}  // namespace convscope::CONVSCOPE_ISA
