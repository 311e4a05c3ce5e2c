#include "ops/regions.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "ops/buffer.h"
#include "threads/pool.h"

namespace convscope {
namespace {

constexpr Index kWide = 16;

Index padded(Index count) { return (count + kWide - 1) / kWide * kWide; }

// Part `thread` of `count` things.
std::pair<Index, Index> part(Index count, int thread, int threads) {
    return {count * thread / threads, count * (thread + 1) / threads};
}

// (c, places) → (places, c padded with zeros), or back.
void channels_last(const float* from, Index channels, Index places, float* to) {
    const Index step = padded(channels);
    for (Index begin = 0; begin < places; begin += kWide) {
        const Index end = std::min(places, begin + kWide);
        for (Index c = 0; c < channels; ++c)
            for (Index p = begin; p < end; ++p) to[p * step + c] = from[c * places + p];
        for (Index p = begin; p < end; ++p) std::fill(to + p * step + channels, to + (p + 1) * step, 0.0f);
    }
}

void channels_first(const float* from, Index step, Index channels, Index places, float* to) {
    for (Index c = 0; c < channels; ++c)
        for (Index p = 0; p < places; ++p) to[c * places + p] = from[p * step + c];
}

// All maps, channels last.
Buffer turned(const Regions& r, const float* x) {
    Buffer maps;
    const Index places = r.height * r.width, step = padded(r.channels);
    maps.reserve(std::max<Index>(1, r.picture_count * places * step));
    run_on_threads(r.threads, [&](int thread, int threads) {
        const auto [begin, end] = part(r.picture_count, thread, threads);
        for (Index n = begin; n < end; ++n)
            channels_last(x + n * r.channels * places, r.channels, places, maps.data() + n * places * step);
    });
    return maps;
}

// From the first weight that is not 0 to behind the last.
std::pair<Index, Index> span(const float* weights, Index count) {
    Index begin = 0, end = count;
    while (begin < end && weights[begin] == 0) ++begin;
    while (end > begin && weights[end - 1] == 0) --end;
    return {begin, end};
}

// The places that bin (o, q) of a region is a weighted sum of, and their weights.
struct Mixture {
    Index row = 0, column = 0;  // the first
    Places places;
    std::vector<float> weights;

