// A network ready to run: the built graph, its programs and the memory they run in.
#pragma once

#include <map>
#include <mutex>
#include <optional>

#include "graph/layout.h"
#include "graph/program.h"
#include "ops/buffer.h"

namespace convscope {

struct Images {
    const float* floats = nullptr;  // one of the two
    const std::uint8_t* bytes = nullptr;
    std::vector<float> scale, offset;  // by channel, with bytes
    Index count = 0;
};

struct Call {
    float* parameters = nullptr;  // written where `rules` say so
    float* gradients = nullptr;
    float* state = nullptr;
    Images images;
    const std::int64_t* classes = nullptr;
    const float* numbers = nullptr;
    std::vector<float*> outputs;              // one for each of the plan's, or none
    std::vector<const float*> output_deltas;  // the same
    float* input_delta = nullptr;
    // After a step: what moves, and how; places rise and are apart. Of each, `parameters` and its memory are written.
    const std::vector<Rule>* rules = nullptr;
    bool training = false;
    bool update_state = false;
    std::uint64_t seed = 0;
    std::uint64_t step = 0;
    int threads = 1;
};

class Network {
public:
    Network(const Shape& input, std::vector<Record> records, std::vector<int> outputs, Index parameter_count,
            Index state_count, const std::string& layout = "",
            std::optional<channels::LowOptions> low = std::nullopt);

    // Returns the loss. Refuses networks without one.
    double step(const Call& call) { return run(call, {call.training, true, true, call.input_delta != nullptr}); }
    void forward(const Call& call);
    void backward(const Call& call) { run(call, {call.training, true, false, call.input_delta != nullptr}); }

    const Graph& graph() const { return graph_; }  // its ops where there is a loss
    const Shape& input_shape() const { return input_; }
    bool has_loss() const { return losses_ > 0; }
    bool wants_classes() const { return wants_classes_; }
    bool wants_numbers() const { return wants_numbers_; }
    // Values a loss compares with float targets have this many per image.
    Index target_numbers() const { return target_numbers_; }
    Index memory_bytes();
    // Which layout forward() takes for so many pictures, and why; then a line for each of its operations.
    std::string describe(Index pictures, int threads, bool training);
    // Names of the layers that forward() multiplies in low precision, once it has run so many pictures (at most 16).
    std::vector<std::string> low_layers(Index pictures, int threads);

private:
    void lay_out();
    // Makes the ops anew where they are not there.
    void want_ops();
    const LayoutChoice& choice_for(Index pictures, int threads, bool training);
    channels::Network& channels();
    void forward_by_channels(const Call& call);
    void forward_by_images(const Call& call) { run(call, {call.training, false, false, false}); }
    double run(const Call& call, Mode mode);  // takes the guard
    const Program& program_for(Mode mode);
    void reserve(const Program& program, Index blocks, int threads);
    void run_segment(const Call& call, const Program& program, const Segment& segment, Index blocks, int thread,
                     int threads);
    // A step's block, whose memory it takes, and whose share.
    struct Turn {
        Index block;
        int thread, phase;
        Team team;
        bool first_block;
    };
    void run_step(const Call& call, const Program& program, const Step& step, const Turn& turn_of);
    void run_together(const Call& call, const Program& program, const Segment& segment, Index block, int threads,
                      bool first_block);
    Index blocks_together(Index blocks, int threads) const;
    int phases_of(const Step& step) const;
    void turn(const Call& call, const Program& program, Index block, int thread);
    void add_and_descend(const Call& call, const Program& program, int threads, int sums);
    void clear_shared_gradients(const Call& call, const Program& program, int threads);
    float* place(const Program& program, const Slot& slot, Index block, int thread) const;
    Maps input_of(const Program& program, const Op& op, std::size_t which, Index block, int thread) const;
    float* gradients_of(const Call& call, int thread) const;

    const KernelTable& kernels_;
    const Shape input_;
    std::vector<Record> records_;  // as they were given
    std::vector<int> outputs_;
    Layout layout_;
    std::optional<channels::LowOptions> low_;  // for evaluation in the channels-blocked layout
    // Without a loss its ops are not there until images innermost, or gradients, are wanted: most networks that answer do
    // so by channels, and would hold lists as long as their weights for nothing.
    Graph graph_;
    std::string obstacle_;  // what the channels-blocked layout lacks
    std::vector<Index> packed_offset_, statistics_offset_;
    std::vector<int> loss_number_;
    int losses_ = 0;
    bool wants_classes_ = false, wants_numbers_ = false;
    Index target_numbers_ = 0;
    Index packed_floats_ = 0, statistics_doubles_ = 0;

    std::unique_ptr<channels::Network> channels_;  // made when it is first wanted
    double block_cycles_ = 0;
    std::vector<double> op_cycles_;  // of a forward pass of a block, each op
    std::size_t identity_ = 0;
    std::map<std::pair<Index, int>, LayoutChoice> choices_;

    std::mutex guard_;
    std::map<Mode, Program> programs_;
    std::vector<Buffer> arenas_, thread_gradients_;  // by thread; gradients of thread 0 are the caller's
    Buffer blocks_, packed_, loss_values_;
    std::vector<double> statistics_;
};

}  // namespace convscope
