#include "graph/program.h"

#include <algorithm>

namespace convscope {
namespace {

constexpr int kNever = -1;

// Something that lives from one step to another.
struct Tenant {
    Slot* slot;
    Index floats;
    int birth, death;
};

class Planner {
public:
    Planner(const Graph& graph, Mode mode) : graph_(graph) {
        program_.mode = mode;
        program_.values.resize(graph.values.size());
        program_.deltas.resize(graph.values.size());
        program_.saved.resize(graph.ops.size());
        program_.wants_gradient.resize(graph.ops.size());
    }

    Program plan() {
        find_deltas();
        find_summed();
        schedule();
        return std::move(program_);
    }

private:
    struct Timed {
        Step step;
        int segment;
    };

    const Value& value(int number) const { return graph_.values[static_cast<std::size_t>(number)]; }
    bool has_delta(int number) const { return has_delta_[static_cast<std::size_t>(number)]; }

    bool runs_backward(const Op& op) const { return op.is_loss() ? program_.mode.losses : has_delta(op.output); }

    // Layers settled at cuts write the caller's gradients, not their thread's.
    void find_summed() {
        std::vector<Range> ranges;
        for (std::size_t number = 0; number < graph_.ops.size(); ++number) {
            const Op& op = *graph_.ops[number];
            if (!program_.wants_gradient[number] || !runs_backward(op) || (op.cuts() && program_.mode.training))
                continue;
            for (const Place& place : op.parameter_places())
                if (place.present()) ranges.push_back({place.offset, place.offset + place.count});
        }
        std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
        for (const Range& each : ranges) {
            if (!program_.summed.empty() && each.begin <= program_.summed.back().end)
                program_.summed.back().end = std::max(program_.summed.back().end, each.end);
            else program_.summed.push_back(each);
        }
    }

    // A δ is wanted where a path leads on to a loss (or a given δ) and back to something that learns.
    void find_deltas() {
        const std::size_t values = graph_.values.size();
        std::vector<bool> learns(values, false), reaches(values, false);
        has_delta_.assign(values, false);
        if (!program_.mode.backward) return;
        learns[0] = program_.mode.input_delta;
        for (std::size_t number = 0; number < graph_.ops.size(); ++number) {
            const Op& op = *graph_.ops[number];
            bool any = false;
            for (const Place& place : op.parameter_places()) any = any || place.present();
            program_.wants_gradient[number] = any && op.trainable;
            any = any && op.trainable;
            for (const int input : op.inputs) any = any || learns[static_cast<std::size_t>(input)];
            if (op.output >= 0) learns[static_cast<std::size_t>(op.output)] = any;
        }
        if (!program_.mode.losses)
            for (const int output : graph_.outputs) reaches[static_cast<std::size_t>(output)] = true;
        for (auto op = graph_.ops.rbegin(); op != graph_.ops.rend(); ++op) {
            const bool on = (*op)->is_loss() ? program_.mode.losses : reaches[static_cast<std::size_t>((*op)->output)];
            if (on)
                for (const int input : (*op)->inputs) reaches[static_cast<std::size_t>(input)] = true;
        }
        for (std::size_t number = 0; number < values; ++number) has_delta_[number] = learns[number] && reaches[number];
    }

    void push(Phase phase, int op) { timed_.push_back({{phase, op, {}, {}}, segment_}); }

    void cut(int op, bool backward) {
        cuts_.push_back({op, backward});
        ++segment_;
    }

    void schedule() {
        const Mode mode = program_.mode;
        push(Phase::pack, -1);
        for (int op = 0; op < static_cast<int>(graph_.ops.size()); ++op) {
            const Op& layer = *graph_.ops[static_cast<std::size_t>(op)];
            if (layer.is_loss()) continue;
            if (layer.cuts() && mode.training) {
                push(Phase::measure, op);
                cut(op, false);
            }
            push(Phase::forward, op);
        }
        push(Phase::turn, -1);
        if (mode.backward) schedule_backward();
        program_.segments.resize(static_cast<std::size_t>(segment_) + 1);
        for (std::size_t number = 0; number < cuts_.size(); ++number) {
            program_.segments[number].settled_op = cuts_[number].op;
            program_.segments[number].settles_backward = cuts_[number].backward;
        }
        place_all();
        for (Timed& each : timed_)
            program_.segments[static_cast<std::size_t>(each.segment)].steps.push_back(std::move(each.step));
    }

    void schedule_backward() {
        std::vector<bool> written(graph_.values.size(), false);
        if (!program_.mode.losses)
            for (const int output : graph_.outputs) written[static_cast<std::size_t>(output)] = has_delta(output);
        for (int op = static_cast<int>(graph_.ops.size()) - 1; op >= 0; --op) {
            const Op& layer = *graph_.ops[static_cast<std::size_t>(op)];
            if (!runs_backward(layer)) continue;
            if (layer.cuts() && program_.mode.training) {
                push(Phase::measure_backward, op);
                cut(op, true);
            }
            push(Phase::backward, op);
            for (const int input : layer.inputs) {
                timed_.back().step.accumulate.push_back(written[static_cast<std::size_t>(input)]);
                written[static_cast<std::size_t>(input)] = true;
            }
        }
        if (program_.mode.input_delta && has_delta(0)) push(Phase::unpack_input_delta, -1);
    }

