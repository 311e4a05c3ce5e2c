// How values lie in memory while a network evaluates, and which way is the quicker one.
#pragma once

#include <functional>
#include <string>

#include "channels/network.h"
#include "graph/build.h"

namespace convscope {

// Images innermost, or blocks of channels innermost. Only evaluation without gradients has the choice; it is made when a
// network is built, by name ("auto", "modelled", "images", "channels"), an empty one for the environment variable
// CONVSCOPE_LAYOUT. `measured`: both are timed where the model is not sure, once in a process for each network and
// number of pictures. "auto" is that for a network without a loss; one with a loss goes by the model, so that the
// evaluations of a training are the same to the bit in every run.
enum class Layout { measured, modelled, images, channels };
Layout layout_of(std::string name, bool has_loss);

// What is known of one network for so many pictures and threads.
struct LayoutChoice {
    bool channels = false;
    bool sure = false;      // the ways are so far apart that nothing needs to be measured
    double images_cost = 0;  // cycles by the model, or seconds
    double channels_cost = 0;
    bool measured = false;

    std::string text() const;
};

// Cycles of each op in the forward pass of a block of 16 images, by the model.
std::vector<double> op_cycles(const Graph& graph, const KernelTable& kernels);
LayoutChoice modelled_choice(double block_cycles, const channels::Network& network, Index pictures, int threads);

// What stands for a network's plan in the process-wide memory of measured choices.
std::size_t identity_of(const Graph& graph, const KernelTable& kernels);
// The choice of an earlier measurement, if there was one.
bool find_measured(std::size_t identity, Index pictures, int threads, LayoutChoice& choice);
// Lets both answer the same call, which tell the seconds they took, and keeps the choice. The last one that ran is the one
// chosen.
LayoutChoice measure(std::size_t identity, Index pictures, int threads, const std::function<double()>& by_images,
                     const std::function<double()>& by_channels);

}  // namespace convscope
