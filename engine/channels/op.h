// A layer in the channels-blocked layout: work on some pictures that falls into items, which any threads take.
//
// An Op is immutable once built and shared by all threads. It holds no weights: every call reads torch's own and turns
// them into panels on the way to the registers, so that a changed parameter cannot be missed. Turning 256 weights takes
// some 80 cycles and their use at 49 positions 400; a kept copy would have to be compared with the original, which costs
// the same read of memory, and be read itself.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "channels/folding.h"
#include "kernels/table.h"
#include "ops/record.h"

namespace convscope::channels {

// Where a value lies: `data` is lane 0 of row 0, column 0 of its first block, of the first picture.
struct Tensor {
    float* data = nullptr;
    Index channels = 0, height = 0, width = 0;
    Index row_step = 0, block_step = 0, picture_step = 0;
    bool planar = false;  // [channel][row][column]: block_step is between channels

    float* at(Index picture, Index block, Index row) const {
        return data + picture * picture_step + block * block_step + row * row_step;
    }
    // Rows follow each other without a border.
    bool dense(Index lanes) const { return row_step == width * lanes; }
};

struct Range {
    Index begin = 0, end = 0;
    Index size() const { return end - begin; }
};

// Part `part` of `parts` of 0 … count.
inline Range share(Index count, Index part, Index parts) { return {count * part / parts, count * (part + 1) / parts}; }

// The work of one phase, cut along pictures, groups of channels and rows.
struct Split {
    Index pictures = 1, groups = 1, rows = 1;                 // there are
    Index picture_parts = 1, group_parts = 1, row_parts = 1;  // they are cut into
    Index items() const { return picture_parts * group_parts * row_parts; }
};

struct Part {
    Range pictures, groups, rows;
};
Part largest_part(const Split& split);
// Neighbouring items share their pictures and rows, and read the same input.
Part part_of(const Split& split, Index item);

struct Pictures {
    const float* floats = nullptr;  // one of the two, of the pass's first picture
    const std::uint8_t* bytes = nullptr;
    const float* scale = nullptr;  // by channel, with bytes
    const float* offset = nullptr;
};

// What an op is given to work on.
struct Job {
    const KernelTable* kernels = nullptr;
    const float* parameters = nullptr;
    const float* state = nullptr;
    const Tensor* inputs = nullptr;
    Tensor output;
    Tensor skip;  // data null: none
    Index pictures = 0;
    int threads = 1;
    float* shared = nullptr;   // of all threads, from the op's first phase to its last
    float* scratch = nullptr;  // this thread's
    Pictures source;           // the input only
    float* target = nullptr;   // outputs only, of the pass's first picture
};

class Either;

class Op {
public:
    Op(std::string op_name, std::vector<int> op_inputs, int op_output)
        : name(std::move(op_name)), inputs(std::move(op_inputs)), output(op_output) {}
    virtual ~Op() = default;
    Op(const Op&) = delete;
    Op& operator=(const Op&) = delete;

    std::string name;
    std::vector<int> inputs;  // values
    int output;               // −1: writes what the caller gave
    int skip = -1;            // a value that is added

    // Zeros it wants around the maps it reads, and whether it reads planes of single channels.
    virtual Size input_border() const { return {}; }
    virtual bool reads_planes() const { return false; }
    // The output may take the place of input 0 where nobody else reads that.
    virtual bool works_in_place() const { return false; }

    // Told once how everything lies in memory (data is null); then offsets can be computed.
    virtual void arrange(const std::vector<Tensor>& inputs_at, const Tensor& output_at, const Tensor& skip_at) {
        static_cast<void>(inputs_at), static_cast<void>(output_at), static_cast<void>(skip_at);
    }

    virtual int phases(Index pictures) const {
        static_cast<void>(pictures);
        return 1;
    }
    // The phases follow each other; what comes of one is there in the next.
    virtual Split split(int phase, Index pictures, int threads) const = 0;
    virtual void run(int phase, const Part& part, const Job& job) const = 0;
    virtual Index shared_floats(Index pictures) const {
        static_cast<void>(pictures);
        return 0;
    }
    virtual Index scratch_floats(Index pictures, int threads) const {
        static_cast<void>(pictures), static_cast<void>(threads);
        return 0;
    }
    // Of one thread for all its work, by a model: to choose between ways, and to decide on threads.
    virtual double cycles(Index pictures) const = 0;
    virtual std::string describe() const = 0;
    // Itself, where it is two ways of which one is to be chosen by measurement.
    virtual Either* either() { return nullptr; }
    // Whether so many pictures are multiplied in low precision.
    virtual bool rounds(Index pictures, int threads) {
        static_cast<void>(pictures), static_cast<void>(threads);
        return false;
    }
};

using OpPointer = std::unique_ptr<Op>;

// Pictures that go through the network together. More of them use a layer's kernels longer, and need more memory.
inline constexpr Index kMostPictures = 16;

inline Index rounded_up(Index count, Index multiple) { return (count + multiple - 1) / multiple * multiple; }
inline Index blocks_of(Index channels, Index lanes) { return (channels + lanes - 1) / lanes; }

// Pieces of about `least` units of work each, but no more than there are units.
inline Index parts_for(Index count, double units, double least) {
    const auto wanted = static_cast<Index>(units / least);
    return wanted < 1 ? 1 : wanted > count ? count : wanted;
}

}  // namespace convscope::channels
