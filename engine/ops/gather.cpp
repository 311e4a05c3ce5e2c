// Positions in another order or under another shape.
#include <algorithm>
#include <cstring>

#include "ops/layers.h"

namespace convscope {
namespace {

// Walks over the positions of maps in order, row by row.
class Walk {
public:
    explicit Walk(const Maps& maps) : maps_(maps) {}

    float* at() const { return row_of(maps_, map_, row_) + column_ * kBlock; }
    Index left_in_row() const { return maps_.width - column_; }
    void on(Index positions) {  // left_in_row() at most
        column_ += positions;
        if (column_ < maps_.width) return;
        column_ = 0;
        if (++row_ < maps_.height) return;
        row_ = 0;
        ++map_;
    }

private:
    const Maps& maps_;
    Index map_ = 0, row_ = 0, column_ = 0;
};

void copy(const float* from, float* to, Index positions) {
    std::memcpy(to, from, static_cast<std::size_t>(positions * kBlock) * sizeof(float));
}

// The same positions in the same order. Where neither side wants a border it costs nothing (graph/build.cpp).
class Reshape final : public Op {
public:
    Reshape(const Record& record, const Shape& input, const Shape& output) : Op(record, {input}, output) {}
    void forward(const Block& block) const override {
        move(block.inputs[0], block.output, [](const float* from, float* to, Index count) { copy(from, to, count); });
    }
    void backward(const Block& block) const override {
        const bool accumulate = block.accumulate_input_delta[0];
        move(block.delta, block.input_deltas[0], [&](const float* from, float* to, Index count) {
            block.kernels->spread_row(1.0f, from, kBlock, to, count, accumulate);
        });
    }

private:
    template <class Move>
    void move(const Maps& from, const Maps& to, Move move) const {
        Walk source(from), target(to);
        for (Index left = output_shape.positions(); left > 0;) {
            const Index count = std::min(source.left_in_row(), target.left_in_row());
            move(source.at(), target.at(), count);
            source.on(count);
            target.on(count);
            left -= count;
        }
    }
};

// y[i_1, i_2, …] = x[offset + Σ i_k stride_k], positions counted through the whole input, through the output in the order of
// the sides: what a view of a tensor is. Permutes, slices, repeats (stride 0), flips (negative strides).
class Gather final : public Op {
public:
    Gather(const Record& record, const Shape& input, const Shape& output, std::vector<Index> sizes,
           std::vector<Index> strides, Index offset)
        : Op(record, {input}, output), sizes_(std::move(sizes)), strides_(std::move(strides)), offset_(offset) {
        // Neighbouring sides that lie one behind the other are one side; the last one is the run that is moved at once.
        for (std::size_t k = sizes_.size(); k-- > 1;)
            if (strides_[k - 1] == sizes_[k] * strides_[k]) {
                sizes_[k - 1] *= sizes_[k];
                strides_[k - 1] = strides_[k];
                sizes_.erase(sizes_.begin() + static_cast<std::ptrdiff_t>(k));
                strides_.erase(strides_.begin() + static_cast<std::ptrdiff_t>(k));
            }
        bool injective = true;
        Index covered = 1;
        for (std::size_t k = 0; k < sizes_.size(); ++k) {
            injective = injective && (strides_[k] != 0 || sizes_[k] == 1);
            covered *= sizes_[k];
        }
        covers_ = injective && covered == input.positions();
    }

    bool wants_dense_input() const override { return true; }

    void forward(const Block& block) const override {
        const float* const x = block.inputs[0].data;
        walk(block.output, [&](Index from, Index step, float* to, Index count) {
            if (step == 1) return copy(x + from * kBlock, to, count);
            for (Index i = 0; i < count; ++i) copy(x + (from + i * step) * kBlock, to + i * kBlock, 1);
        });
    }

    // Views do not overlap themselves but by strides of 0, so that δ of one that covers the input can be written at once.
    void backward(const Block& block) const override {
        const bool accumulate = block.accumulate_input_delta[0] || !covers_;
        if (!covers_ && !block.accumulate_input_delta[0]) clear_maps(block.input_deltas[0]);
        float* const x = block.input_deltas[0].data;
        walk(block.delta, [&](Index from, Index step, const float* delta, Index count) {
            if (step == 1) return block.kernels->spread_row(1.0f, delta, kBlock, x + from * kBlock, count, accumulate);
            for (Index i = 0; i < count; ++i)
                block.kernels->spread_row(1.0f, delta + i * kBlock, kBlock, x + (from + i * step) * kBlock, 1, accumulate);
        });
    }

private:
    // visit(input position, its step, row of `maps`, how many): runs along the last side, cut at the ends of rows.
    template <class Visit>
    void walk(const Maps& maps, Visit visit) const {
        Walk target(maps);
        const std::size_t sides = sizes_.size();
        const Index run = sizes_.back(), step = strides_.back();
        Index at[kMostSides] = {};
        Index from = offset_;
        for (Index left = output_shape.positions(); left > 0; left -= run) {
            for (Index done = 0; done < run;) {
                const Index count = std::min(run - done, target.left_in_row());
                visit(from + done * step, step, target.at(), count);
                target.on(count);
                done += count;
            }
            for (std::size_t k = sides - 1; k-- > 0;) {
                from += strides_[k];
                if (++at[k] < sizes_[k]) break;
                from -= sizes_[k] * strides_[k];
                at[k] = 0;
            }
        }
    }

public:
    static constexpr std::size_t kMostSides = 12;

private:
    std::vector<Index> sizes_, strides_;
    Index offset_;
    bool covers_ = false;
};

}  // namespace

OpPointer make_reshape(const Record& record, const Shape& input) {
    Attributes read(record);
    const Shape output = read.shape("shape");
    read.finish();
    if (output.positions() != input.positions())
        refuse(record, "cannot give " + text(input) + " the shape " + text(output));
    return std::make_unique<Reshape>(record, input, output);
}

OpPointer make_gather(const Record& record, const Shape& input) {
    Attributes read(record);
    const Shape output = read.shape("shape");
    const std::vector<Index> sizes = read.wholes("sizes", 1), strides = read.wholes("strides", -input.positions());
    const Index offset = read.whole("offset", 0, 0);
    read.finish();
    if (sizes.empty() || sizes.size() > Gather::kMostSides || sizes.size() != strides.size())
        refuse(record, "wants as many strides as sizes, 1 to " + std::to_string(Gather::kMostSides));
    Index positions = 1, lowest = offset, highest = offset;
    for (std::size_t k = 0; k < sizes.size(); ++k) {
        positions *= sizes[k];
        (strides[k] < 0 ? lowest : highest) += (sizes[k] - 1) * strides[k];
    }
    if (positions != output.positions())
        refuse(record, "its sizes are not those of " + text(output));
    if (lowest < 0 || highest >= input.positions())
        refuse(record, "reads positions " + std::to_string(lowest) + " to " + std::to_string(highest) + " of " +
                           std::to_string(input.positions()));
    return std::make_unique<Gather>(record, input, output, sizes, strides, offset);
}

}  // namespace convscope
