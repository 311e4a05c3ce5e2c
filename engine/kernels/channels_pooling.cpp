// Pooling of blocks of channels, one row of windows at a time.
#include "kernels/enter.h"
#include "simd/math.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

Index smaller(Index a, Index b) { return a < b ? a : b; }
Index larger(Index a, Index b) { return a > b ? a : b; }

// NaN wins over what came before it, as in torch.
inline Vec larger_of(Vec best, Vec value) { return (value <= best) ? best : value; }

// Windows that lie inside the picture, of a size known at compile time.
template <int Height, int Width>
void largest_inside(const ChannelPool& a, const float* row, Index first, Index last) {
    for (Index column = first; column < last; ++column) {
        const float* corner = row + (column * a.stride_x - a.pad_x) * kLanes;
        Vec best = load(corner);
        CONVSCOPE_UNROLL for (int y = 0; y < Height; ++y)
            CONVSCOPE_UNROLL for (int x = 0; x < Width; ++x)
                if (y != 0 || x != 0) best = larger_of(best, load(corner + y * a.row_step + x * kLanes));
        store(a.to + column * kLanes, best);
    }
}

void one_window(const ChannelPool& a, Index column) {
    const Index y = a.row * a.stride_y - a.pad_y, x = column * a.stride_x - a.pad_x;
    const Index top = larger(y, 0), bottom = smaller(y + a.kernel_height, a.height);
    const Index left = larger(x, 0), right = smaller(x + a.kernel_width, a.width);
    const bool largest = a.kind == PoolKind::max, squares = a.kind == PoolKind::l2;
    Vec result = largest ? broadcast(-__builtin_inff()) : zero();
    for (Index i = top; i < bottom; ++i)
        for (Index j = left; j < right; ++j) {
            const Vec value = load(a.from + i * a.row_step + j * kLanes);
            if (largest) result = larger_of(result, value);
            else result += squares ? value * value : value;
        }
    if (squares) result = square_root(result);
    // torch's divisors: the window clipped to the padded picture, or to the picture itself.
    if (a.kind == PoolKind::mean)
        result /= static_cast<float>((smaller(y + a.kernel_height, a.height + a.pad_y) - y) *
                                     (smaller(x + a.kernel_width, a.width + a.pad_x) - x));
    if (a.kind == PoolKind::mean_without_padding) result /= static_cast<float>((bottom - top) * (right - left));
    store(a.to + column * kLanes, result);
}

void channel_pool_row(const ChannelPool& a) {
    const Index y = a.row * a.stride_y - a.pad_y;
    const bool two = a.kernel_height == 2 && a.kernel_width == 2, three = a.kernel_height == 3 && a.kernel_width == 3;
    Index first = 0, last = 0;  // the windows that lie inside
    if (a.kind == PoolKind::max && (two || three) && y >= 0 && y + a.kernel_height <= a.height) {
        first = smaller(a.columns, (a.pad_x + a.stride_x - 1) / a.stride_x);
        const Index room = a.width + a.pad_x - a.kernel_width;
        last = room < 0 ? first : larger(first, smaller(a.columns, room / a.stride_x + 1));
        const float* row = a.from + y * a.row_step;
        if (two) largest_inside<2, 2>(a, row, first, last);
        else largest_inside<3, 3>(a, row, first, last);
    }
    for (Index column = 0; column < first; ++column) one_window(a, column);
    for (Index column = last; column < a.columns; ++column) one_window(a, column);
}

}  // namespace

void enter_channels_pooling(KernelTable& table) {
    table.channel_pool_row = channel_pool_row;
}

}  // namespace convscope::CONVSCOPE_ISA
