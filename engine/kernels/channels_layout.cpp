// Pictures and weights on their way into the channels-blocked layout and out of it: squares of lanes × lanes floats are
// transposed in registers.
#include "kernels/enter.h"
#include "simd/transpose.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

// Where column j of a row of weights belongs, j counted up one by one.
class Places {
public:
    explicit Places(const WeightPanel& a) : area_(a.area), inner_(a.inner), flip_(a.flip) {}

    Index next() {
        const Index tap = flip_ ? area_ - 1 - tap_ : tap_;
        const Index place = base_ + tap * inner_ + within_;
        if (++tap_ == area_) {
            tap_ = 0;
            if (++within_ == inner_) {
                within_ = 0;
                base_ += area_ * inner_;
            }
        }
        return place;
    }

private:
    Index area_, inner_;
    bool flip_;
    Index tap_ = 0, within_ = 0, base_ = 0;
};

constexpr Index kAhead = 64;  // floats

void weight_panel(const WeightPanel& a) {
    Places places(a);
    const Vec scale = a.scale ? load_unaligned(a.scale) : broadcast(1.0f);
    Index column = 0;
    for (; column + kLanes <= a.columns; column += kLanes) {
        Vec square[CONVSCOPE_LANES];
        if (a.rows == kLanes) {
            // Each row is a stream of its own, more of them than the processor follows by itself.
            CONVSCOPE_UNROLL for (int row = 0; row < CONVSCOPE_LANES; ++row)
                __builtin_prefetch(a.weights + row * a.row_step + column + kAhead);
            CONVSCOPE_UNROLL for (int row = 0; row < CONVSCOPE_LANES; ++row)
                square[row] = load_unaligned(a.weights + row * a.row_step + column);
        } else {
            CONVSCOPE_UNROLL for (int row = 0; row < CONVSCOPE_LANES; ++row)
                square[row] = row < a.rows ? load_unaligned(a.weights + row * a.row_step + column) : zero();
        }
        transpose(square);
        CONVSCOPE_UNROLL for (int i = 0; i < CONVSCOPE_LANES; ++i)
            store(a.to + places.next() * a.to_step, square[i] * scale);
    }
    for (; column < a.columns; ++column) {
        alignas(64) float lanes[kLanes] = {};
        for (Index row = 0; row < a.rows; ++row) lanes[row] = a.weights[row * a.row_step + column];
        store(a.to + places.next() * a.to_step, load(lanes) * scale);
    }
}

template <class Pixel>
struct Planes {
    const Pixel* first;
    Index plane_step;
    const float* scale;
    const float* offset;

    Vec pixels(Index plane, Index column) const {
        const Pixel* from = first + plane * plane_step + column;
        if constexpr (sizeof(Pixel) == 1) return to_float(load_bytes(from)) * scale[plane] + offset[plane];
        else return load_unaligned(from);
    }
    float pixel(Index plane, Index column) const {
        const auto value = static_cast<float>(first[plane * plane_step + column]);
        return sizeof(Pixel) == 1 ? value * scale[plane] + offset[plane] : value;
    }
};

template <class Pixel>
void pack(const ChannelPack& a) {
    const Planes<Pixel> from{static_cast<const Pixel*>(a.planes), a.plane_step, a.scale, a.offset};
    Index column = 0;
    for (; column + kLanes <= a.columns; column += kLanes) {
        Vec square[CONVSCOPE_LANES];
        CONVSCOPE_UNROLL for (int plane = 0; plane < CONVSCOPE_LANES; ++plane)
            square[plane] = plane < a.channels ? from.pixels(plane, column) : zero();
        transpose(square);
        CONVSCOPE_UNROLL for (int i = 0; i < CONVSCOPE_LANES; ++i) store(a.to + (column + i) * kLanes, square[i]);
    }
    for (; column < a.columns; ++column)
        for (Index plane = 0; plane < kLanes; ++plane)
            a.to[column * kLanes + plane] = plane < a.channels ? from.pixel(plane, column) : 0.0f;
}

void channel_pack(const ChannelPack& a) {
    if (a.bytes) pack<std::uint8_t>(a);
    else pack<float>(a);
}

template <class Pixel>
void copy(const ChannelPack& a) {
    const Planes<Pixel> from{static_cast<const Pixel*>(a.planes), a.plane_step, a.scale, a.offset};
    Index column = 0;
    for (; column + kLanes <= a.columns; column += kLanes) store_unaligned(a.to + column, from.pixels(0, column));
    for (; column < a.columns; ++column) a.to[column] = from.pixel(0, column);
}

void channel_plane(const ChannelPack& a) {
    if (a.bytes) copy<std::uint8_t>(a);
    else copy<float>(a);
}

void channel_unpack(const float* from, Index channels, Index columns, float* to, Index plane_step) {
    Index column = 0;
    for (; column + kLanes <= columns; column += kLanes) {
        Vec square[CONVSCOPE_LANES];
        CONVSCOPE_UNROLL for (int i = 0; i < CONVSCOPE_LANES; ++i) square[i] = load(from + (column + i) * kLanes);
        transpose(square);
        CONVSCOPE_UNROLL for (int plane = 0; plane < CONVSCOPE_LANES; ++plane)
            if (plane < channels) store_unaligned(to + plane * plane_step + column, square[plane]);
    }
    for (; column < columns; ++column)
        for (Index plane = 0; plane < channels; ++plane) to[plane * plane_step + column] = from[column * kLanes + plane];
}

}  // namespace

void enter_channels_layout(KernelTable& table) {
    table.weight_panel = weight_panel;
    table.channel_pack = channel_pack;
    table.channel_plane = channel_plane;
    table.channel_unpack = channel_unpack;
}

}  // namespace convscope::CONVSCOPE_ISA