    void set(const Regions& r, const float* down, std::pair<Index, Index> rows, const float* across,
             std::pair<Index, Index> columns) {
        row = rows.first, column = columns.first;
        places.rows = rows.second - rows.first, places.columns = columns.second - columns.first;
        places.step = padded(r.channels), places.row_step = r.width * places.step;
        weights.clear();
        for (Index i = rows.first; i < rows.second; ++i)
            for (Index j = columns.first; j < columns.second; ++j) weights.push_back(down[i] * across[j]);
    }
};

std::vector<std::pair<Index, Index>> spans(const float* weights, Index bins, Index size) {
    std::vector<std::pair<Index, Index>> found;
    for (Index o = 0; o < bins; ++o) found.push_back(span(weights + o * size, size));
    return found;
}

}  // namespace

void pool_regions(const Regions& r, const Bins& bins, const float* x, float* y, std::int32_t* chosen) {
    const KernelTable& kernel = kernels();
    const Index step = padded(r.channels), places = r.height * r.width, per_region = r.rows * r.columns;
    const Buffer maps = turned(r, x);
    run_on_threads(r.threads, [&](int thread, int threads) {
        Buffer values, which;
        values.reserve(per_region * step);
        which.reserve(per_region * step);
        auto* const place = reinterpret_cast<std::int32_t*>(which.data());
        const auto [begin, end] = part(r.count, thread, threads);
        for (Index k = begin; k < end; ++k) {
            const float* const map = maps.data() + r.pictures[k] * places * step;
            for (Index o = 0; o < r.rows; ++o)
                for (Index q = 0; q < r.columns; ++q) {
                    const Index top = bins.top[k * r.rows + o], left = bins.left[k * r.columns + q];
                    const Index bin = (o * r.columns + q) * step;
                    RegionMax a;
                    a.places = {bins.bottom[k * r.rows + o] - top, bins.right[k * r.columns + q] - left,
                                r.width * step, step, step};
                    a.first = top * r.width + left, a.width = r.width;
                    a.value = values.data() + bin, a.place = place + bin;
                    if (a.places.rows <= 0 || a.places.columns <= 0) {
                        std::fill(a.value, a.value + step, 0.0f);
                        std::fill(a.place, a.place + step, -1);
                        continue;
                    }
                    a.at = map + a.first * step;
                    kernel.region_max(a);
                }
            const Index at = k * r.channels * per_region;
            channels_first(values.data(), step, r.channels, per_region, y + at);
            for (Index c = 0; c < r.channels; ++c)
                for (Index bin = 0; bin < per_region; ++bin)
                    chosen[at + c * per_region + bin] = place[bin * step + c];
        }
    });
}

void pool_regions_back(const Regions& r, const float* delta, const std::int32_t* chosen, float* delta_x) {
    const Index places = r.height * r.width, per_region = r.rows * r.columns;
    run_on_threads(r.threads, [&](int thread, int threads) {
        const auto [begin, end] = part(r.channels, thread, threads);  // so that no two add to one place
        for (Index k = 0; k < r.count; ++k)
            for (Index c = begin; c < end; ++c) {
                float* const map = delta_x + (r.pictures[k] * r.channels + c) * places;
                const Index at = (k * r.channels + c) * per_region;
                for (Index bin = at; bin < at + per_region; ++bin)
                    if (chosen[bin] >= 0) map[chosen[bin]] += delta[bin];
            }
    });
}

void mix_regions(const Regions& r, const float* down, const float* across, const float* x, float* y) {
    const KernelTable& kernel = kernels();
    const Index step = padded(r.channels), places = r.height * r.width, per_region = r.rows * r.columns;
    const Buffer maps = turned(r, x);
    run_on_threads(r.threads, [&](int thread, int threads) {
        Buffer values;
        values.reserve(per_region * step);
        Mixture mixture;
        const auto [begin, end] = part(r.count, thread, threads);
        for (Index k = begin; k < end; ++k) {
            const float* const rows = down + k * r.rows * r.height;
            const float* const columns = across + k * r.columns * r.width;
            const auto row_spans = spans(rows, r.rows, r.height), column_spans = spans(columns, r.columns, r.width);
            for (Index o = 0; o < r.rows; ++o)
                for (Index q = 0; q < r.columns; ++q) {
                    mixture.set(r, rows + o * r.height, row_spans[static_cast<std::size_t>(o)], columns + q * r.width,
                                column_spans[static_cast<std::size_t>(q)]);
                    RegionSum a;
                    a.places = mixture.places;
                    a.places.channels = step;
                    a.at = maps.data() + (r.pictures[k] * places + mixture.row * r.width + mixture.column) * step;
                    a.weights = mixture.weights.data();
                    a.sum = values.data() + (o * r.columns + q) * step;
                    kernel.region_sum(a);
                }
            channels_first(values.data(), step, r.channels, per_region, y + k * r.channels * per_region);
        }
    });
}

void mix_regions_back(const Regions& r, const float* down, const float* across, const float* delta, float* delta_x) {
    const KernelTable& kernel = kernels();
    const Index step = padded(r.channels), places = r.height * r.width, per_region = r.rows * r.columns;
    Buffer maps;
    maps.reserve(std::max<Index>(1, r.picture_count * places * step));
    run_on_threads(r.threads, [&](int thread, int threads) {
        const auto [begin, end] = part(step / kWide, thread, threads);  // 16 channels each
        if (begin == end) return;
        const Index first = begin * kWide, channels = (end - begin) * kWide;
        for (Index p = 0; p < r.picture_count * places; ++p)
            std::fill_n(maps.data() + p * step + first, channels, 0.0f);
        Buffer own;
        own.reserve(channels);
        Mixture mixture;
        for (Index k = 0; k < r.count; ++k) {
            const float* const rows = down + k * r.rows * r.height;
            const float* const columns = across + k * r.columns * r.width;
            const auto row_spans = spans(rows, r.rows, r.height), column_spans = spans(columns, r.columns, r.width);
            for (Index o = 0; o < r.rows; ++o)
                for (Index q = 0; q < r.columns; ++q) {
                    mixture.set(r, rows + o * r.height, row_spans[static_cast<std::size_t>(o)], columns + q * r.width,
                                column_spans[static_cast<std::size_t>(q)]);
                    for (Index c = 0; c < channels; ++c)
                        own.data()[c] = first + c < r.channels
                                            ? delta[(k * r.channels + first + c) * per_region + o * r.columns + q]
                                            : 0.0f;
                    RegionSum a;
                    a.places = mixture.places;
                    a.places.channels = channels;
                    a.at = maps.data() + (r.pictures[k] * places + mixture.row * r.width + mixture.column) * step + first;
                    a.weights = mixture.weights.data();
                    a.sum = own.data();
                    kernel.region_share(a);
                }
        }
        for (Index n = 0; n < r.picture_count; ++n) {
            const Index count = std::min(r.channels - first, channels);
            channels_first(maps.data() + n * places * step + first, step, count, places,
                           delta_x + (n * r.channels + first) * places);
        }
    });
}

Index suppress_boxes(const float* corners, const float* areas, const std::int64_t* groups, Index count, float most,
                     std::int64_t* kept) {
    const KernelTable& kernel = kernels();
    const Index wide = padded(count);
    Buffer numbers;
    numbers.reserve(std::max<Index>(kWide, 7 * wide));
    float* const columns = numbers.data();
    std::fill_n(columns, 7 * wide, 0.0f);
    for (Index column = 0; column < 4; ++column) std::copy_n(corners + column * count, count, columns + column * wide);
    std::copy_n(areas, count, columns + 4 * wide);
    auto* const own = reinterpret_cast<std::int32_t*>(columns + 5 * wide);
    auto* const alive = own + wide;
    for (Index i = 0; i < count && groups; ++i) own[i] = static_cast<std::int32_t>(groups[i]);
    std::fill_n(alive, count, -1);
    const Rivals rivals{columns, columns + wide, columns + 2 * wide, columns + 3 * wide, columns + 4 * wide,
                        groups ? own : nullptr, alive, count};
    Index found = 0;
    for (Index i = 0; i < count; ++i)
        if (alive[i]) {
            kept[found++] = i;
            kernel.suppress(rivals, i, most);
        }
    return found;
}

}  // namespace convscope
