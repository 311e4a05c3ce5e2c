// A layer in float32 or in low precision, whichever is quicker.
#pragma once

#include <utility>
#include <vector>

#include "channels/op.h"

namespace convscope::channels {

// Two ways of one layer, of which the one that was measured to be quicker runs. Networks measure when they first run so many
// pictures on so many threads, once in a process for layers that are alike.
class Either final : public Op {
public:
    Either(OpPointer single, OpPointer low);

    Size input_border() const override { return single_->input_border(); }
    bool reads_planes() const override { return single_->reads_planes(); }
    void arrange(const std::vector<Tensor>& inputs_at, const Tensor& output_at, const Tensor& skip_at) override;
    int phases(Index pictures) const override { return now().phases(pictures); }
    Split split(int phase, Index pictures, int threads) const override { return now().split(phase, pictures, threads); }
    void run(int phase, const Part& part, const Job& job) const override { now().run(phase, part, job); }
    Index shared_floats(Index pictures) const override;
    Index scratch_floats(Index pictures, int threads) const override;
    double cycles(Index pictures) const override;
    std::string describe() const override;
    Either* either() override { return this; }
    bool rounds(Index pictures, int threads) override {
        const Measured* const measured = find(pictures, threads);
        return measured && measured->takes_low();
    }

    // What was measured for so many pictures and threads, in seconds.
    struct Measured {
        double single = 0, low = 0;
        bool takes_low() const { return low < single; }
    };
    const Measured* find(Index pictures, int threads);
    void keep(Index pictures, int threads, const Measured& measured);
    void take(bool low) { takes_low_ = low; }

private:
    const Op& now() const { return takes_low_ ? *low_ : *single_; }
    std::string identity(Index pictures, int threads) const;

    OpPointer single_, low_;
    bool takes_low_ = false;
    std::vector<std::pair<std::pair<Index, int>, Measured>> measured_;
};

}  // namespace convscope::channels
