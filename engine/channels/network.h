// A network in the channels-blocked layout: evaluates, for any number of pictures.
#pragma once

#include <map>
#include <utility>

#include "channels/plan.h"
#include "ops/buffer.h"

namespace convscope::channels {

// What a network is asked: pictures (count, c, h, w), and where each of its outputs goes.
struct Evaluation {
    const float* parameters = nullptr;
    const float* state = nullptr;
    Pictures pictures;
    Index count = 0;
    std::vector<float*> outputs;
    int threads = 1;
};

class Network {
public:
    Network(const KernelTable& kernels, const Shape& input, const std::vector<Record>& records,
            const std::vector<int>& outputs, const LowOptions* low = nullptr);

    // One caller at a time.
    void forward(const Evaluation& evaluation);

    // From the call to the answer, by the model.
    double cycles(Index pictures, int threads) const;
    Index memory_bytes() const;
    std::string describe() const;
    // Names of the layers that so many pictures, of one pass, are multiplied in low precision by.
    std::vector<std::string> low_layers(Index pictures, int threads) const;

private:
    const Plan& plan_for(Index pictures, int threads);
    void run(const Evaluation& evaluation, Index first_picture, Index pictures, int threads);
    void run_op(std::size_t number, const Plan& plan, const Job& job, int threads);
    void choose_ways(const Evaluation& evaluation, Index first_picture, Index pictures, int threads);
    void pass(const Evaluation& evaluation, Index first_picture, Index pictures, int threads,
              std::vector<double>* seconds = nullptr);
    void clear_border(const Op& op, const Plan& plan, Index pictures, int thread, int threads) const;
    Tensor tensor(int value, const Plan& plan) const;

    const KernelTable& kernels_;
    Shape input_;
    Net net_;
    std::map<std::pair<Index, int>, Plan> plans_;
    Buffer arena_;
    std::vector<Buffer> scratch_;  // by thread
};

}  // namespace convscope::channels
