// Layers that look at one position at a time.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "channels/layers.h"

namespace convscope::channels {
namespace {

// Work on whole blocks, row by row; a picture's rows without a border are one.
class Rowwise : public Op {
public:
    Rowwise(const KernelTable& kernels, std::string op_name, const Shape& shape, std::vector<int> op_inputs,
            int op_output)
        : Op(std::move(op_name), std::move(op_inputs), op_output), kernels_(kernels), shape_(shape) {}

    Split split(int, Index pictures, int threads) const override {
        Split split;
        split.pictures = pictures;
        split.groups = groups();
        split.rows = shape_.height;
        const Index wanted = threads == 1 ? 1 : 2 * threads;
        split.group_parts = std::min(split.groups, wanted);
        split.picture_parts = std::clamp<Index>(wanted / split.group_parts, 1, pictures);
        split.row_parts = std::clamp<Index>(wanted / split.group_parts / split.picture_parts, 1, split.rows);
        return split;
    }
    double cycles(Index pictures) const override { return static_cast<double>(pictures * shape_.positions()) / 4; }
    std::string describe() const override { return name + ": " + what() + ", channels-blocked " + text(shape_); }

protected:
    virtual Index groups() const { return blocks_of(shape_.channels, kernels_.lanes); }
    virtual std::string what() const = 0;
    Index lanes() const { return kernels_.lanes; }

    template <class Visit>
    void for_rows(const Part& part, bool whole, Visit visit) const {
        for (Index picture = part.pictures.begin; picture < part.pictures.end; ++picture)
            for (Index row = part.rows.begin; row < part.rows.end; row += whole ? part.rows.size() : 1)
                visit(picture, row, (whole ? part.rows.size() : 1) * shape_.width);
    }

