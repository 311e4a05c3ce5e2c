#include "graph/network.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "channels/known.h"
#include "dispatch/isa.h"

namespace convscope {

Network::Network(const Shape& input, std::vector<Record> records, std::vector<int> outputs, Index parameter_count,
                 Index state_count, const std::string& layout, std::optional<channels::LowOptions> low)
    : kernels_(kernels()),
      input_(input),
      records_(records),
      outputs_(outputs),
      low_(std::move(low)),
      graph_(build_graph(kernels_, input, std::move(records), std::move(outputs), parameter_count, state_count)),
      obstacle_(channels::obstacle(input, records_, outputs_)) {
    lay_out();
    for (const OpPointer& op : graph_.ops) {
        if (!op->is_loss()) continue;
        (op->wants_classes() ? wants_classes_ : wants_numbers_) = true;
        if (op->wants_classes()) continue;
        if (target_numbers_ != 0 && target_numbers_ != op->output_shape.positions())
            throw std::invalid_argument(op->name + ": losses with float targets want outputs of one size");
        target_numbers_ = op->output_shape.positions();
    }
    if (wants_classes_ && wants_numbers_)
        throw std::invalid_argument(
            "records: losses on class indices and losses on numbers cannot share their targets");
    layout_ = layout_of(layout, has_loss());
    if (layout_ == Layout::channels && !obstacle_.empty())
        throw std::invalid_argument("layout is 'channels', which has no " + obstacle_ + "; take auto or images");
    op_cycles_ = op_cycles(graph_, kernels_);
    block_cycles_ = std::accumulate(op_cycles_.begin(), op_cycles_.end(), 0.0);
    identity_ = identity_of(graph_, kernels_);
    if (low_) identity_ ^= std::hash<std::string>{}(low_->kernels.way + (low_->everywhere ? " everywhere" : ""));
    if (!has_loss() && layout_ != Layout::images && obstacle_.empty()) graph_.ops.clear();
}

void Network::lay_out() {
    packed_offset_.clear(), statistics_offset_.clear(), loss_number_.clear();
    packed_floats_ = statistics_doubles_ = 0;
    losses_ = 0;
    for (const OpPointer& op : graph_.ops) {
        packed_offset_.push_back(packed_floats_);
        packed_floats_ += (op->packed_floats() + kBlock - 1) / kBlock * kBlock;
        statistics_offset_.push_back(statistics_doubles_);
        statistics_doubles_ += op->statistics_count();
        loss_number_.push_back(op->is_loss() ? losses_++ : -1);
    }
}

// With the ops come the values they go by: which layers are fused depends on the environment. The rest of the graph is
// what it was, and may be read by others meanwhile.
void Network::want_ops() {
    if (!graph_.ops.empty()) return;
    Graph made = build_graph(kernels_, input_, records_, outputs_, graph_.parameter_count, graph_.state_count);
    graph_.ops = std::move(made.ops);
    graph_.values = std::move(made.values);
    graph_.shares_parameters = std::move(made.shares_parameters);
    lay_out();
}

const Program& Network::program_for(Mode mode) {
    const auto found = programs_.find(mode);
    if (found != programs_.end()) return found->second;
    return programs_.emplace(mode, make_program(graph_, mode)).first->second;
}

void Network::reserve(const Program& program, Index blocks, int threads) {
    while (static_cast<int>(arenas_.size()) < threads) arenas_.emplace_back();
    while (static_cast<int>(thread_gradients_.size()) < threads) thread_gradients_.emplace_back();
    for (int thread = 0; thread < threads; ++thread) {
        arenas_[static_cast<std::size_t>(thread)].reserve(program.arena_floats);
        if (thread > 0 && program.mode.backward)
            thread_gradients_[static_cast<std::size_t>(thread)].reserve(graph_.parameter_count);
    }
    blocks_.reserve(program.block_floats * blocks);
    packed_.reserve(packed_floats_);
    statistics_.resize(static_cast<std::size_t>(statistics_doubles_ * blocks));
    loss_values_.reserve(losses_ * blocks * kBlock);
}

channels::Network& Network::channels() {
    if (!channels_)
        channels_ = std::make_unique<channels::Network>(kernels_, input_shape(), records_, outputs_,
                                                        low_ ? &*low_ : nullptr);
    return *channels_;
}

const LayoutChoice& Network::choice_for(Index pictures, int threads, bool training) {
    static const LayoutChoice by_images{false, true}, by_channels{true, true};
    if (training || layout_ == Layout::images || !obstacle_.empty()) return by_images;
    if (layout_ == Layout::channels) return by_channels;
    LayoutChoice& choice = choices_[{pictures, threads}];
    if (choice.sure) return choice;
    if (layout_ == Layout::measured && find_measured(identity_, pictures, threads, choice)) return choice;
    if (choice.images_cost == 0) choice = modelled_choice(block_cycles_, channels(), pictures, threads);
    return choice;
}

void Network::forward_by_channels(const Call& call) {
    const std::scoped_lock lock(guard_);
    channels::Evaluation evaluation;
    evaluation.parameters = call.parameters;
    evaluation.state = call.state;
    evaluation.pictures = {call.images.floats, call.images.bytes, call.images.scale.data(), call.images.offset.data()};
    evaluation.count = call.images.count;
    evaluation.outputs = call.outputs;
    evaluation.threads = call.threads;
    channels().forward(evaluation);
}

void Network::forward(const Call& call) {
    LayoutChoice choice;
    {
        const std::scoped_lock lock(guard_);
        choice = choice_for(call.images.count, call.threads, call.training);
    }
    if (layout_ == Layout::measured && !choice.sure) {
        const auto seconds_of = [&](auto way) {
            const auto begun = std::chrono::steady_clock::now();
            (this->*way)(call);
            return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
        };
        measure(identity_, call.images.count, call.threads, [&] { return seconds_of(&Network::forward_by_images); },
                [&] { return seconds_of(&Network::forward_by_channels); });
        return;
    }
    if (choice.channels) forward_by_channels(call);
    else forward_by_images(call);
}

std::string Network::describe(Index pictures, int threads, bool training) {
    const std::scoped_lock lock(guard_);
    const LayoutChoice choice = choice_for(pictures, threads, training);
    std::string lines;
    if (training) lines = "layout: images innermost, as training has no other\n";
    else if (!obstacle_.empty()) lines = "layout: images innermost, as the other has no " + obstacle_ + "\n";
    else if (layout_ == Layout::images || layout_ == Layout::channels)
        lines = std::string("layout: ") + (choice.channels ? "channels" : "images") + " innermost, as asked\n";
    else lines = choice.text() + (layout_ == Layout::measured && !choice.sure ? ", to be measured\n" : "\n");
    if (choice.channels) return lines + channels().describe();
    want_ops();
    for (const OpPointer& op : graph_.ops) lines += op->describe() + "\n";
    return lines;
}

std::vector<std::string> Network::low_layers(Index pictures, int threads) {
    const std::scoped_lock lock(guard_);
    if (!low_ || !choice_for(pictures, threads, false).channels) return {};
    return channels().low_layers(pictures, threads);
}

Index Network::memory_bytes() {
    const std::scoped_lock lock(guard_);
    Index floats = blocks_.floats() + packed_.floats();
    for (const Buffer& each : arenas_) floats += each.floats();
    for (const Buffer& each : thread_gradients_) floats += each.floats();
    return floats * static_cast<Index>(sizeof(float)) + static_cast<Index>(statistics_.size() * sizeof(double)) +
           (channels_ ? channels_->memory_bytes() : 0);
}

}  // namespace convscope
