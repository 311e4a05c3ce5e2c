// Pooling forward and backward, window by window; a vector holds the same window of several images.
#include "kernels/enter.h"
#include "simd/math.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

struct Window {
    Index top, bottom, left, right;  // inside the picture
    Index y, x;                      // of the unclipped corner
};

Index smaller(Index a, Index b) { return a < b ? a : b; }
Index larger(Index a, Index b) { return a > b ? a : b; }

Window window_of(const Pool& a, Index row, Index column) {
    const Index y = row * a.stride_y - a.pad_y;
    const Index x = column * a.stride_x - a.pad_x;
    return {larger(y, 0), smaller(y + a.kernel_height, a.input.height),
            larger(x, 0), smaller(x + a.kernel_width, a.input.width), y, x};
}

// torch's divisors: the window clipped to the padded picture, or to the picture itself.
float divisor(const Pool& a, const Window& w) {
    if (a.kind == PoolKind::mean_without_padding)
        return static_cast<float>((w.bottom - w.top) * (w.right - w.left));
    const Index bottom = smaller(w.y + a.kernel_height, a.input.height + a.pad_y);
    const Index right = smaller(w.x + a.kernel_width, a.input.width + a.pad_x);
    return static_cast<float>((bottom - w.y) * (right - w.x));
}

void max_position(const Pool& a, const float* map, const Window& w, float* to, std::uint8_t* winner) {
    for (Index v = 0; v < kImages; v += kLanes) {
        Vec best = broadcast(-__builtin_inff());
        IntVec at = IntVec{} + static_cast<std::int32_t>((w.top - w.y) * a.kernel_width + w.left - w.x);
        for (Index y = w.top; y < w.bottom; ++y)
            for (Index x = w.left; x < w.right; ++x) {
                const Vec value = load(map + y * a.input.row_step + x * kImages + v);
                const auto number = static_cast<std::int32_t>((y - w.y) * a.kernel_width + x - w.x);
                at = (value <= best) ? at : IntVec{} + number;  // NaN wins over what came before it
                best = (value <= best) ? best : value;
            }
        store(to + v, best);
        store_bytes(winner + v, at);
    }
}

// A row of whole windows of a size known at compile time: no clipping, and the window's loops unrolled.
template <int Height, int Width>
void max_row(const Pool& a, const float* row, Index columns, float* to, std::uint8_t* winner) {
    for (Index column = 0; column < columns; ++column) {
        const float* corner = row + column * a.stride_x * kImages;
        CONVSCOPE_UNROLL for (Index v = 0; v < kImages; v += kLanes) {
            Vec best = load(corner + v);
            IntVec at{};
            CONVSCOPE_UNROLL for (int y = 0; y < Height; ++y)
                CONVSCOPE_UNROLL for (int x = 0; x < Width; ++x) {
                    if (y == 0 && x == 0) continue;
                    const Vec value = load(corner + y * a.input.row_step + x * kImages + v);
                    at = (value <= best) ? at : IntVec{} + (y * Width + x);
                    best = (value <= best) ? best : value;
                }
            store(to + column * kImages + v, best);
            store_bytes(winner + column * kImages + v, at);
        }
    }
}

void max_forward(const Pool& a) {
    const bool whole = a.pad_y == 0 && a.pad_x == 0 &&
                       (a.output.height - 1) * a.stride_y + a.kernel_height <= a.input.height &&
                       (a.output.width - 1) * a.stride_x + a.kernel_width <= a.input.width;
    const bool two = whole && a.kernel_height == 2 && a.kernel_width == 2;
    const bool three = whole && a.kernel_height == 3 && a.kernel_width == 3;
    for (Index map = 0; map < a.input.count; ++map) {
        std::uint8_t* winner = a.winner + map * a.winner_map_step;
        for (Index row = 0; row < a.output.height; ++row) {
            const float* from = a.input.data + map * a.input.map_step;
            float* to = a.output.data + map * a.output.map_step + row * a.output.row_step;
            if (two) {
                max_row<2, 2>(a, from + row * a.stride_y * a.input.row_step, a.output.width, to, winner);
            } else if (three) {
                max_row<3, 3>(a, from + row * a.stride_y * a.input.row_step, a.output.width, to, winner);
            } else {
                for (Index column = 0; column < a.output.width; ++column)
                    max_position(a, from, window_of(a, row, column), to + column * kImages, winner + column * kImages);
            }
            winner += a.output.width * kImages;
        }
    }
}

void other_forward(const Pool& a) {
    for (Index map = 0; map < a.input.count; ++map)
        for (Index row = 0; row < a.output.height; ++row)
            for (Index column = 0; column < a.output.width; ++column) {
                const Window w = window_of(a, row, column);
                const float* from = a.input.data + map * a.input.map_step;
                float* to = a.output.data + map * a.output.map_step + row * a.output.row_step + column * kImages;
                const bool squares = a.kind == PoolKind::l2;
                const float scale = squares || a.kind == PoolKind::sum ? 1.0f : 1.0f / divisor(a, w);
                for (Index v = 0; v < kImages; v += kLanes) {
                    Vec total = zero();
                    for (Index y = w.top; y < w.bottom; ++y)
                        for (Index x = w.left; x < w.right; ++x) {
                            const Vec value = load(from + y * a.input.row_step + x * kImages + v);
                            total += squares ? value * value : value;
                        }
                    store(to + v, squares ? square_root(total) : total * scale);
                }
            }
}