    const KernelTable& kernels_;
    Shape shape_;
};

class Affine final : public Rowwise {
public:
    Affine(const KernelTable& kernels, std::string op_name, const Shape& shape, Folding folding, Finish finish,
           int input, int op_output)
        : Rowwise(kernels, std::move(op_name), shape, {input}, op_output),
          folding_(std::move(folding)),
          finish_(std::move(finish)) {}
    bool works_in_place() const override { return true; }
    void run(int, const Part& part, const Job& job) const override {
        alignas(64) float scale[16], bias[16];
        ChannelAffine affine;
        affine.scale = scale, affine.offset = bias;
        affine.floor = finish_.floor, affine.ceiling = finish_.ceiling;
        const bool whole = job.inputs[0].dense(lanes()) && job.output.dense(lanes());
        for (Index block = part.groups.begin; block < part.groups.end; ++block) {
            const Index first = block * lanes();
            folding_.at(job.parameters, job.state, first, shape_.channels - first, lanes(), scale, bias);
            for_rows(part, whole, [&](Index picture, Index row, Index count) {
                affine.from = job.inputs[0].at(picture, block, row);
                affine.to = job.output.at(picture, block, row);
                affine.count = count;
                kernels_.channel_affine(affine);
                finish_.run(kernels_, affine.to, count * lanes());
            });
        }
    }

protected:
    std::string what() const override { return folding_.empty() ? "activation" : "normalisation"; }

private:
    Folding folding_;
    Finish finish_;
};

class Sum final : public Rowwise {
public:
    Sum(const KernelTable& kernels, std::string op_name, const Shape& shape, Finish finish, std::vector<int> op_inputs,
        int op_output)
        : Rowwise(kernels, std::move(op_name), shape, std::move(op_inputs), op_output), finish_(std::move(finish)) {}
    void run(int, const Part& part, const Job& job) const override {
        bool whole = job.output.dense(lanes());
        for (std::size_t i = 0; i < inputs.size(); ++i) whole = whole && job.inputs[i].dense(lanes());
        for (Index block = part.groups.begin; block < part.groups.end; ++block)
            for_rows(part, whole, [&](Index picture, Index row, Index count) {
                float* const to = job.output.at(picture, block, row);
                const float* sum = job.inputs[0].at(picture, block, row);
                for (std::size_t i = 1; i < inputs.size(); ++i) {
                    const bool last = i + 1 == inputs.size();
                    const Finish bounds = last ? finish_ : Finish{};
                    kernels_.channel_add(sum, job.inputs[i].at(picture, block, row), to, bounds.floor, bounds.ceiling,
                                         count);
                    sum = to;
                }
                finish_.run(kernels_, to, count * lanes());
            });
    }

protected:
    std::string what() const override { return "sum"; }

private:
    Finish finish_;
};

class Copy final : public Rowwise {
public:
    Copy(const KernelTable& kernels, std::string op_name, const Shape& shape, Index first, int input, int op_output)
        : Rowwise(kernels, std::move(op_name), shape, {input}, op_output), first_(first) {}
    void run(int, const Part& part, const Job& job) const override {
        const Tensor &from = job.inputs[0], &to = job.output;
        for_rows(part, false, [&](Index picture, Index row, Index count) {
            if (first_ % lanes() == 0)
                for (Index block = 0; block < shape_.channels / lanes(); ++block)
                    std::memcpy(to.at(picture, first_ / lanes() + block, row), from.at(picture, block, row),
                                static_cast<std::size_t>(count * lanes()) * sizeof(float));
            const Index copied = first_ % lanes() == 0 ? shape_.channels / lanes() * lanes() : 0;
            for (Index channel = copied; channel < shape_.channels; ++channel) {
                const float* source = from.at(picture, channel / lanes(), row) + channel % lanes();
                const Index place = first_ + channel;
                float* target = to.at(picture, place / lanes(), row) + place % lanes();
                for (Index i = 0; i < count; ++i) target[i * lanes()] = source[i * lanes()];
            }
            // What fills the last block up.
            const Index end = first_ + shape_.channels;
            if (end == to.channels)
                for (Index place = end; place < rounded_up(end, lanes()); ++place)
                    for (Index i = 0; i < count; ++i)
                        to.at(picture, place / lanes(), row)[i * lanes() + place % lanes()] = 0;
        });
    }

protected:
    Index groups() const override { return 1; }
    std::string what() const override { return "copy"; }

private:
    Index first_;
};

// Each channel is one of the input's, multiplied by its weight.
class Selection final : public Rowwise {
public:
    Selection(const KernelTable& kernels, ConvolutionSpec spec, int input, int op_output)
        : Rowwise(kernels, spec.name, spec.filter.output, {input}, op_output), spec_(std::move(spec)) {}
    void run(int, const Part& part, const Job& job) const override {
        alignas(64) float scale[16], bias[16];
        ChannelAffine affine;
        affine.scale = scale, affine.offset = bias;
        affine.floor = spec_.finish.floor, affine.ceiling = spec_.finish.ceiling;
        const Tensor &from = job.inputs[0], &to = job.output;
        for (Index block = part.groups.begin; block < part.groups.end; ++block) {
            const Index first = block * lanes(), present = std::min(lanes(), shape_.channels - first);
            spec_.folding.at(job.parameters, job.state, first, present, lanes(), scale, bias);
            for (Index lane = 0; lane < present; ++lane)
                scale[lane] *= job.parameters[spec_.filter.weight.offset + first + lane];
            for_rows(part, false, [&](Index picture, Index row, Index count) {
                float* const out = to.at(picture, block, row);
                for (Index lane = 0; lane < lanes(); ++lane) {
                    const Index source =
                        lane < present ? spec_.filter.sources[static_cast<std::size_t>(first + lane)][0] : 0;
                    const float* in = from.at(picture, source / lanes(), row) + source % lanes();
                    for (Index i = 0; i < count; ++i) out[i * lanes() + lane] = lane < present ? in[i * lanes()] : 0.0f;
                }
                affine.from = affine.to = out;
                affine.count = count;
                kernels_.channel_affine(affine);
                spec_.finish.run(kernels_, out, count * lanes());
            });
        }
    }

protected:
    std::string what() const override { return "selection of channels"; }

private:
    ConvolutionSpec spec_;
};

class Softmax final : public Rowwise {
public:
    Softmax(const KernelTable& kernels, std::string op_name, Index classes, int input, int op_output)
        : Rowwise(kernels, std::move(op_name), {classes, 1, 1}, {input}, op_output) {}
    bool works_in_place() const override { return true; }
    void run(int, const Part& part, const Job& job) const override {
        const Index classes = shape_.channels;
        for (Index picture = part.pictures.begin; picture < part.pictures.end; ++picture) {
            const float* const x = job.inputs[0].at(picture, 0, 0);
            float* const y = job.output.at(picture, 0, 0);
            float largest = x[0], total = 0;
            for (Index i = 0; i < classes; ++i) largest = std::max(largest, x[i]);
            for (Index i = 0; i < classes; ++i) total += y[i] = std::exp(x[i] - largest);
            for (Index i = 0; i < classes; ++i) y[i] /= total;
            std::fill(y + classes, y + rounded_up(classes, lanes()), 0.0f);
        }
    }

protected:
    Index groups() const override { return 1; }
    std::string what() const override { return "softmax"; }
};

class ResponseNorm final : public Rowwise {
public:
    ResponseNorm(const KernelTable& kernels, const Record& record, const Shape& shape, int input, int op_output)
        : Rowwise(kernels, record.name, shape, {input}, op_output) {
        Attributes read(record);
        norm_.size = read.whole("size", 1);
        norm_.alpha = static_cast<float>(read.number("alpha", 1e-4));
        norm_.beta = static_cast<float>(read.number("beta", 0.75));
        norm_.k = static_cast<float>(read.number("k", 1));
        norm_.channels = shape.channels;
        norm_.scratch_floats = rounded_up(shape.channels + norm_.size, lanes()) + lanes();
    }
    Index scratch_floats(Index, int) const override { return norm_.scratch_floats; }
    double cycles(Index pictures) const override { return static_cast<double>(pictures * shape_.positions()) * 6; }
    void run(int, const Part& part, const Job& job) const override {
        ChannelNorm norm = norm_;
        norm.block_step = job.inputs[0].block_step;
        norm.to_block_step = job.output.block_step;
        norm.squares = job.scratch;
        for_rows(part, false, [&](Index picture, Index row, Index count) {
            norm.from = job.inputs[0].at(picture, 0, row);
            norm.to = job.output.at(picture, 0, row);
            norm.count = count;
            kernels_.channel_response_norm(norm);
        });
    }

protected:
    Index groups() const override { return 1; }
    std::string what() const override { return "response normalisation"; }

private:
    ChannelNorm norm_;
};

}  // namespace

OpPointer make_affine(const KernelTable& kernels, std::string name, const Shape& shape, Folding folding, Finish finish,
                      int input, int output) {
    return std::make_unique<Affine>(kernels, std::move(name), shape, std::move(folding), std::move(finish), input,
                                    output);
}

OpPointer make_sum(const KernelTable& kernels, std::string name, const Shape& shape, Finish finish,
                   std::vector<int> inputs, int output) {
    return std::make_unique<Sum>(kernels, std::move(name), shape, std::move(finish), std::move(inputs), output);
}

OpPointer make_copy(const KernelTable& kernels, std::string name, const Shape& shape, Index first, int input,
                    int output) {
    return std::make_unique<Copy>(kernels, std::move(name), shape, first, input, output);
}

OpPointer make_selection(const KernelTable& kernels, ConvolutionSpec spec, int input, int output) {
    return std::make_unique<Selection>(kernels, std::move(spec), input, output);
}

OpPointer make_softmax(const KernelTable& kernels, std::string name, Index classes, int input, int output) {
    return std::make_unique<Softmax>(kernels, std::move(name), classes, input, output);
}

OpPointer make_response_norm(const KernelTable& kernels, const Record& record, const Shape& shape, int input,
                             int output) {
    return std::make_unique<ResponseNorm>(kernels, record, shape, input, output);
}

}  // namespace convscope::channels
