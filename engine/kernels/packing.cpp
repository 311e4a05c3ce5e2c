// Pictures (image, map, row, column) ↔ blocks (map, row, column, image).
#include "kernels/enter.h"
#include "simd/transpose.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

template <class Pixel>
struct Source {
    const Pixel* first;     // of the first image's row
    Index image_step;
    Index images_present;
    float scale, offset;

    Vec pixels(Index image, Index column) const {
        if (image >= images_present) return zero();
        const Pixel* from = first + image * image_step + column;
        if constexpr (sizeof(Pixel) == 1) return to_float(load_bytes(from)) * scale + offset;
        else return load_unaligned(from);
    }
    float pixel(Index image, Index column) const {
        if (image >= images_present) return 0;
        const auto value = static_cast<float>(first[image * image_step + column]);
        return sizeof(Pixel) == 1 ? value * scale + offset : value;
    }
};

template <class Pixel>
void pack_row(const Source<Pixel>& source, Index columns, float* to) {
    Index column = 0;
    for (; column + kLanes <= columns; column += kLanes)
        for (Index v = 0; v < kVectors; ++v) {
            Vec square[CONVSCOPE_LANES];
            CONVSCOPE_UNROLL for (int n = 0; n < CONVSCOPE_LANES; ++n)
                square[n] = source.pixels(v * kLanes + n, column);
            transpose(square);
            CONVSCOPE_UNROLL for (int i = 0; i < CONVSCOPE_LANES; ++i)
                store(to + (column + i) * kImages + v * kLanes, square[i]);
        }
    for (; column < columns; ++column)
        for (Index n = 0; n < kImages; ++n) to[column * kImages + n] = source.pixel(n, column);
}

template <class Pixel>
void pack(const Pixel* images, const float* scale, const float* offset, Index images_present, const Maps& maps) {
    const Index area = maps.height * maps.width;
    const bool dense = maps.row_step == maps.width * kImages;  // a map is then one long row
    for (Index map = 0; map < maps.count; ++map) {
        Source<Pixel> source{images + map * area, maps.count * area, images_present, scale ? scale[map] : 1.0f,
                             offset ? offset[map] : 0.0f};
        float* to = maps.data + map * maps.map_step;
        if (dense) {
            pack_row(source, area, to);
        } else {
            for (Index row = 0; row < maps.height; ++row) {
                pack_row(source, maps.width, to + row * maps.row_step);
                source.first += maps.width;
            }
        }
    }
}

void pack_images(const ImagePack& a) {
    if (a.bytes) pack(static_cast<const std::uint8_t*>(a.images), a.scale, a.offset, a.images_present, a.maps);
    else pack(static_cast<const float*>(a.images), nullptr, nullptr, a.images_present, a.maps);
}

void pack_deltas(const float* images, Index images_present, const Maps& maps) {
    pack(images, nullptr, nullptr, images_present, maps);
}

// `columns` positions of a row, or of a whole dense map, to one row of each image.
void unpack_row(const float* from, Index columns, Index images_present, Index image_step, float* to) {
    Index column = 0;
    for (; column + kLanes <= columns; column += kLanes)
        for (Index v = 0; v < kVectors; ++v) {
            Vec square[CONVSCOPE_LANES];
            CONVSCOPE_UNROLL for (int i = 0; i < CONVSCOPE_LANES; ++i)
                square[i] = load(from + (column + i) * kImages + v * kLanes);
            transpose(square);
            CONVSCOPE_UNROLL for (int n = 0; n < CONVSCOPE_LANES; ++n)
                if (v * kLanes + n < images_present) store_unaligned(to + (v * kLanes + n) * image_step + column, square[n]);
        }
    for (; column < columns; ++column)
        for (Index n = 0; n < images_present; ++n) to[n * image_step + column] = from[column * kImages + n];
}

void unpack_images(const Maps& maps, Index images_present, float* images) {
    const Index area = maps.height * maps.width;
    const bool dense = maps.row_step == maps.width * kImages;
    for (Index map = 0; map < maps.count; ++map) {
        const float* from = maps.data + map * maps.map_step;
        float* to = images + map * area;
        if (dense) {
            unpack_row(from, area, images_present, maps.count * area, to);
        } else {
            for (Index row = 0; row < maps.height; ++row)
                unpack_row(from + row * maps.row_step, maps.width, images_present, maps.count * area, to + row * maps.width);
        }
    }
}

}  // namespace

void enter_packing(KernelTable& table) {
    table.pack_images = pack_images;
    table.pack_deltas = pack_deltas;
    table.unpack_images = unpack_images;
}

}  // namespace convscope::CONVSCOPE_ISA
