#include "ops/channel_product.h"

#include <algorithm>
#include <limits>

#include "ops/op.h"

namespace convscope {
namespace {

constexpr Index kDepth = 192;          // maps added up at once, so that three positions of all stay in the first-level cache
constexpr Index kPositions = 16;       // of 16 images each, likewise
constexpr Index kTogether = 8;         // maps whose sums are in registers at once
constexpr Index kEndless = std::numeric_limits<Index>::max();

// All positions of maps that lie without gaps are one row.
Maps as_rows(const Maps& maps, bool dense) {
    Maps rows = maps;
    if (!dense) return rows;
    rows.width *= rows.height;
    rows.height = 1;
    return rows;
}

// destination[to] (+)= Σ weight(to, from) · source[from], `product` knowing where weights stand.
void multiply(const CorrelationCall& call, Product product, const Team& team) {
    const auto flat = [](const Maps& maps) { return maps.row_step == maps.width * kBlock; };
    const bool dense = flat(call.source) && flat(call.destination);
    const Maps source = as_rows(call.source, dense), destination = as_rows(call.destination, dense);
    const Team::Own own = team.of(destination.count, kTogether);
    for (Index map = own.begin; call.bias && map < own.end; ++map)
        for (Index row = 0; row < destination.height; ++row)
            std::fill_n(row_of(destination, map, row), destination.width * kBlock, call.bias[map]);
    product.a_run = kEndless;
    product.b_step = source.map_step;
    product.c_step = destination.map_step;
    product.maps = own.size();
    product.columns = source.width * kBlock;
    const Index parts = (source.count + kDepth - 1) / kDepth, depth = (source.count + parts - 1) / parts;
    for (Index row = 0; row < source.height; ++row)
        for (Index from = 0; from < source.count; from += depth) {
            product.a = call.packed + from * product.a_step + own.begin * product.a_map;
            product.b = row_of(source, from, row);
            product.c = row_of(destination, own.begin, row);
            product.depth = std::min(depth, source.count - from);
            product.accumulate = call.accumulate || call.bias || from > 0;
            call.kernels->product(product);
        }
}

}  // namespace

void ChannelProduct::forward(const CorrelationCall& call, const Team& team) const {
    Product product;
    product.a_map = input_.channels;
    product.a_step = 1;
    multiply(call, product, team);
}

void ChannelProduct::input_delta(const CorrelationCall& call, const Team& team) const {
    Product product;
    product.a_map = 1;
    product.a_step = input_.channels;
    multiply(call, product, team);
}

Index ChannelProduct::rows_at_once() const {
    return std::clamp<Index>(kPositions / input_.width, 1, input_.height);
}

void ChannelProduct::gradient(const KernelTable& kernels, Maps input, Maps delta, float* gradient, bool accumulate,
                              float* scratch, const Team& team) const {
    const Team::Own own = team.of(maps_, kTogether);
    Product product;
    product.a_map = delta.map_step;
    product.a_step = 1;
    product.a_run = delta.width * kBlock;
    product.a_jump = delta.row_step;
    product.b = scratch;
    product.b_step = turned_step();
    product.c = gradient + own.begin * input_.channels;
    product.c_step = product.columns = input_.channels;
    product.maps = own.size();
    const Index rows = delta.height, together = rows_at_once();
    for (Index row = 0; row < rows; row += together) {
        Maps turned = input;
        turned.data += row * input.row_step;
        turned.height = std::min(together, rows - row);
        kernels.turn_maps(turned, scratch, turned_step());
        product.a = row_of(delta, own.begin, row);
        product.depth = turned.height * product.a_run;
        product.accumulate = accumulate || row > 0;
        kernels.product(product);
    }
}

}  // namespace convscope
