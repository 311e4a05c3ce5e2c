#include "graph/layout.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <stdexcept>
#include <tuple>

#include "channels/cache.h"

namespace convscope {
namespace {

// Beyond this factor the model is never wrong about who is quicker (between 0.6 and 1.6 it was, on AVX-512 and AVX2).
constexpr double kSure = 2.5;

struct Known {
    std::mutex guard;
    std::map<std::tuple<std::size_t, Index, int>, LayoutChoice> choices;
};

Known& known() {
    static Known all;
    return all;
}

std::string number(double value, const char* unit) {
    char text[48];
    std::snprintf(text, sizeof text, "%.3g %s", value, unit);
    return text;
}

}  // namespace

Layout layout_of(std::string name, bool has_loss) {
    if (name.empty()) {
        const char* wanted = std::getenv("CONVSCOPE_LAYOUT");
        name = wanted ? wanted : "auto";
    }
    if (name == "auto") return has_loss ? Layout::modelled : Layout::measured;
    if (name == "modelled") return Layout::modelled;
    if (name == "images") return Layout::images;
    if (name == "channels") return Layout::channels;
    throw std::invalid_argument("layout is '" + name + "', wanted auto, modelled, images or channels");
}

std::string LayoutChoice::text() const {
    const double scale = measured ? 1e3 : 1e-6;
    const char* const unit = measured ? "ms" : "million cycles";
    const double own = channels ? channels_cost : images_cost, other = channels ? images_cost : channels_cost;
    return std::string("layout: ") + (channels ? "channels" : "images") + " innermost, " + number(own * scale, unit) +
           (measured ? " measured; " : " by the model; ") + (channels ? "images " : "channels ") +
           number(other * scale, unit);
}

std::vector<double> op_cycles(const Graph& graph, const KernelTable& kernels) {
    std::vector<double> cycles;
    for (const OpPointer& op : graph.ops)
        cycles.push_back(
            op->is_loss() ? 0 : op->cycles(kernels.lanes, static_cast<double>(channels::second_level_bytes())));
    return cycles;
}

LayoutChoice modelled_choice(double block_cycles, const channels::Network& network, Index pictures, int threads) {
    const Index blocks = (pictures + kBlock - 1) / kBlock;
    LayoutChoice choice;
    choice.images_cost = block_cycles * static_cast<double>((blocks + threads - 1) / threads);
    choice.channels_cost = network.cycles(pictures, threads);
    choice.channels = choice.channels_cost < choice.images_cost;
    choice.sure = std::max(choice.channels_cost, choice.images_cost) >
                  kSure * std::min(choice.channels_cost, choice.images_cost);
    return choice;
}

std::size_t identity_of(const Graph& graph, const KernelTable& kernels) {
    std::string plan = std::string(kernels.name) + text(graph.values[0].shape);
    for (const OpPointer& op : graph.ops) plan += op->describe() + "\n";
    return std::hash<std::string>{}(plan);
}

bool find_measured(std::size_t identity, Index pictures, int threads, LayoutChoice& choice) {
    Known& all = known();
    const std::scoped_lock lock(all.guard);
    const auto found = all.choices.find({identity, pictures, threads});
    if (found == all.choices.end()) return false;
    choice = found->second;
    return true;
}

LayoutChoice measure(std::size_t identity, Index pictures, int threads, const std::function<double()>& by_images,
                     const std::function<double()>& by_channels) {
    by_images();  // memory is touched for the first time
    by_channels();
    LayoutChoice choice;
    choice.sure = choice.measured = true;
    choice.images_cost = by_images();
    choice.channels_cost = by_channels();
    // Small networks again: what else the machine does is longer than they are.
    for (int again = 0; again < 8 && choice.images_cost + choice.channels_cost < 0.01; ++again) {
        choice.images_cost = std::min(choice.images_cost, by_images());
        choice.channels_cost = std::min(choice.channels_cost, by_channels());
    }
    choice.channels = choice.channels_cost < choice.images_cost;
    if (!choice.channels) by_images();
    Known& all = known();
    const std::scoped_lock lock(all.guard);
    all.choices.insert_or_assign({identity, pictures, threads}, choice);
    return choice;
}

}  // namespace convscope
