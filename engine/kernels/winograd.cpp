// Into and out of Winograd's form, a row of one map at a time: tiles of positions become N planes of products.
#include "kernels/enter.h"
#include "kernels/winograd_forms.h"

namespace convscope::CONVSCOPE_ISA {
namespace {

template <class Matrix, int N>
void to_planes(const WinogradRow& a) {
    constexpr int kWidth = Matrix::columns;
    for (Index tile = 0; tile < a.tiles; ++tile) {
        const Index first = a.first + tile * a.step;
        const bool inside = first >= 0 && first + kWidth <= a.columns;
        for (Index v = 0; v < kVectors; ++v) {
            const float* const from = a.from + first * kImages + v * kLanes;
            Vec d[kWidth], values[N];
            if (inside) {
                CONVSCOPE_UNROLL for (int k = 0; k < kWidth; ++k) d[k] = load(from + k * kImages);
            } else {
                for (int k = 0; k < kWidth; ++k)
                    d[k] = first + k >= 0 && first + k < a.columns ? load(from + k * kImages) : zero();
            }
            values_at_pairs<Matrix, N>(d, values);
            float* const to = a.planes + tile * kImages + v * kLanes;
            CONVSCOPE_UNROLL for (int p = 0; p < N; ++p) store(to + p * a.plane_step, values[p]);
        }
    }
}

template <int N, int Size>
void from_planes(const WinogradSums& a) {
    const Vec bias = broadcast(a.bias), floor = broadcast(a.floor);
    for (Index tile = 0; tile < a.tiles; ++tile) {
        const Index first = tile * Size;
        const Index count = a.columns - first;
        for (Index v = 0; v < kVectors; ++v) {
            const float* const from = a.planes + tile * kImages + v * kLanes;
            float* const to = a.to + first * kImages + v * kLanes;
            Vec products[N], y[Size];
            CONVSCOPE_UNROLL for (int p = 0; p < N; ++p) products[p] = load(from + p * a.plane_step);
            coefficients_of<N, Size>(products, y);
            CONVSCOPE_UNROLL for (int k = 0; k < Size; ++k) {
                if (k >= count) break;
                const Vec start = a.accumulate ? load(to + k * kImages) : bias;
                store(to + k * kImages, at_least(floor, start + y[k]));
            }
        }
    }
}

// Products summed over everything, already over the images: [plane][kernel row] → gradients [kernel row][tap].
template <int N, int Size>
void taps_from_planes(const WinogradTaps& a) {
    for (Index first = 0; first < a.rows; first += kLanes) {
        Vec products[N], y[Size];
        CONVSCOPE_UNROLL for (int p = 0; p < N; ++p) products[p] = load(a.planes + p * a.plane_step + first);
        coefficients_of<N, Size>(products, y);
        alignas(64) float taps[Size][kLanes];
        CONVSCOPE_UNROLL for (int k = 0; k < Size; ++k) store(taps[k], y[k]);
        const Index rows = a.rows - first < kLanes ? a.rows - first : kLanes;
        float* gradient = a.gradient + first * Size;
        for (Index row = 0; row < rows; ++row, gradient += Size)
            for (int k = 0; k < Size; ++k) {
                float& to = gradient[a.rotated ? Size - 1 - k : k];
                to = taps[k][row] + (a.accumulate ? to : 0.0f);
            }
    }
}

template <int N, int Size>
constexpr void enter(KernelTable& table) {
    table.winograd_delta[N][Size] = to_planes<FilterRows<N, Size>, N>;
    table.winograd_output[N][Size] = from_planes<N, Size>;
    table.winograd_taps[N][Size] = taps_from_planes<N, Size>;
}

}  // namespace

void enter_winograd(KernelTable& table) {
    table.winograd_input[6] = to_planes<InputRows<6>, 6>;
    table.winograd_input[8] = to_planes<InputRows<8>, 8>;
    enter<6, 2>(table);
    enter<6, 3>(table);
    enter<6, 4>(table);
    enter<6, 5>(table);
    enter<8, 2>(table);
    enter<8, 3>(table);
    enter<8, 4>(table);
    enter<8, 5>(table);
    enter<8, 6>(table);
    enter<8, 7>(table);
}

}  // namespace convscope::CONVSCOPE_ISA
