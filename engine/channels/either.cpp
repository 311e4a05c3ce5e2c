#include "channels/either.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>

namespace convscope::channels {
namespace {

struct Known {
    std::mutex guard;
    std::map<std::string, Either::Measured> layers;
};

Known& known() {
    static Known all;
    return all;
}

}  // namespace

Either::Either(OpPointer single, OpPointer low)
    : Op(single->name, single->inputs, single->output), single_(std::move(single)), low_(std::move(low)) {}

void Either::arrange(const std::vector<Tensor>& inputs_at, const Tensor& output_at, const Tensor& skip_at) {
    for (Op* const way : {single_.get(), low_.get()}) {
        way->skip = skip;
        way->arrange(inputs_at, output_at, skip_at);
    }
}

Index Either::shared_floats(Index pictures) const {
    return std::max(single_->shared_floats(pictures), low_->shared_floats(pictures));
}

Index Either::scratch_floats(Index pictures, int threads) const {
    return std::max(single_->scratch_floats(pictures, threads), low_->scratch_floats(pictures, threads));
}

double Either::cycles(Index pictures) const { return std::min(single_->cycles(pictures), low_->cycles(pictures)); }

// Layers with the same of this are equally quick.
std::string Either::identity(Index pictures, int threads) const {
    const auto unnamed = [](const Op& op) { return op.describe().substr(op.name.size()); };
    return unnamed(*single_) + unnamed(*low_) + " " + std::to_string(single_->cycles(1)) + " " +
           std::to_string(pictures) + " " + std::to_string(threads);
}

const Either::Measured* Either::find(Index pictures, int threads) {
    const std::pair key{pictures, threads};
    const auto found = std::find_if(measured_.begin(), measured_.end(), [&](const auto& each) { return each.first == key; });
    if (found != measured_.end()) return &found->second;
    Known& all = known();
    const std::scoped_lock lock(all.guard);
    const auto elsewhere = all.layers.find(identity(pictures, threads));
    if (elsewhere == all.layers.end()) return nullptr;
    measured_.push_back({key, elsewhere->second});
    return &measured_.back().second;
}

void Either::keep(Index pictures, int threads, const Measured& measured) {
    measured_.push_back({{pictures, threads}, measured});
    Known& all = known();
    const std::scoped_lock lock(all.guard);
    all.layers.insert_or_assign(identity(pictures, threads), measured);
}

std::string Either::describe() const {
    if (measured_.empty()) return low_->describe() + ", if that is quicker";
    const auto& [asked, measured] = measured_.back();
    char times[96];
    std::snprintf(times, sizeof times, "%.3g ms; %s %.3g", 1e3 * std::min(measured.single, measured.low),
                  measured.takes_low() ? "float32" : "low precision", 1e3 * std::max(measured.single, measured.low));
    const std::string count = asked.first == 1 ? "1 picture" : std::to_string(asked.first) + " pictures";
    return (measured.takes_low() ? low_ : single_)->describe() + (measured.takes_low() ? ": " : ", in float32: ") + count +
           " in " + times;
}

}  // namespace convscope::channels
