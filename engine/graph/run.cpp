// One call on a network: every thread takes its blocks of 16 images through a segment, and blocks that are left when every
// thread has had as many are passed by all of them together, op by op; then the threads meet.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include "graph/network.h"
#include "threads/pool.h"

namespace convscope {
namespace {

constexpr double kSharedCycles = 8'000;  // element by element some 20 µs, of which a meeting takes 5

std::size_t at(int number) { return static_cast<std::size_t>(number); }

enum class TeamUse { auto_, always, never };

TeamUse team_use() {
    static const TeamUse use = [] {
        const char* const value = std::getenv("CONVSCOPE_TEAM");
        const std::string_view wanted = value ? value : "";
        if (wanted.empty() || wanted == "auto") return TeamUse::auto_;
        if (wanted == "always") return TeamUse::always;
        if (wanted == "never") return TeamUse::never;
        throw std::invalid_argument("CONVSCOPE_TEAM is \"" + std::string(wanted) + "\", not auto, never or always");
    }();
    return use;
}

// What an op's Block points to; kept by each thread, so that a step allocates nothing.
struct InputViews {
    std::vector<Maps> inputs, deltas;
    std::unique_ptr<bool[]> accumulate;
    std::size_t size = 0;

    void reserve(std::size_t count) {
        if (count <= size) return;
        inputs.resize(count);
        deltas.resize(count);
        accumulate = std::make_unique<bool[]>(count);
        size = count;
    }
};

}  // namespace

float* Network::place(const Program& program, const Slot& slot, Index block, int thread) const {
    if (!slot.present()) return nullptr;
    return slot.per_block ? blocks_.data() + block * program.block_floats + slot.offset
                          : arenas_[at(thread)].data() + slot.offset;
}

float* Network::gradients_of(const Call& call, int thread) const {
    return thread == 0 ? call.gradients : thread_gradients_[at(thread)].data();
}

// A flattened input is dense memory under the op's own shape.
Maps Network::input_of(const Program& program, const Op& op, std::size_t which, Index block, int thread) const {
    const Value& value = graph_.values[at(op.inputs[which])];
    float* base = place(program, program.values[at(op.inputs[which])], block, thread);
    return value.dense() ? dense_maps(op.input_shapes[which], base) : value.at(base);
}

double Network::run(const Call& call, Mode mode) {
    if (mode.losses && losses_ == 0)
        throw std::invalid_argument("the plan has no loss; give δ of the outputs to backward()");
    const Index blocks = (call.images.count + kBlock - 1) / kBlock;
    const Index together = blocks_together(blocks, call.threads);
    const int threads = together > 0 ? call.threads
                                     : static_cast<int>(std::clamp<Index>(call.threads, 1, std::max<Index>(1, blocks)));
    const int sums = together == blocks ? 1 : threads;  // a team's members have gradients of their own
    const std::scoped_lock lock(guard_);
    want_ops();
    const Program& program = program_for(mode);
    reserve(program, blocks, threads);
    clear_shared_gradients(call, program, sums);
    run_on_threads(threads, [&](int thread, int count) {
        for (std::size_t op = 0; op < graph_.ops.size(); ++op)
            graph_.ops[op]->prepare(call.parameters, packed_.data() + packed_offset_[op], mode.backward, thread, count);
    });
    for (const Segment& segment : program.segments) {
        if (together < blocks)
            run_on_threads(threads, [&](int thread, int count) {
                run_segment(call, program, segment, blocks - together, thread, count);
            });
        for (Index block = blocks - together; block < blocks; ++block)
            run_together(call, program, segment, block, threads, block == 0);
        if (segment.settled_op < 0) continue;
        const auto op = at(segment.settled_op);
        Batch batch;
        batch.parameters = call.parameters;
        batch.gradients = program.wants_gradient[op] ? call.gradients : nullptr;
        batch.accumulate_gradient = graph_.shares_parameters[op];
        batch.state = call.state;
        batch.statistics = statistics_.data() + statistics_offset_[op] * blocks;
        batch.blocks = blocks;
        batch.images = call.images.count;
        batch.update_state = call.update_state;
        if (segment.settles_backward) graph_.ops[op]->settle_backward(batch);
        else graph_.ops[op]->settle(batch);
    }
    if (mode.backward) add_and_descend(call, program, threads, sums);
    double loss = 0;
    if (mode.losses)
        for (std::size_t op = 0; op < graph_.ops.size(); ++op) {
            if (loss_number_[op] < 0) continue;
            double total = 0;
            for (Index image = 0; image < blocks * kBlock; ++image)
                total += static_cast<double>(loss_values_.data()[loss_number_[op] * blocks * kBlock + image]);
            loss += graph_.ops[op]->loss_weight() * total / static_cast<double>(call.images.count);
        }
    return loss;
}

void Network::run_segment(const Call& call, const Program& program, const Segment& segment, Index blocks, int thread,
                          int threads) {
    const Index first = blocks * thread / threads;
    const Index last = blocks * (thread + 1) / threads;
    for (Index block = first; block < last; ++block)
        for (const Step& step : segment.steps)
            for (int phase = 0; phase < phases_of(step); ++phase)
                run_step(call, program, step, {block, thread, phase, {}, block == first});
}

// Of so many blocks those that a team passes: what is left when each thread has had as many, where a block is much more
// work than the meetings. CONVSCOPE_TEAM says always (for tests) or never.
Index Network::blocks_together(Index blocks, int threads) const {
    constexpr double kLeastCycles = 2e6;  // of a block's forward pass: LeNet-5 has 0.5 million, MobileNetV2 at 64×64 30
    if (threads <= 1 || team_use() == TeamUse::never) return 0;
    return team_use() == TeamUse::always || block_cycles_ > kLeastCycles ? blocks % threads : 0;
}

int Network::phases_of(const Step& step) const {
    if (step.phase != Phase::forward && step.phase != Phase::backward) return 1;
    return graph_.ops[at(step.op)]->phases(step.phase == Phase::backward);
}

// Memory of the block is thread 0's. What is a few microseconds' work is not worth a meeting.
void Network::run_together(const Call& call, const Program& program, const Segment& segment, Index block, int threads,
                           bool first_block) {
    for (const Step& step : segment.steps) {
        const bool shared = step.op >= 0 && graph_.ops[at(step.op)]->shares() &&
                            (op_cycles_[at(step.op)] > kSharedCycles || team_use() == TeamUse::always);
        for (int phase = 0; phase < phases_of(step); ++phase) {
            if (!shared) {
                run_step(call, program, step, {block, 0, phase, {}, first_block});
                continue;
            }
            run_on_threads(threads, [&](int thread, int count) {
                run_step(call, program, step, {block, 0, phase, {thread, count}, first_block});
            });
        }
    }
}

void Network::run_step(const Call& call, const Program& program, const Step& step, const Turn& turn_of) {
    const auto [number, thread, phase, team, first_block] = turn_of;
    const Index first_image = number * kBlock;
    const Index present = std::min(kBlock, call.images.count - first_image);
    const Shape& picture = input_shape();
    if (step.phase == Phase::turn) return turn(call, program, number, thread);
    if (step.phase == Phase::pack) {
        const Value& input = graph_.values[0];
        ImagePack pack;
        pack.bytes = call.images.bytes != nullptr;
        const Index start = first_image * picture.positions();
        pack.images = pack.bytes ? static_cast<const void*>(call.images.bytes + start) : call.images.floats + start;
        pack.scale = call.images.scale.data();
        pack.offset = call.images.offset.data();
        pack.images_present = present;
        pack.maps = input.at(place(program, program.values[0], number, thread));
        clear_border(pack.maps, input.border);
        return kernels_.pack_images(pack);
    }
    if (step.phase == Phase::unpack_input_delta) {
        const Maps delta = graph_.values[0].delta_at(place(program, program.deltas[0], number, thread));
        return kernels_.unpack_images(delta, present, call.input_delta + first_image * picture.positions());
    }

    const auto op_number = at(step.op);
    const Op& op = *graph_.ops[op_number];
    const Index blocks = (call.images.count + kBlock - 1) / kBlock;
    thread_local InputViews views;
    views.reserve(op.inputs.size());
    for (std::size_t i = 0; i < op.inputs.size(); ++i) {
        views.inputs[i] = input_of(program, op, i, number, thread);
        if (step.phase != Phase::backward) continue;
        const Value& value = graph_.values[at(op.inputs[i])];
        float* const delta = place(program, program.deltas[at(op.inputs[i])], number, thread);
        views.deltas[i] = value.gap == 0 ? dense_maps(op.input_shapes[i], delta) : value.delta_at(delta);
        views.accumulate[i] = step.accumulate[i];
    }
    Block block;
    block.kernels = &kernels_;
    block.parameters = call.parameters;
    block.state = call.state;
    block.packed = packed_.data() + packed_offset_[op_number];
    block.saved = reinterpret_cast<std::byte*>(place(program, program.saved[op_number], number, thread));
    block.common = place(program, step.scratch, number, thread);
    block.scratch = place(program, step.scratch, number, thread + team.part);
    block.team = team;
    block.phase = phase;
    block.statistics = statistics_.data() + statistics_offset_[op_number] * blocks + number * op.statistics_count();
    block.inputs = views.inputs.data();
    block.input_deltas = views.deltas.data();
    block.accumulate_input_delta = views.accumulate.get();
    block.first_image = first_image;
    block.images_present = present;
    block.images_in_batch = call.images.count;
    block.training = call.training;
    block.seed = call.seed;
    block.step = call.step;
    if (op.output >= 0) {
        const Value& value = graph_.values[at(op.output)];
        block.output = value.at(place(program, program.values[at(op.output)], number, thread));
        block.delta = value.delta_at(place(program, program.deltas[at(op.output)], number, thread));
    }
    if (program.wants_gradient[op_number]) {
        block.gradients = gradients_of(call, thread);
        block.accumulate_gradient = !first_block || graph_.shares_parameters[op_number];
    }
    switch (step.phase) {
        case Phase::measure: return op.measure(block);
        case Phase::measure_backward: return op.measure_backward(block);
        case Phase::forward:
            if (phase == 0) clear_border(own_maps(block, block.output), graph_.values[at(op.output)].border);
            return op.forward(block);
        default: break;
    }
    if (op.is_loss()) {
        block.classes = call.classes ? call.classes + first_image : nullptr;
        block.numbers = call.numbers ? call.numbers + first_image * target_numbers_ : nullptr;
        block.losses = loss_values_.data() + (loss_number_[op_number] * blocks + number) * kBlock;
    }
    op.backward(block);
}

// All outputs are there: hand them out, and take δ of them where the caller gives it.
void Network::turn(const Call& call, const Program& program, Index block, int thread) {
    const Index first_image = block * kBlock;
    const Index present = std::min(kBlock, call.images.count - first_image);
    for (std::size_t i = 0; i < graph_.outputs.size(); ++i) {
        const auto value = at(graph_.outputs[i]);
        const Index positions = graph_.output_shapes[i].positions();
        if (!call.outputs.empty())
            kernels_.unpack_images(graph_.values[value].at(place(program, program.values[value], block, thread)),
                                   present, call.outputs[i] + first_image * positions);
        float* delta = place(program, program.deltas[value], block, thread);
        if (call.output_deltas.empty() || !delta) continue;
        // The same value may be listed twice; then both δ count.
        const bool again = std::find(graph_.outputs.begin(), graph_.outputs.begin() + static_cast<std::ptrdiff_t>(i),
                                     graph_.outputs[i]) != graph_.outputs.begin() + static_cast<std::ptrdiff_t>(i);
        if (again) throw std::invalid_argument("outputs: a value is listed twice");
        kernels_.pack_deltas(call.output_deltas[i] + first_image * positions, present,
                             graph_.values[value].delta_at(delta));
    }
}

void Network::clear_shared_gradients(const Call& call, const Program& program, int threads) {
    if (!program.mode.backward) return;
    for (std::size_t op = 0; op < graph_.ops.size(); ++op) {
        if (!program.wants_gradient[op] || !graph_.shares_parameters[op]) continue;
        for (const Place& place : graph_.ops[op]->parameter_places())
            if (place.present())
                for (int thread = 0; thread < threads; ++thread)
                    std::fill_n(gradients_of(call, thread) + place.offset, place.count, 0.0f);
    }
}

// Each thread adds up its share of the places, always in the order of the threads, and at once moves the parameters
// there: the sum is in a register, and half of the buffers in its own cache.
void Network::add_and_descend(const Call& call, const Program& program, int threads, int sums) {
    static const std::vector<Rule> nothing_moves;
    const std::vector<Rule>& rules = call.rules ? *call.rules : nothing_moves;
    if (sums == 1 && rules.empty()) return;
    const std::vector<Piece> pieces = cut_pieces(program.summed, rules);
    std::vector<const float*> others;
    for (int thread = 1; thread < sums; ++thread) others.push_back(gradients_of(call, thread));
    run_on_threads(threads, [&](int thread, int count) {
        for (const Piece& whole : pieces) {
            Piece piece = whole;
            piece.range = share(whole.range, thread, count);
            Descent descent = descent_of(piece, call.parameters);
            descent.gradients = call.gradients + piece.range.begin;
            descent.others = others.data();
            descent.other_count = piece.summed ? static_cast<Index>(others.size()) : 0;
            kernels_.descend(descent);
        }
    });
    for (const Rule& rule : rules)
        if (rule.steps) *rule.steps += 1;
}

}  // namespace convscope
