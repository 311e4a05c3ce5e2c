// Normalisation of each image by its own statistics: over the positions of a group of maps, or over the maps of a position.
// μ = mean x, σ² = mean (x − μ)², x̂ = (x − μ)/√(σ² + ε), y = γ x̂ + β;
// with g = γ δ: δx = (g − mean g − x̂ · mean (g x̂))/√(σ² + ε), ∂J/∂γ = Σ δ x̂, ∂J/∂β = Σ δ.
#include "kernels/enter.h"
#include "kernels/tensor_arguments.h"
#include "simd/math.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

const float* row_at(const Maps& maps, Index map, Index row) { return maps.data + map * maps.map_step + row * maps.row_step; }

float scale_of(const float* scale, Index map) { return scale ? scale[map] : 1.0f; }
float offset_of(const float* offset, Index map) { return offset ? offset[map] : 0.0f; }

double total_of(Vec value) {
    double total = 0;
    for (int lane = 0; lane < CONVSCOPE_LANES; ++lane) total += static_cast<double>(value[lane]);
    return total;
}

// Sums run over a row, then over the rows of a map, then over the maps: so that large groups lose nothing.
template <class Value>
Vec group_sum(const Maps& maps, Value value) {
    Vec total = zero();
    for (Index map = 0; map < maps.count; ++map) {
        Vec of_map = zero();
        for (Index row = 0; row < maps.height; ++row) {
            Vec of_row = zero();
            for (Index column = 0; column < maps.width; ++column) of_row += value(map, row, column);
            of_map += of_row;
        }
        total += of_map;
    }
    return total;
}

void group_norm(const GroupNorm& a) {
    const float count = static_cast<float>(a.input.count * a.input.height * a.input.width);
    for (Index v = 0; v < kImages; v += kLanes) {
        const auto x = [&](Index map, Index row, Index column) {
            return load(row_at(a.input, map, row) + column * kImages + v);
        };
        const Vec mean = group_sum(a.input, x) / count;
        const Vec squares = group_sum(a.input, [&](Index map, Index row, Index column) {
            const Vec centred = x(map, row, column) - mean;
            return centred * centred;
        });
        const Vec inverse = 1.0f / square_root(squares / count + a.epsilon);
        store(a.mean + v, mean);
        store(a.inverse + v, inverse);
        for (Index map = 0; map < a.input.count; ++map) {
            const Vec slope = inverse * scale_of(a.scale, map);
            const Vec shift = broadcast(offset_of(a.offset, map));
            for (Index row = 0; row < a.input.height; ++row) {
                float* to = a.output.data + map * a.output.map_step + row * a.output.row_step;
                for (Index column = 0; column < a.input.width; ++column)
                    store(to + column * kImages + v, slope * (x(map, row, column) - mean) + shift);
            }
        }
    }
}

void group_norm_back(const GroupNorm& a) {
    const float count = static_cast<float>(a.input.count * a.input.height * a.input.width);
    for (Index v = 0; v < kImages; v += kLanes) {
        const Vec mean = load(a.mean + v), inverse = load(a.inverse + v);
        const auto normal = [&](Index map, Index row, Index column) {
            return (load(row_at(a.input, map, row) + column * kImages + v) - mean) * inverse;
        };
        const auto delta = [&](Index map, Index row, Index column) {
            return load(row_at(a.delta, map, row) + column * kImages + v);
        };
        Vec sum = zero(), along = zero();  // of g, and of g x̂
        for (Index map = 0; map < a.input.count; ++map) {
            Vec to_offset = zero(), to_scale = zero();
            for (Index row = 0; row < a.input.height; ++row) {
                Vec row_offset = zero(), row_scale = zero();
                for (Index column = 0; column < a.input.width; ++column) {
                    const Vec d = delta(map, row, column);
                    row_offset += d;
                    row_scale += d * normal(map, row, column);
                }
                to_offset += row_offset;
                to_scale += row_scale;
            }
            sum += scale_of(a.scale, map) * to_offset;
            along += scale_of(a.scale, map) * to_scale;
            if (a.scale_gradient) a.scale_gradient[map] += total_of(to_scale);
            if (a.offset_gradient) a.offset_gradient[map] += total_of(to_offset);
        }
        if (!a.input_delta.data) continue;
        sum /= count;
        along /= count;
        for (Index map = 0; map < a.input.count; ++map)
            for (Index row = 0; row < a.input.height; ++row) {
                float* to = a.input_delta.data + map * a.input_delta.map_step + row * a.input_delta.row_step + v;
                for (Index column = 0; column < a.input.width; ++column) {
                    const Vec g = scale_of(a.scale, map) * delta(map, row, column);
                    const Vec d = inverse * (g - sum - normal(map, row, column) * along);
                    float* at = to + column * kImages;
                    store(at, a.accumulate ? load(at) + d : d);
                }
            }
    }
}

