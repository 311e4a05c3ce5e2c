#include "channels/choice.h"

#include <algorithm>

#include "channels/depthwise.h"
#include "channels/winograd.h"
#include "ops/winograd.h"

namespace convscope::channels {
namespace {

// Several ways of one convolution; each number of pictures has its own.
class Ways final : public Op {
public:
    explicit Ways(std::vector<OpPointer> ways)
        : Op(ways[0]->name, ways[0]->inputs, ways[0]->output), ways_(std::move(ways)) {
        for (Index pictures = 1; pictures <= kMostPictures; ++pictures) cheapest_.push_back(cheapest(pictures));
    }

    Size input_border() const override {
        Size border;
        for (const OpPointer& way : ways_) {
            border.y = std::max(border.y, way->input_border().y);
            border.x = std::max(border.x, way->input_border().x);
        }
        return border;
    }
    void arrange(const std::vector<Tensor>& inputs_at, const Tensor& output_at, const Tensor& skip_at) override {
        for (const OpPointer& way : ways_) {
            way->skip = skip;
            way->arrange(inputs_at, output_at, skip_at);
        }
    }
    int phases(Index pictures) const override { return of(pictures).phases(pictures); }
    Split split(int phase, Index pictures, int threads) const override {
        return of(pictures).split(phase, pictures, threads);
    }
    void run(int phase, const Part& part, const Job& job) const override { of(job.pictures).run(phase, part, job); }
    Index shared_floats(Index pictures) const override { return of(pictures).shared_floats(pictures); }
    Index scratch_floats(Index pictures, int threads) const override {
        return of(pictures).scratch_floats(pictures, threads);
    }
    double cycles(Index pictures) const override { return of(pictures).cycles(pictures); }
    std::string describe() const override {
        std::string lines = of(1).describe();
        if (&of(16) != &of(1)) lines += "; of 16 pictures " + of(16).describe();
        return lines;
    }

private:
    const Op* cheapest(Index pictures) const {
        const auto found = std::min_element(ways_.begin(), ways_.end(), [&](const OpPointer& a, const OpPointer& b) {
            return a->cycles(pictures) < b->cycles(pictures);
        });
        return found->get();
    }
    const Op& of(Index pictures) const {
        return *cheapest_[static_cast<std::size_t>(std::clamp<Index>(pictures, 1, kMostPictures) - 1)];
    }

    std::vector<const Op*> cheapest_;  // by pictures − 1
    std::vector<OpPointer> ways_;
};

}  // namespace

OpPointer make_convolution(const KernelTable& kernels, ConvolutionSpec spec, int input, int output, bool planar) {
    const Filter& filter = spec.filter;
    if (filter.is_linear()) {
        LinearSpec linear;
        linear.name = spec.name;
        linear.inputs = filter.input.positions(), linear.outputs = filter.output.channels;
        linear.weight = filter.weight;
        linear.folding = spec.folding, linear.finish = spec.finish;
        return make_linear(kernels, std::move(linear), input, output);
    }
    if (filter.is_selection()) return make_selection(kernels, std::move(spec), input, output);
    if (filter.is_depthwise()) return std::make_unique<Depthwise>(kernels, std::move(spec), input, output);
    const WinogradUse use = winograd_use();
    std::vector<OpPointer> ways;
    const bool winograd = Winograd::fits(filter) && !planar && use != WinogradUse::never;
    if (!winograd || use == WinogradUse::where_quicker)
        ways.push_back(std::make_unique<Direct>(kernels, spec, input, output, planar));
    if (winograd)
        for (const int m : {2, 4}) ways.push_back(std::make_unique<Winograd>(kernels, spec, m, input, output));
    // A way that no number of pictures takes is none, and its border of zeros is not wanted either.
    std::vector<bool> taken(ways.size(), false);
    for (const Index pictures : {1, 2, 4, 8, 16}) {
        std::size_t best = 0;
        for (std::size_t i = 1; i < ways.size(); ++i)
            if (ways[i]->cycles(pictures) < ways[best]->cycles(pictures)) best = i;
        taken[best] = true;
    }
    for (std::size_t i = ways.size(); i-- > 0;)
        if (!taken[i]) ways.erase(ways.begin() + static_cast<std::ptrdiff_t>(i));
    if (ways.size() == 1) return std::move(ways[0]);
    return std::make_unique<Ways>(std::move(ways));
}

}  // namespace convscope::channels
