// Each kernel file fills in its part of the table of the instruction set it is compiled for.
#pragma once

#include "kernels/table.h"
#include "simd/vec.h"

namespace convscope::CONVSCOPE_ISA {

void enter_activation(KernelTable& table);
void enter_channels_convolution(KernelTable& table);
void enter_channels_layout(KernelTable& table);
void enter_channels_linear(KernelTable& table);
void enter_channels_pointwise(KernelTable& table);
void enter_channels_pooling(KernelTable& table);
void enter_channels_winograd(KernelTable& table);
void enter_binary(KernelTable& table);
void enter_convolution(KernelTable& table);
void enter_dropout(KernelTable& table);
void enter_elementwise(KernelTable& table);
void enter_image_norm(KernelTable& table);
void enter_linear(KernelTable& table);
void enter_loss(KernelTable& table);
void enter_normalisation(KernelTable& table);
void enter_optimiser(KernelTable& table);
void enter_packing(KernelTable& table);
void enter_rbf(KernelTable& table);
void enter_pooling(KernelTable& table);
void enter_product(KernelTable& table);
void enter_reduce(KernelTable& table);
void enter_regions(KernelTable& table);
void enter_square(KernelTable& table);
void enter_weight_gradient(KernelTable& table);
void enter_windows(KernelTable& table);
void enter_winograd(KernelTable& table);

}  // namespace convscope::CONVSCOPE_ISA
