// Regions of interest and boxes for Python: checks arrays, hands pointers on, releases the GIL.
#include "bindings/regions.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <limits>
#include <stdexcept>
#include <string>

#include "ops/regions.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace convscope {
namespace {

template <class T, int Sides>
using Array = nb::ndarray<T, nb::ndim<Sides>, nb::c_contig, nb::device::cpu>;
using Maps4 = Array<float, 4>;
using Chosen = Array<std::int32_t, 4>;
using Numbers = Array<std::int64_t, 1>;
using Table = Array<std::int64_t, 2>;
using Matrices = Array<float, 3>;

void want(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

template <class T>
Index side(const T& array, std::size_t axis) {
    return static_cast<Index>(array.shape(axis));
}

Regions regions_of(const Maps4& x, const Numbers& pictures, const Maps4& y, int threads) {
    Regions r;
    r.picture_count = side(x, 0), r.channels = side(x, 1), r.height = side(x, 2), r.width = side(x, 3);
    r.count = side(y, 0), r.rows = side(y, 2), r.columns = side(y, 3);
    r.pictures = pictures.data();
    r.threads = threads;
    want(threads >= 1 && threads <= 1024, "threads: wanted 1 to 1024");
    want(side(pictures, 0) == r.count && side(y, 1) == r.channels, "y: wanted (regions, the maps' channels, bins)");
    want(r.height * r.width <= std::numeric_limits<std::int32_t>::max(), "x: a map of too many places");
    for (Index k = 0; k < r.count; ++k)
        want(r.pictures[k] >= 0 && r.pictures[k] < r.picture_count, "pictures: wanted those that x has");
    return r;
}

void check_bins(const Table& first, const Table& end, Index count, Index bins, Index size) {
    for (const Table* each : {&first, &end})
        want(side(*each, 0) == count && side(*each, 1) == bins, "bins: wanted one for each row or column of y");
    for (Index i = 0; i < count * bins; ++i)
        want(first.data()[i] >= 0 && end.data()[i] <= size, "bins: wanted places on the map");
}

void pool(Maps4 x, Numbers pictures, Table top, Table bottom, Table left, Table right, Maps4 y, Chosen chosen,
          int threads) {
    const Regions r = regions_of(x, pictures, y, threads);
    check_bins(top, bottom, r.count, r.rows, r.height);
    check_bins(left, right, r.count, r.columns, r.width);
    want(chosen.size() == y.size(), "chosen: wanted the size of y");
    const nb::gil_scoped_release release;
    pool_regions(r, {top.data(), bottom.data(), left.data(), right.data()}, x.data(), y.data(), chosen.data());
}

void pool_back(Maps4 delta, Chosen chosen, Numbers pictures, Maps4 delta_x, int threads) {
    const Regions r = regions_of(delta_x, pictures, delta, threads);
    want(chosen.size() == delta.size(), "chosen: wanted the size of delta");
    for (std::size_t i = 0; i < chosen.size(); ++i)
        want(chosen.data()[i] < r.height * r.width, "chosen: wanted places on the map");
    const nb::gil_scoped_release release;
    pool_regions_back(r, delta.data(), chosen.data(), delta_x.data());
}

void check_matrices(const Matrices& down, const Matrices& across, const Regions& r) {
    want(side(down, 0) == r.count && side(down, 1) == r.rows && side(down, 2) == r.height,
         "down: wanted (regions, rows of bins, height)");
    want(side(across, 0) == r.count && side(across, 1) == r.columns && side(across, 2) == r.width,
         "across: wanted (regions, columns of bins, width)");
}

void mix(Maps4 x, Numbers pictures, Matrices down, Matrices across, Maps4 y, int threads) {
    const Regions r = regions_of(x, pictures, y, threads);
    check_matrices(down, across, r);
    const nb::gil_scoped_release release;
    mix_regions(r, down.data(), across.data(), x.data(), y.data());
}

void mix_back(Maps4 delta, Numbers pictures, Matrices down, Matrices across, Maps4 delta_x, int threads) {
    const Regions r = regions_of(delta_x, pictures, delta, threads);
    check_matrices(down, across, r);
    const nb::gil_scoped_release release;
    mix_regions_back(r, down.data(), across.data(), delta.data(), delta_x.data());
}

Index suppress(Array<float, 2> corners, Array<float, 1> areas, std::optional<Numbers> groups, float most,
               Numbers kept) {
    const Index count = side(corners, 1);
    want(side(corners, 0) == 4 && side(areas, 0) == count && side(kept, 0) == count && (!groups || side(*groups, 0) == count),
         "corners: wanted 4 rows, and areas, groups and kept one for each column");
    want(count < std::numeric_limits<std::int32_t>::max() / 16, "corners: too many boxes");
    const nb::gil_scoped_release release;
    return suppress_boxes(corners.data(), areas.data(), groups ? groups->data() : nullptr, count, most, kept.data());
}

}  // namespace

void bind_regions(nb::module_& m) {
    m.def("pool_regions", &pool, "x"_a, "pictures"_a, "top"_a, "bottom"_a, "left"_a, "right"_a, "y"_a, "chosen"_a,
          "threads"_a = 1);
    m.def("pool_regions_back", &pool_back, "delta"_a, "chosen"_a, "pictures"_a, "delta_x"_a, "threads"_a = 1);
    m.def("mix_regions", &mix, "x"_a, "pictures"_a, "down"_a, "across"_a, "y"_a, "threads"_a = 1);
    m.def("mix_regions_back", &mix_back, "delta"_a, "pictures"_a, "down"_a, "across"_a, "delta_x"_a, "threads"_a = 1);
    m.def("suppress_boxes", &suppress, "corners"_a, "areas"_a, "groups"_a.none(), "most"_a, "kept"_a);
}

}  // namespace convscope
