// A layer of a network: what memory it needs, and how it passes a block of 16 images forward and backward.
//
// An Op is immutable once arranged and shared by all threads; everything that changes comes in a Block.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "ops/record.h"
#include "ops/team.h"

namespace convscope {

// One op's view of one block on its way through the network.
struct Block {
    const KernelTable* kernels = nullptr;
    const float* parameters = nullptr;
    float* gradients = nullptr;        // this thread's; null in a pass without gradients or for a frozen layer
    bool accumulate_gradient = false;  // false: the first block of a thread may overwrite
    float* state = nullptr;
    const float* packed = nullptr;  // this op's packed weights
    std::byte* saved = nullptr;     // this op's memory from forward to backward
    float* scratch = nullptr;       // this thread's
    Team team;                      // who passes it; for an op that shares, `phase` of the pass, and scratch of them all
    int phase = 0;
    float* common = nullptr;
    double* statistics = nullptr;   // this op's and block's, for cuts

    const Maps* inputs = nullptr;        // as many as the op has inputs
    const Maps* input_deltas = nullptr;  // .data null: not wanted
    const bool* accumulate_input_delta = nullptr;
    Maps output;
    Maps delta;

    Index first_image = 0;     // in the batch
    Index images_present = 0;  // 16, fewer in the last block
    Index images_in_batch = 0;
    bool training = false;
    std::uint64_t seed = 0;
    std::uint64_t step = 0;

    // Losses only.
    const std::int64_t* classes = nullptr;
    const float* numbers = nullptr;
    float* losses = nullptr;
};

// The whole batch at a cut, after all blocks were measured.
struct Batch {
    const float* parameters = nullptr;
    float* gradients = nullptr;  // null for a frozen layer
    bool accumulate_gradient = false;
    float* state = nullptr;
    double* statistics = nullptr;  // of block 0; blocks lie statistics_count() apart
    Index blocks = 0;
    Index images = 0;
    bool update_state = false;
};

class Op {
public:
    Op(const Record& record, std::vector<Shape> input_shapes, Shape output_shape)
        : name(record.name),
          kind(record.kind),
          inputs(record.inputs),
          output(record.output),
          trainable(record.trainable),
          input_shapes(std::move(input_shapes)),
          output_shape(output_shape) {}
    virtual ~Op() = default;
    Op(const Op&) = delete;
    Op& operator=(const Op&) = delete;

    std::string name;
    std::string kind;
    std::vector<int> inputs;
    int output;
    bool trainable;
    std::vector<Shape> input_shapes;
    Shape output_shape;

    // Zeros it wants to find around its inputs, and whether it can read inputs that have any.
    virtual Size input_border() const { return {}; }
    virtual bool wants_dense_input() const { return false; }
    virtual bool writes_dense_output() const { return false; }

    virtual std::vector<Place> parameter_places() const { return {}; }
    virtual std::vector<Place> state_places() const { return {}; }

    virtual bool reads_input_in_backward() const { return false; }
    virtual bool reads_output_in_backward() const { return false; }
    virtual Index saved_bytes() const { return 0; }
    // A thread's working memory, of the forward pass or of the backward pass.
    virtual Index scratch_floats(bool backward, bool wants_input_delta) const {
        static_cast<void>(backward), static_cast<void>(wants_input_delta);
        return 0;
    }
    virtual Index packed_floats() const { return 0; }

    // Told once how its inputs and δ of its output lie in memory (data is null); then offsets can be computed.
    virtual void arrange(const std::vector<Maps>& inputs_at, const Maps& delta_at) {
        static_cast<void>(inputs_at);
        static_cast<void>(delta_at);
    }

    // Part `part` of `parts` of packing this step's weights.
    virtual void prepare(const float* parameters, float* packed, bool backward, int part, int parts) const {
        static_cast<void>(parameters), static_cast<void>(packed), static_cast<void>(backward);
        static_cast<void>(part), static_cast<void>(parts);
    }

