#include "ops/square.h"

#include <algorithm>
#include <limits>

namespace convscope {
namespace {

// Values at the points stay in the third-level cache and stream by, 8 bytes a cycle; panels and sums stay in the second.
constexpr Index kSourceBytes = 1536 * 1024;
constexpr Index kGradientBytes = 3 * 1024 * 1024;
constexpr Index kChunkMaps = 128;
constexpr Index kPieceSources = 32, kPieceMaps = 48;

// Cycles to change form, in those of a model that counts one for each multiply-add: a tile of source positions, of sums,
// of δ by panels, and a kernel.
constexpr double kCyclesIn = 260, kCyclesOut = 160, kCyclesDelta = 260, kCyclesKernel = 12;

constexpr Index kTaps = 3, kArea = kTaps * kTaps;

Index up(Index a, Index b) { return (a + b - 1) / b; }

// As few bands as `most` tiles each allow, all alike.
Index even(Index tiles, Index most) { return up(tiles, up(tiles, std::clamp<Index>(most, 1, tiles))); }

}  // namespace

Index WinogradSquare::Pass::panel_floats() const { return ((back ? kBlock : chunk) | 1) * kBlock; }

Index WinogradSquare::Pass::floats() const {
    return points() * (source_point() + sum_point() + panels() * panel_floats());
}

WinogradSquare::Pass WinogradSquare::pass_of(const Shape& source, const Shape& destination, Size corner, int side,
                                             bool back) {
    Pass pass;
    pass.side = side;
    pass.back = back;
    pass.from = source.channels;
    pass.to = destination.channels;
    pass.top = corner.y;
    pass.left = corner.x;
    pass.across = up(destination.width, side);
    pass.tiles = pass.across * up(destination.height, side);
    pass.band = even(pass.tiles, kSourceBytes / (pass.points() * pass.from * kBlock * 4));
    pass.chunk = up(pass.from, up(pass.from, kChunkMaps));
    if (back) pass.chunk = up(pass.chunk, kBlock) * kBlock;
    return pass;
}

WinogradSquare::WinogradSquare(const Shape& input, const Shape& output, Size padding, bool rotated, int side)
    : input_(input), conv_(output), side_(side), points_((side + 2) * (side + 2)), rotated_(rotated) {
    constexpr Index kReach = kTaps - 1;
    forward_ = pass_of(input, output, {-padding.y, -padding.x}, side, false);
    backward_ = pass_of(output, input, {padding.y - kReach, padding.x - kReach}, side, true);
    gradient_band_ = even(forward_.tiles, kGradientBytes / (points_ * (turned_sources() + delta_step()) * kBlock * 4));
}

double WinogradSquare::cycles_of(const Pass& pass, Index tiles, Index to) {
    const auto from = static_cast<double>(pass.from), sums = static_cast<double>(up(to, kBlock) * kBlock);
    const auto bands = static_cast<double>(up(tiles, pass.band));
    return static_cast<double>(pass.points()) / 36 *
           (static_cast<double>(tiles) * (from * kCyclesIn + sums * kCyclesOut + 36 * from * sums) +
            bands * kCyclesKernel * from * sums);
}

double WinogradSquare::gradient_cycles() const {
    const auto from = static_cast<double>(turned_sources());
    const auto to = static_cast<double>(up(conv_.channels, kBlock) * kBlock);
    return static_cast<double>(points_) / 36 *
           (static_cast<double>(forward_.tiles) * (from * kCyclesIn + to * kCyclesDelta + 36 * from * to) +
            kCyclesKernel * from * to);
}

void WinogradSquare::turn_weights(const CorrelationCall& call, const Pass& pass, Index to, Index from, Index sources,
                                  float* panels) const {
    SquareWeights weights;
    weights.row_step = input_.channels * kArea;
    weights.rotated = rotated_ != pass.back;
    weights.point_step = pass.panel_floats();
    if (!pass.back) {
        weights.weights = call.packed + to * weights.row_step + from * kArea;
        weights.rows = std::min(kBlock, pass.to - to);
        weights.sources = sources;
        weights.panel = panels;
        return call.kernels->square_weights[side_](weights);
    }
    weights.sources = std::min(kBlock, pass.to - to);
    for (Index map = 0; map < sources; map += kBlock) {
        weights.weights = call.packed + (from + map) * weights.row_step + to * kArea;
        weights.rows = std::min(kBlock, sources - map);
        weights.panel = panels + map / kBlock * points_ * pass.panel_floats();
        call.kernels->square_weights[side_](weights);
    }
}

// A team shares out tiles, where each thread turns all kernels, or maps, where each turns all of the source: whichever is
// the quicker.
void WinogradSquare::run(const CorrelationCall& call, const Pass& pass, float* scratch, const Team& team) const {
    const bool by_tiles = cycles_of(pass, team.most(pass.tiles), pass.to) <
                          cycles_of(pass, pass.tiles, team.most(pass.to, kBlock));
    const Team::Own tiles = by_tiles ? team.of(pass.tiles) : Team::Own{0, pass.tiles};
    const Team::Own maps = by_tiles ? Team::Own{0, pass.to} : team.of(pass.to, kBlock);
    if (maps.size() == 0) return;
    float* const planes = scratch;
    float* const sums = planes + points_ * pass.source_point();
    float* const panels = sums + points_ * pass.sum_point();
    SquareTiles in;
    in.maps = call.source;
    in.top = pass.top;
    in.left = pass.left;
    in.across = pass.across;
    in.planes = planes;
    in.point_step = pass.source_point();
    in.map_step = pass.source_map();
    SquareSums out;
    out.planes = sums;
    out.point_step = pass.sum_point();
    out.map_step = pass.source_map();
    out.across = pass.across;
    out.floor = call.floor;
    out.accumulate = call.accumulate;
    Product product;
    product.a_map = pass.back ? kBlock : 1;
    product.a_step = pass.back ? 1 : kBlock;
    product.a_run = pass.back ? kBlock : pass.chunk;
    product.a_jump = points_ * pass.panel_floats();
    product.b_step = pass.source_map();
    product.c_step = pass.source_map();
    for (Index first = tiles.begin; first < tiles.end; first += pass.band) {
        in.first = out.first = first;
        in.count = out.count = std::min(pass.band, tiles.end - first);
        product.columns = in.count * kBlock;
        call.kernels->square_input[side_](in);
        for (Index to = maps.begin; to < maps.end; to += kBlock) {
            product.maps = std::min(kBlock, maps.end - to);
            for (Index from = 0; from < pass.from; from += pass.chunk) {
                product.depth = std::min(pass.chunk, pass.from - from);
                product.accumulate = from > 0;
                turn_weights(call, pass, to, from, product.depth, panels);
                for (Index point = 0; point < points_; ++point) {
                    product.a = panels + point * pass.panel_floats();
                    product.b = planes + point * pass.source_point() + from * pass.source_map();
                    product.c = sums + point * pass.sum_point();
                    call.kernels->product(product);
                }
            }
            out.maps = call.destination;
            out.maps.data += to * call.destination.map_step;
            out.maps.count = product.maps;
            out.bias = call.bias ? call.bias + to : nullptr;
            call.kernels->square_sums[side_](out);
        }
    }
}

Index WinogradSquare::piece_sources() const { return std::min(kPieceSources, turned_sources()); }

Index WinogradSquare::piece_maps() const { return std::min(kPieceMaps, up(conv_.channels, kBlock) * kBlock); }

Index WinogradSquare::pieces() const {
    return up(turned_sources(), piece_sources()) * up(conv_.channels, piece_maps());
}

Index WinogradSquare::gradient_floats() const {
    if (!exists()) return 0;
    const Index kept = gradient_band_ < forward_.tiles ? pieces() : 1;
    return points_ * (turned_point() + delta_point() + kept * piece_point());
}

// A band's positions of all input maps, and its δ of a thread's own output maps.
void WinogradSquare::turn_band(const KernelTable& kernels, const Maps& input, const Maps& delta, const Team::Own& own,
                               Index first, Index count, float* turned, float* turned_delta) const {
    SquareTiles tiles;
    tiles.maps = input;
    tiles.top = forward_.top;
    tiles.left = forward_.left;
    tiles.across = forward_.across;
    tiles.first = first;
    tiles.count = count;
    tiles.planes = turned;
    tiles.point_step = turned_point();
    tiles.map_step = (gradient_band_ | 1) * kBlock;
    kernels.square_input[side_](tiles);
    // Maps that are not there are multiplied along.
    for (Index map = input_.channels; map < turned_sources(); ++map)
        for (Index point = 0; point < points_; ++point)
            std::fill_n(turned + point * tiles.point_step + map * tiles.map_step, count * kBlock, 0.0f);
    tiles.top = tiles.left = 0;
    tiles.point_step = delta_point();
    tiles.map_step = delta_step();
    for (Index map = own.begin; map < own.end; map += kBlock) {
        tiles.maps = delta;
        tiles.maps.data += map * delta.map_step;
        tiles.maps.count = std::min(kBlock, own.end - map);
        tiles.planes = turned_delta + map;
        kernels.square_delta[side_](tiles);
    }
}

void WinogradSquare::gradient(const KernelTable& kernels, const Maps& input, const Maps& delta, float* gradient,
                              bool accumulate, float* scratch, const Team& team) const {
    const Team::Own own = team.of(conv_.channels, kBlock);
    if (own.size() == 0) return;
    float* const turned = scratch;
    float* const turned_delta = turned + points_ * turned_point();
    float* const sums = turned_delta + points_ * delta_point();
    const Index source_step = (gradient_band_ | 1) * kBlock;
    const bool kept = gradient_band_ < forward_.tiles;
    Product product;
    product.a_map = source_step;
    product.a_step = 1;
    product.a_run = std::numeric_limits<Index>::max();
    product.b_step = delta_step();
    product.c_step = piece_maps();
    SquareGradient out;
    out.point_step = piece_point();
    out.source_step = piece_maps();
    out.row_step = input_.channels * kArea;
    out.rotated = rotated_;
    out.accumulate = accumulate;
    for (Index first = 0; first < forward_.tiles; first += gradient_band_) {
        const Index count = std::min(gradient_band_, forward_.tiles - first);
        turn_band(kernels, input, delta, own, first, count, turned, turned_delta);
        product.depth = count * kBlock;
        product.accumulate = first > 0;
        float* piece = sums;
        for (Index from = 0; from < input_.channels; from += piece_sources())
            for (Index to = own.begin; to < own.end; to += piece_maps()) {
                product.maps = std::min(piece_sources(), turned_sources() - from);
                product.columns = std::min(piece_maps(), up(own.end - to, kBlock) * kBlock);
                for (Index point = 0; point < points_; ++point) {
                    product.a = turned + point * turned_point() + from * source_step;
                    product.b = turned_delta + point * delta_point() + to;
                    product.c = piece + point * piece_point();
                    kernels.product(product);
                }
                if (first + count == forward_.tiles)
                    for (Index map = to; map < std::min(to + piece_maps(), own.end); map += kBlock) {
                        out.panel = piece + (map - to);
                        out.gradient = gradient + map * out.row_step + from * kArea;
                        out.rows = std::min(kBlock, own.end - map);
                        out.sources = std::min(piece_sources(), input_.channels - from);
                        kernels.square_gradient[side_](out);
                    }
                if (kept) piece += points_ * piece_point();
            }
    }
}

std::string WinogradSquare::describe() const {
    const std::string m = std::to_string(side_);
    return "F(" + m + "x" + m + ",3x3) tiles " + std::to_string(forward_.tiles) + " band " + std::to_string(forward_.band);
}

}  // namespace convscope