    // First and last step that touch each thing; then memory, largest first, lowest free place.
    void place_all() {
        const std::size_t values = graph_.values.size();
        std::vector<int> value_birth(values, kNever), value_death(values, kNever);
        std::vector<int> delta_birth(values, kNever), delta_death(values, kNever);
        std::vector<int> saved_birth(graph_.ops.size(), kNever), saved_death(graph_.ops.size(), kNever);
        const auto touch = [](std::vector<int>& birth, std::vector<int>& death, int which, int time) {
            if (which < 0) return;
            int& first = birth[static_cast<std::size_t>(which)];
            if (first == kNever) first = time;
            death[static_cast<std::size_t>(which)] = time;
        };
        std::vector<Tenant> tenants;
        for (int time = 0; time < static_cast<int>(timed_.size()); ++time) {
            Step& step = timed_[static_cast<std::size_t>(time)].step;
            if (step.phase == Phase::pack) touch(value_birth, value_death, 0, time);
            if (step.phase == Phase::unpack_input_delta) touch(delta_birth, delta_death, 0, time);
            if (step.phase == Phase::turn)
                for (const int output : graph_.outputs) {
                    touch(value_birth, value_death, output, time);
                    if (!program_.mode.losses && has_delta(output)) touch(delta_birth, delta_death, output, time);
                }
            if (step.op < 0) continue;
            const Op& op = *graph_.ops[static_cast<std::size_t>(step.op)];
            const bool back = step.phase == Phase::backward || step.phase == Phase::measure_backward;
            if (!back || op.reads_input_in_backward())
                for (const int input : op.inputs) touch(value_birth, value_death, input, time);
            if (step.phase == Phase::forward || (back && op.reads_output_in_backward()))
                touch(value_birth, value_death, op.output, time);
            bool wants_input_delta = false;
            if (back) {
                if (op.output >= 0) touch(delta_birth, delta_death, op.output, time);
                for (const int input : op.inputs)
                    if (step.phase == Phase::backward && has_delta(input)) {
                        wants_input_delta = true;
                        touch(delta_birth, delta_death, input, time);
                    }
            }
            if (op.saved_bytes() > 0) touch(saved_birth, saved_death, step.op, time);
            const Index scratch = step.phase == Phase::forward || step.phase == Phase::backward
                                      ? op.scratch_floats(back, wants_input_delta)
                                      : 0;
            if (scratch > 0) tenants.push_back({&step.scratch, scratch, time, time});
        }
        for (std::size_t number = 0; number < values; ++number) {
            const Value& each = graph_.values[number];
            if (value_birth[number] != kNever)
                tenants.push_back({&program_.values[number], each.floats(), value_birth[number], value_death[number]});
            if (delta_birth[number] != kNever)
                tenants.push_back({&program_.deltas[number], each.delta_floats(), delta_birth[number],
                                   delta_death[number]});
        }
        for (std::size_t number = 0; number < graph_.ops.size(); ++number)
            if (saved_birth[number] != kNever)
                tenants.push_back({&program_.saved[number], (graph_.ops[number]->saved_bytes() + 3) / 4,
                                   saved_birth[number], saved_death[number]});
        place(tenants);
    }

    void place(std::vector<Tenant>& tenants) {
        std::stable_sort(tenants.begin(), tenants.end(),
                         [](const Tenant& a, const Tenant& b) { return a.floats > b.floats; });
        std::vector<const Tenant*> placed;
        for (Tenant& each : tenants) {
            each.floats = (each.floats + kBlock - 1) / kBlock * kBlock;
            const int from = timed_[static_cast<std::size_t>(each.birth)].segment;
            const int to = timed_[static_cast<std::size_t>(each.death)].segment;
            if (from != to) {
                *each.slot = {program_.block_floats, true};
                program_.block_floats += each.floats;
                continue;
            }
            Index offset = 0;
            std::vector<const Tenant*> neighbours;
            for (const Tenant* other : placed)
                if (other->birth <= each.death && each.birth <= other->death) neighbours.push_back(other);
            std::sort(neighbours.begin(), neighbours.end(),
                      [](const Tenant* a, const Tenant* b) { return a->slot->offset < b->slot->offset; });
            for (const Tenant* other : neighbours) {
                if (other->slot->offset >= offset + each.floats) break;
                offset = std::max(offset, other->slot->offset + other->floats);
            }
            *each.slot = {offset, false};
            program_.arena_floats = std::max(program_.arena_floats, offset + each.floats);
            placed.push_back(&each);
        }
    }

    struct Cut {
        int op;
        bool backward;
    };

    const Graph& graph_;
    Program program_;
    std::vector<bool> has_delta_;
    std::vector<Timed> timed_;
    std::vector<Cut> cuts_;
    int segment_ = 0;
};

}  // namespace

Program make_program(const Graph& graph, Mode mode) { return Planner(graph, mode).plan(); }

}  // namespace convscope