// Maps outside, columns inside: each map's row is read once from where it lies.
void position_norm(const PositionNorm& a) {
    const Index floats = a.columns * kImages;
    const float count = static_cast<float>(a.maps);
    for (Index i = 0; i < floats; i += kLanes) store(a.mean + i, zero()), store(a.inverse + i, zero());
    for (Index map = 0; map < a.maps; ++map)
        for (Index i = 0; i < floats; i += kLanes)
            store(a.mean + i, load(a.mean + i) + load(a.input + map * a.map_step + i));
    for (Index i = 0; i < floats; i += kLanes) store(a.mean + i, load(a.mean + i) / count);
    for (Index map = 0; map < a.maps; ++map)
        for (Index i = 0; i < floats; i += kLanes) {
            const Vec centred = load(a.input + map * a.map_step + i) - load(a.mean + i);
            store(a.inverse + i, load(a.inverse + i) + centred * centred);
        }
    for (Index i = 0; i < floats; i += kLanes)
        store(a.inverse + i, 1.0f / square_root(load(a.inverse + i) / count + a.epsilon));
    for (Index map = 0; map < a.maps; ++map) {
        const Vec scale = broadcast(scale_of(a.scale, map)), shift = broadcast(offset_of(a.offset, map));
        for (Index i = 0; i < floats; i += kLanes) {
            const Vec normal = (load(a.input + map * a.map_step + i) - load(a.mean + i)) * load(a.inverse + i);
            store(a.output + map * a.output_map_step + i, scale * normal + shift);
        }
    }
}

void position_norm_back(const PositionNorm& a) {
    const Index floats = a.columns * kImages;
    const float count = static_cast<float>(a.maps);
    float* const sums = a.sums;
    float* const alongs = a.sums + floats;
    for (Index i = 0; i < floats; i += kLanes) store(sums + i, zero()), store(alongs + i, zero());
    for (Index map = 0; map < a.maps; ++map) {
        const Vec scale = broadcast(scale_of(a.scale, map));
        Vec to_scale = zero(), to_offset = zero();
        for (Index i = 0; i < floats; i += kLanes) {
            const Vec normal = (load(a.input + map * a.map_step + i) - load(a.mean + i)) * load(a.inverse + i);
            const Vec d = load(a.delta + map * a.delta_map_step + i);
            const Vec along = d * normal;
            to_offset += d;
            to_scale += along;
            store(sums + i, load(sums + i) + scale * d);
            store(alongs + i, load(alongs + i) + scale * along);
        }
        if (a.scale_gradient) a.scale_gradient[map] += total_of(to_scale);
        if (a.offset_gradient) a.offset_gradient[map] += total_of(to_offset);
    }
    if (!a.input_delta) return;
    for (Index map = 0; map < a.maps; ++map) {
        const Vec scale = broadcast(scale_of(a.scale, map));
        for (Index i = 0; i < floats; i += kLanes) {
            const Vec inverse = load(a.inverse + i);
            const Vec normal = (load(a.input + map * a.map_step + i) - load(a.mean + i)) * inverse;
            const Vec g = scale * load(a.delta + map * a.delta_map_step + i);
            const Vec d = inverse * (g - load(sums + i) / count - normal * (load(alongs + i) / count));
            float* to = a.input_delta + map * a.input_delta_map_step + i;
            store(to, a.accumulate ? load(to) + d : d);
        }
    }
}

// y_i = e^(x_i − max)/Σ, or its logarithm.
void position_softmax(const PositionSoftmax& a) {
    for (Index i = 0; i < a.columns * kImages; i += kLanes) {
        const float* x = a.x + i;
        float* y = a.y + i;
        Vec top = load(x);
        for (Index map = 1; map < a.maps; ++map) top = at_least(top, load(x + map * a.x_map_step));
        Vec total = zero();
        for (Index map = 0; map < a.maps; ++map) {
            const Vec power = exp(load(x + map * a.x_map_step) - top);
            total += power;
            if (!a.logarithm) store(y + map * a.y_map_step, power);
        }
        const Vec shift = a.logarithm ? top + log(total) : zero();
        for (Index map = 0; map < a.maps; ++map) {
            float* to = y + map * a.y_map_step;
            store(to, a.logarithm ? load(x + map * a.x_map_step) - shift : load(to) / total);
        }
    }
}

// δx_i = y_i (δ_i − Σ_j δ_j y_j), or with the logarithm δ_i − e^(y_i) Σ_j δ_j.
void position_softmax_back(const PositionSoftmax& a) {
    for (Index i = 0; i < a.columns * kImages; i += kLanes) {
        Vec total = zero();
        for (Index map = 0; map < a.maps; ++map) {
            const Vec d = load(a.delta + map * a.delta_map_step + i);
            total += a.logarithm ? d : d * load(a.y + map * a.y_map_step + i);
        }
        for (Index map = 0; map < a.maps; ++map) {
            const Vec d = load(a.delta + map * a.delta_map_step + i), y = load(a.y + map * a.y_map_step + i);
            const Vec result = a.logarithm ? d - exp(y) * total : y * (d - total);
            float* to = a.x_delta + map * a.x_delta_map_step + i;
            store(to, a.accumulate ? load(to) + result : result);
        }
    }
}

}  // namespace

void enter_image_norm(KernelTable& table) {
    table.group_norm = group_norm;
    table.group_norm_back = group_norm_back;
    table.position_norm = position_norm;
    table.position_norm_back = position_norm_back;
    table.position_softmax = position_softmax;
    table.position_softmax_back = position_softmax_back;
}

}  // namespace convscope::CONVSCOPE_ISA
