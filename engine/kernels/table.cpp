#include "kernels/table.h"

#include "kernels/enter.h"

namespace convscope::CONVSCOPE_ISA {

#define CONVSCOPE_TEXT_OF(word) #word
#define CONVSCOPE_TEXT(word) CONVSCOPE_TEXT_OF(word)

KernelTable kernel_table() {
    KernelTable table;
    table.name = CONVSCOPE_TEXT(CONVSCOPE_ISA);
    table.lanes = CONVSCOPE_LANES;
    enter_activation(table);
    enter_channels_convolution(table);
    enter_channels_layout(table);
    enter_channels_linear(table);
    enter_channels_pointwise(table);
    enter_channels_pooling(table);
    enter_channels_winograd(table);
    enter_binary(table);
    enter_convolution(table);
    enter_dropout(table);
    enter_elementwise(table);
    enter_image_norm(table);
    enter_linear(table);
    enter_loss(table);
    enter_normalisation(table);
    enter_optimiser(table);
    enter_packing(table);
    enter_pooling(table);
    enter_product(table);
    enter_rbf(table);
    enter_reduce(table);
    enter_regions(table);
    enter_square(table);
    enter_weight_gradient(table);
    enter_windows(table);
    enter_winograd(table);
    return table;
}

}  // namespace convscope::CONVSCOPE_ISA