void pool_forward(const Pool& a) {
    if (a.kind == PoolKind::max) max_forward(a);
    else other_forward(a);
}

void backward_position(const Pool& a, Index map, Index row, Index column, const std::uint8_t* winner) {
    const Window w = window_of(a, row, column);
    const float* delta = a.delta.data + map * a.delta.map_step + row * a.delta.row_step + column * kImages;
    const float* output = a.output.data + map * a.output.map_step + row * a.output.row_step + column * kImages;
    const float scale = a.kind == PoolKind::mean || a.kind == PoolKind::mean_without_padding ? 1.0f / divisor(a, w) : 1.0f;
    for (Index v = 0; v < kImages; v += kLanes) {
        const Vec d = load(delta + v) * scale;
        for (Index y = w.top; y < w.bottom; ++y)
            for (Index x = w.left; x < w.right; ++x) {
                float* to = a.input_delta.data + map * a.input_delta.map_step + y * a.input_delta.row_step + x * kImages + v;
                Vec share = d;
                if (a.kind == PoolKind::max) {
                    const auto number = static_cast<std::int32_t>((y - w.y) * a.kernel_width + x - w.x);
                    share = select(load_bytes(winner + v) == number, d, zero());
                } else if (a.kind == PoolKind::l2) {
                    const Vec norm = load(output + v);
                    const Vec value = load(a.input.data + map * a.input.map_step + y * a.input.row_step + x * kImages + v);
                    share = select(norm > 0.0f, d * value / norm, zero());
                }
                store(to, load(to) + share);
            }
    }
}

void pool_backward(const Pool& a) {
    for (Index map = 0; map < a.input_delta.count; ++map) {
        const std::uint8_t* winner = a.winner ? a.winner + map * a.winner_map_step : nullptr;
        for (Index row = 0; row < a.output.height; ++row)
            for (Index column = 0; column < a.output.width; ++column) {
                backward_position(a, map, row, column, winner);
                if (winner) winner += kImages;
            }
    }
}

void clear(float* row, Index from, Index to) {
    for (Index i = from * kImages; i < to * kImages; i += kLanes) store(row + i, zero());
}

// KH and KW are the window, or 0 for one known only at run time.
template <int KH, int KW>
void unpool_rows(const Unpool& a, const float* derived, const std::uint8_t* winner, Index first, Index rows, float* to) {
    const Index kernel_width = KW ? KW : a.kernel_width;
    const Index covered = a.delta.width * kernel_width;
    for (Index row = 0; row < rows; ++row) {
        float* const out = to + row * a.result.row_step;
        const auto number = static_cast<std::int32_t>((first + row) * kernel_width);
        for (Index column = 0; column < a.delta.width; ++column)
            CONVSCOPE_UNROLL for (Index v = 0; v < kImages; v += kLanes) {
                const Vec d = load(derived + column * kImages + v);
                const IntVec at = load_bytes(winner + column * kImages + v) - number;
                for (Index x = 0; x < kernel_width; ++x)
                    store(out + (column * kernel_width + x) * kImages + v,
                          select(at == static_cast<std::int32_t>(x), d, zero()));
            }
        clear(out, covered, a.result.width);
    }
}

void unpool(const Unpool& a) {
    const bool two = a.kernel_height == 2 && a.kernel_width == 2;
    for (Index map = 0; map < a.result.count; ++map) {
        Index row = a.first_row;
        const Index end = a.first_row + a.rows;
        while (row < end) {
            const Index pooled_row = row / a.kernel_height;
            const Index first = row % a.kernel_height;
            float* to = a.result.data + map * a.result.map_step + (row - a.first_row) * a.result.row_step;
            if (pooled_row >= a.delta.height) {
                clear(to, 0, a.result.width);
                ++row;
                continue;
            }
            const Index rows = smaller(a.kernel_height - first, end - row);
            const float* delta = a.delta.data + map * a.delta.map_step + pooled_row * a.delta.row_step;
            const std::uint8_t* winner = a.winner + map * a.winner_map_step + pooled_row * a.delta.width * kImages;
            if (two) unpool_rows<2, 2>(a, delta, winner, first, rows, to);
            else unpool_rows<0, 0>(a, delta, winner, first, rows, to);
            row += rows;
        }
    }
}

}  // namespace

void enter_pooling(KernelTable& table) {
    table.pool_forward = pool_forward;
    table.pool_backward = pool_backward;
    table.unpool = unpool;
}

}  // namespace convscope::CONVSCOPE_ISA
