// The end of a training step: the threads' gradients are added up, and the parameters move.
#pragma once

#include <vector>

#include "kernels/table.h"

namespace convscope {

// Places [begin, end) of a flat buffer.
struct Range {
    Index begin = 0, end = 0;
};

// Parameters that move by one rule, and the optimiser's memory of them, which counts from `range.begin`.
struct Rule {
    Range range;
    bool adam = false;
    float* mean = nullptr;     // velocity of gradient descent with momentum, or Adam's mean of gradients
    float* squares = nullptr;  // Adam's mean of squared gradients
    float* steps = nullptr;    // Adam: steps done, one number; counted up by every step

    double rate = 0;
    double weight_decay = 0;
    double momentum = 0;  // of Adam: β₁
    // Gradient descent.
    double dampening = 0;
    bool nesterov = false;
    // Adam.
    double square_momentum = 0;  // β₂
    double epsilon = 0;
    bool decoupled = false;  // AdamW: weights decay by themselves, not through the gradient
};

// A stretch in which all is done alike.
struct Piece {
    Range range;
    bool summed = false;         // the other threads have a part of its gradient
    const Rule* rule = nullptr;  // null: stays where it is
};

// Cuts the places of `summed` and of `rules` (both rising and apart) at each other's ends.
std::vector<Piece> cut_pieces(const std::vector<Range>& summed, const std::vector<Rule>& rules);

// The kernel's argument for a whole piece, but for the gradients.
Descent descent_of(const Piece& piece, float* parameters);

// Share `part` of `parts` of a range; inner ends are multiples of 16 floats, so that no two threads write one line.
Range share(const Range& range, int part, int parts);

}  // namespace convscope
