#include "channels/network.h"

#include <algorithm>
#include <chrono>

#include "channels/either.h"
#include "threads/pool.h"

namespace convscope::channels {
namespace {

// A layer of fewer cycles is not worth a parallel region: beginning and ending one takes some 5 µs.
constexpr double kCyclesOfThread = 30'000;
constexpr double kCyclesOfRegion = 10'000;
constexpr double kCyclesOfOp = 1'000;  // arguments, folding, panels begun

std::size_t at(int number) { return static_cast<std::size_t>(number); }

}  // namespace

Network::Network(const KernelTable& kernels, const Shape& input, const std::vector<Record>& records,
                 const std::vector<int>& outputs, const LowOptions* low)
    : kernels_(kernels), input_(input), net_(build(kernels, input, records, outputs, low)) {}

const Plan& Network::plan_for(Index pictures, int threads) {
    const std::pair key{pictures, threads};
    const auto found = plans_.find(key);
    if (found != plans_.end()) return found->second;
    Plan plan = make_plan(net_, kernels_.lanes, pictures, threads);
    for (const OpPointer& op : net_.ops) plan.alone.push_back(op->cycles(pictures) < kCyclesOfThread);
    return plans_.emplace(key, std::move(plan)).first->second;
}

void Network::forward(const Evaluation& evaluation) {
    const Index passes = (evaluation.count + kMostPictures - 1) / kMostPictures;
    for (Index pass = 0; pass < passes; ++pass) {
        const Range own = share(evaluation.count, pass, passes);
        run(evaluation, own.begin, own.size(), evaluation.threads);
    }
}

void Network::run(const Evaluation& evaluation, Index first_picture, Index pictures, int threads) {
    choose_ways(evaluation, first_picture, pictures, threads);
    pass(evaluation, first_picture, pictures, threads);
}

void Network::pass(const Evaluation& evaluation, Index first_picture, Index pictures, int threads,
                   std::vector<double>* seconds) {
    const Plan& plan = plan_for(pictures, threads);
    arena_.reserve(plan.arena_floats);
    while (static_cast<int>(scratch_.size()) < threads) scratch_.emplace_back();
    for (int thread = 0; thread < threads; ++thread) scratch_[at(thread)].reserve(plan.scratch_floats);
    Job job;
    job.kernels = &kernels_;
    job.parameters = evaluation.parameters;
    job.state = evaluation.state;
    job.pictures = pictures;
    job.threads = threads;
    job.source = evaluation.pictures;
    const Index passed = first_picture * input_.positions();
    if (job.source.floats) job.source.floats += passed;
    if (job.source.bytes) job.source.bytes += passed;
    std::vector<Tensor> inputs;
    std::size_t outputs = 0;
    for (std::size_t number = 0; number < net_.ops.size(); ++number) {
        const Op& op = *net_.ops[number];
        inputs.clear();
        for (const int input : op.inputs) inputs.push_back(tensor(input, plan));
        job.inputs = inputs.data();
        job.output = op.output >= 0 ? tensor(op.output, plan) : Tensor{};
        job.skip = op.skip >= 0 ? tensor(op.skip, plan) : Tensor{};
        job.shared = arena_.data() + plan.shared[number];
        if (op.output < 0)
            job.target = evaluation.outputs[outputs++] +
                         first_picture * net_.values[at(op.inputs[0])].shape.positions();
        const auto begun = std::chrono::steady_clock::now();
        run_op(number, plan, job, threads);
        if (seconds)
            seconds->push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
    }
}

// Of two ways of a layer the one that is quicker, by the least of three passes each. Whole passes: within them a layer's
// weights come from where they are in use, not from a cache that the turn before has filled.
void Network::choose_ways(const Evaluation& evaluation, Index first_picture, Index pictures, int threads) {
    std::vector<Either*> undecided(net_.ops.size(), nullptr);
    bool any = false;
    for (std::size_t number = 0; number < net_.ops.size(); ++number) {
        Either* const either = net_.ops[number]->either();
        if (!either) continue;
        const Either::Measured* const known = either->find(pictures, threads);
        if (known) either->take(known->takes_low());
        else undecided[number] = either, any = true;
    }
    if (!any) return;
    std::vector<Either::Measured> measured(net_.ops.size(), {1e9, 1e9});
    for (int turn = 0; turn < 3; ++turn)
        for (const bool low : {false, true}) {
            for (Either* const each : undecided)
                if (each) each->take(low);
            std::vector<double> seconds;
            pass(evaluation, first_picture, pictures, threads, &seconds);
            for (std::size_t number = 0; number < seconds.size(); ++number) {
                double& least = low ? measured[number].low : measured[number].single;
                least = std::min(least, seconds[number]);
            }
        }
    for (std::size_t number = 0; number < net_.ops.size(); ++number) {
        if (!undecided[number]) continue;
        undecided[number]->keep(pictures, threads, measured[number]);
        undecided[number]->take(measured[number].takes_low());
    }
}

// The phases of an op after each other. Threads never wait for each other within a parallel region, since where there are
// fewer of them than asked for, one runs the parts of several.
void Network::run_op(std::size_t number, const Plan& plan, const Job& job, int threads) {
    const Op& op = *net_.ops[number];
    const int useful = plan.alone[number] ? 1 : threads;
    for (int phase = 0; phase < op.phases(job.pictures); ++phase) {
        const Split split = op.split(phase, job.pictures, threads);
        run_on_threads(useful, [&](int thread, int count) {
            Job own_job = job;
            own_job.scratch = scratch_[at(thread)].data();
            if (phase == 0 && op.output >= 0) clear_border(op, plan, job.pictures, thread, count);
            // Each thread has its stretch of items: neighbouring ones read the same rows.
            const Range own = share(split.items(), thread, count);
            for (Index item = own.begin; item < own.end; ++item) op.run(phase, part_of(split, item), own_job);
        });
    }
}

Tensor Network::tensor(int value, const Plan& plan) const {
    return net_.tensor(value, kernels_.lanes,
                       arena_.data() + plan.storages[at(net_.values[at(value)].storage)]);
}

// The zeros around what the op is going to write, each thread its share of the blocks.
void Network::clear_border(const Op& op, const Plan& plan, Index pictures, int thread, int threads) const {
    const Value& value = net_.values[at(op.output)];
    const Storage& storage = net_.storages[at(value.storage)];
    if (storage.border.y == 0 && storage.border.x == 0) return;
    const Index lanes = kernels_.lanes, unit = storage.planar ? 1 : lanes;
    const Index row = storage.row_floats(lanes), edge = storage.border.x * unit;
    const Index blocks = blocks_of(value.shape.channels, unit);
    float* const base = arena_.data() + plan.storages[at(value.storage)] +
                        value.first_channel / unit * storage.block_floats(lanes);
    const Range own = share(pictures * blocks, thread, threads);
    for (Index each = own.begin; each < own.end; ++each) {
        float* at_row =
            base + each / blocks * storage.picture_floats(lanes) + each % blocks * storage.block_floats(lanes);
        std::fill_n(at_row, storage.border.y * row, 0.0f);
        at_row += storage.border.y * row;
        for (Index y = 0; y < storage.height; ++y, at_row += row) {
            std::fill_n(at_row, edge, 0.0f);
            std::fill_n(at_row + row - edge, edge, 0.0f);
        }
        std::fill_n(at_row, storage.border.y * row, 0.0f);
    }
}

double Network::cycles(Index pictures, int threads) const {
    const Index passes = (pictures + kMostPictures - 1) / kMostPictures;
    double total = 0;
    for (const OpPointer& op : net_.ops) {
        const double own = op->cycles((pictures + passes - 1) / passes);
        total += kCyclesOfOp + (own < kCyclesOfThread || threads == 1 ? own : own / (0.85 * threads) + kCyclesOfRegion);
    }
    return total * static_cast<double>(passes);
}

Index Network::memory_bytes() const {
    Index floats = arena_.floats();
    for (const Buffer& each : scratch_) floats += each.floats();
    return floats * static_cast<Index>(sizeof(float));
}

std::vector<std::string> Network::low_layers(Index pictures, int threads) const {
    std::vector<std::string> names;
    for (const OpPointer& op : net_.ops)
        if (op->rounds(pictures, threads)) names.push_back(op->name);
    return names;
}

std::string Network::describe() const {
    std::string lines;
    for (const OpPointer& op : net_.ops) lines += op->describe() + "\n";
    for (const std::string& remark : net_.remarks) lines += remark + "\n";
    return lines;
}

}  // namespace convscope::channels
