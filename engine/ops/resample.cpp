// Layers whose output positions read rows × columns of the input that tables name.
#include <algorithm>
#include <cstring>

#include "ops/layers.h"

namespace convscope {
namespace {

// The table of one side. A position without sources is 0.
class Side {
public:
    Side(const Record& record, Attributes& read, const std::string& name, Index input, bool weighted) {
        const auto* const lists = read.table(name + "_sources");
        if (!lists) refuse(record, "attribute '" + name + "_sources' is missing");
        const std::vector<double> weights = weighted ? read.numbers(name + "_weights") : std::vector<double>{};
        for (const auto& sources : *lists) {
            first_.push_back(static_cast<Index>(source_.size()));
            for (const Index source : sources) {
                if (source < 0 || source >= input || source > 32767)
                    refuse(record, "attribute '" + name + "_sources' names " + std::to_string(source) + ", there are " +
                                       std::to_string(input));
                source_.push_back(source);
            }
        }
        first_.push_back(static_cast<Index>(source_.size()));
        if (!weights.empty() && weights.size() != source_.size())
            refuse(record, "attribute '" + name + "_weights' wants one number a source, " +
                               std::to_string(source_.size()));
        for (const double weight : weights) weight_.push_back(static_cast<float>(weight));
        const auto is_one = [](float weight) { return weight == 1.0f; };
        if (std::all_of(weight_.begin(), weight_.end(), is_one)) weight_.clear();
    }

    Index size() const { return static_cast<Index>(first_.size()) - 1; }
    Index taps(Index position) const { return first_[at(position) + 1] - first_[at(position)]; }
    Index source(Index position) const { return source_[at(first_[at(position)])]; }  // the first
    // Each position is a source as it is, or 0.
    bool copies() const {
        for (Index position = 0; position < size(); ++position)
            if (taps(position) > 1) return false;
        return weight_.empty();
    }
    bool complete() const {
        for (Index position = 0; position < size(); ++position)
            if (taps(position) == 0) return false;
        return true;
    }
    Taps table() const { return {first_.data(), source_.data(), weight_.empty() ? nullptr : weight_.data()}; }

private:
    static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
    std::vector<Index> first_, source_;
    std::vector<float> weight_;
};

// Neighbouring columns of the output that are neighbours in the input, or zeros.
struct Run {
    Index to, from, count;  // from −1: zeros
};

std::vector<Run> runs_of(const Side& columns) {
    std::vector<Run> runs;
    for (Index column = 0; column < columns.size(); ++column) {
        const Index from = columns.taps(column) == 0 ? -1 : columns.source(column);
        if (!runs.empty()) {
            Run& last = runs.back();
            if (from < 0 ? last.from < 0 : last.from >= 0 && from == last.from + last.count) {
                ++last.count;
                continue;
            }
        }
        runs.push_back({column, from, 1});
    }
    return runs;
}

// Resizing, padding, cropping, adaptive mean pooling: y(r, c) = Σ_i Σ_j w_i w_j x(r_i, c_j).
class ResampleLayer final : public Op {
public:
    ResampleLayer(const Record& record, const Shape& input, Side rows, Side columns)
        : Op(record, {input}, {input.channels, rows.size(), columns.size()}),
          rows_(std::move(rows)),
          columns_(std::move(columns)),
          copies_(rows_.copies() && columns_.copies()),
          runs_(copies_ ? runs_of(columns_) : std::vector<Run>{}) {}

    void forward(const Block& block) const override {
        if (!copies_) return block.kernels->resample({block.inputs[0], block.output, rows_.table(), columns_.table()});
        for_rows(block.output, [&](Index map, Index row) {
            float* const to = row_of(block.output, map, row);
            const float* const from =
                rows_.taps(row) == 0 ? nullptr : row_of(block.inputs[0], map, rows_.source(row));
            for (const Run& run : runs_) {
                const auto bytes = static_cast<std::size_t>(run.count * kBlock) * sizeof(float);
                if (from && run.from >= 0) std::memcpy(to + run.to * kBlock, from + run.from * kBlock, bytes);
                else std::memset(to + run.to * kBlock, 0, bytes);
            }
        });
    }

    void backward(const Block& block) const override {
        const Maps& to = block.input_deltas[0];
        if (!block.accumulate_input_delta[0]) clear_maps(to);
        if (!copies_) return block.kernels->resample_back({block.delta, to, rows_.table(), columns_.table()});
        for_rows(block.delta, [&](Index map, Index row) {
            if (rows_.taps(row) == 0) return;
            const float* const delta = row_of(block.delta, map, row);
            float* const line = row_of(to, map, rows_.source(row));
            for (const Run& run : runs_)
                if (run.from >= 0)
                    block.kernels->scale_add(1.0f, delta + run.to * kBlock, line + run.from * kBlock, run.count);
        });
    }

private:
    Side rows_, columns_;
    bool copies_;
    std::vector<Run> runs_;
};

// Maximum pooling over windows of any rows and columns: adaptive, dilated.
class MaxWindowsLayer final : public Op {
public:
    MaxWindowsLayer(const Record& record, const Shape& input, Side rows, Side columns)
        : Op(record, {input}, {input.channels, rows.size(), columns.size()}),
          rows_(std::move(rows)),
          columns_(std::move(columns)) {}

    Index saved_bytes() const override { return output_shape.positions() * kBlock * 4; }

    void forward(const Block& block) const override {
        MaxWindows a = arguments(block);
        a.input = block.inputs[0];
        a.output = block.output;
        block.kernels->max_windows(a);
    }
    void backward(const Block& block) const override {
        MaxWindows a = arguments(block);
        a.delta = block.delta;
        a.input_delta = block.input_deltas[0];
        if (!block.accumulate_input_delta[0]) clear_maps(a.input_delta);
        block.kernels->max_windows_back(a);
    }

private:
    MaxWindows arguments(const Block& block) const {
        MaxWindows a;
        a.rows = rows_.table();
        a.columns = columns_.table();
        a.winner = reinterpret_cast<std::int32_t*>(block.saved);
        return a;
    }
    Side rows_, columns_;
};

}  // namespace

OpPointer make_resample(const Record& record, const Shape& input) {
    Attributes read(record);
    Side rows(record, read, "row", input.height, true), columns(record, read, "column", input.width, true);
    read.finish();
    return std::make_unique<ResampleLayer>(record, input, std::move(rows), std::move(columns));
}

OpPointer make_max_windows(const Record& record, const Shape& input) {
    Attributes read(record);
    Side rows(record, read, "row", input.height, false), columns(record, read, "column", input.width, false);
    read.finish();
    if (!rows.complete() || !columns.complete()) refuse(record, "a window without sources has no maximum");
    return std::make_unique<MaxWindowsLayer>(record, input, std::move(rows), std::move(columns));
}

}  // namespace convscope
