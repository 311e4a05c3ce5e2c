// What a call on a network runs: steps in order, cut where the whole batch is needed, and a place for everything that
// lives between two steps.
#pragma once

#include <compare>
#include <vector>

#include "graph/build.h"
#include "graph/optimiser.h"

namespace convscope {

struct Mode {
    bool training = false;  // dropout active, batch statistics
    bool backward = false;
    bool losses = false;  // δ starts at the plan's losses; else at given δ of the outputs
    bool input_delta = false;
    auto operator<=>(const Mode&) const = default;
};

enum class Phase { pack, measure, forward, turn, measure_backward, backward, unpack_input_delta };

// Memory of one thread's arena, reused as soon as its content is dead, or (where it has to outlive a cut) of a block.
struct Slot {
    Index offset = -1;  // floats
    bool per_block = false;
    bool present() const { return offset >= 0; }
};

struct Step {
    Phase phase = Phase::forward;
    int op = -1;
    Slot scratch;
    std::vector<bool> accumulate;  // by input: its δ already has a part
};

struct Segment {
    std::vector<Step> steps;
    int settled_op = -1;  // what the caller does after it, before the next
    bool settles_backward = false;
};

struct Program {
    Mode mode;
    std::vector<Segment> segments;
    std::vector<Slot> values, deltas;  // by value
    std::vector<Slot> saved;           // by op
    std::vector<bool> wants_gradient;  // by op
    std::vector<Range> summed;         // places of the gradient buffer that every thread has a part of; rising, apart
    Index arena_floats = 0;
    Index block_floats = 0;
};

Program make_program(const Graph& graph, Mode mode);

}  // namespace convscope