    virtual void forward(const Block& block) const = 0;
    virtual void backward(const Block& block) const = 0;

    // Takes the activation that alone reads its output, f with a derivative by its own value, into itself; false: it cannot.
    virtual bool can_take_activation() const { return false; }
    virtual void take(ActivationSpec activation) { static_cast<void>(activation); }

    // Whether a team of threads may pass a block together: each calls it with its share. Else one of them does all of it.
    virtual bool shares() const { return false; }
    // Of a pass, `block.phase` one after the other; a team meets after each.
    virtual int phases(bool backward) const {
        static_cast<void>(backward);
        return 1;
    }

    // Layers that need the whole batch before they can go on (batch normalisation in training).
    virtual bool cuts() const { return false; }
    virtual Index statistics_count() const { return 0; }
    virtual void measure(const Block& block) const { static_cast<void>(block); }
    virtual void settle(const Batch& batch) const { static_cast<void>(batch); }
    virtual void measure_backward(const Block& block) const { static_cast<void>(block); }
    virtual void settle_backward(const Batch& batch) const { static_cast<void>(batch); }

    virtual bool is_loss() const { return false; }
    virtual double loss_weight() const { return 0; }
    virtual bool wants_classes() const { return false; }

    // Of the forward pass of a block of 16 images, by the model. `near_bytes`: what stays close to a core; a position
    // (64 bytes) from beyond takes some 3 cycles.
    virtual double cycles(int lanes, double near_bytes) const {
        double total = 0;
        const auto add = [&](const Shape& shape) {
            const auto positions = static_cast<double>(shape.positions());
            total += positions * (kBlock * 1.0 / lanes + (64 * positions > near_bytes ? 3.0 : 0.0));
        };
        for (const Shape& shape : input_shapes) add(shape);
        add(output_shape);
        return total;
    }

    // One line for people.
    virtual std::string describe() const { return name + ": " + kind + " " + text(output_shape); }
};

// Maps of `shape` without a border, at `data`.
inline Maps dense_maps(const Shape& shape, float* data = nullptr) {
    return {data, shape.channels, shape.height, shape.width, shape.width * kBlock, shape.height * shape.width * kBlock};
}

// Floats of so many positions, and of one more where maps would lie a multiple of 4 KiB apart, in the same sets of the
// caches.
inline Index spread(Index positions) { return (positions % 64 == 0 ? positions + 1 : positions) * kBlock; }

inline bool is_dense(const Maps& maps) {
    return maps.row_step == maps.width * kBlock && maps.map_step == maps.height * maps.row_step;
}

inline float* row_of(const Maps& maps, Index map, Index row) {
    return maps.data + map * maps.map_step + row * maps.row_step;
}

// Writes the zeros around `maps` that its border is made of.
void clear_border(const Maps& maps, Size border);

// Zeros in all positions.
void clear_maps(const Maps& maps);

// Zeros in the lanes that no image of the block has: what divides or takes logarithms may leave infinities there, which times
// a δ of 0 would be NaN in the sum of a gradient. This thread's maps.
void clear_absent(const Block& block, const Maps& maps);

// Calls visit(map, row) for all rows, or for those of this thread's maps.
template <class Visit>
void for_rows(const Maps& maps, Visit visit) {
    for (Index map = 0; map < maps.count; ++map)
        for (Index row = 0; row < maps.height; ++row) visit(map, row);
}
template <class Visit>
void for_own_rows(const Block& block, const Maps& maps, Visit visit) {
    const Team::Own own = block.team.of(maps.count);
    for (Index map = own.begin; map < own.end; ++map)
        for (Index row = 0; row < maps.height; ++row) visit(map, row);
}

// This thread's maps.
inline Maps own_maps(const Block& block, Maps maps) {
    const Team::Own own = block.team.of(maps.count);
    if (maps.data) maps.data += own.begin * maps.map_step;
    maps.count = own.size();
    return maps;
}

}  // namespace convscope
