// Which layout an evaluation takes: names, the model's choice, what is measured once and kept.
#include "graph/network.h"

#include <stdexcept>
#include <vector>

#include "cases.h"
#include "check.h"

namespace convscope::test {
namespace {

void names() {
    check(layout_of("images", false) == Layout::images && layout_of("channels", true) == Layout::channels, "by name");
    check(layout_of("auto", false) == Layout::measured, "evaluation alone is measured");
    check(layout_of("auto", true) == Layout::modelled, "with a loss the model decides");
    const std::string refusal = message_of<std::invalid_argument>([] { layout_of("rows", false); });
    check(refusal == "layout is 'rows', wanted auto, modelled, images or channels", "an unknown one is refused");
}

// Ways that tell how long they say they took, and leave their mark as an answer.
void measured_choice(double images, double channels, bool channels_win) {
    const std::size_t identity = 77 + static_cast<std::size_t>(1000 * images);
    LayoutChoice choice;
    check(!find_measured(identity, 4, 2, choice), "nothing is known before");
    int answered_by = 0, runs = 0;
    const LayoutChoice found = measure(identity, 4, 2, [&] { return answered_by = 1, ++runs, images; },
                                       [&] { return answered_by = 2, ++runs, channels; });
    check(found.measured && found.sure && found.channels == channels_win, "the quicker one is chosen");
    check(answered_by == (channels_win ? 2 : 1), "the one that is chosen answers");
    check(runs <= 21, "small networks are measured a few times");
    check(find_measured(identity, 4, 2, choice) && choice.channels == channels_win, "the choice is kept");
    check(!find_measured(identity, 5, 2, choice) && !find_measured(identity, 4, 1, choice),
          "other numbers of pictures and threads have their own");
    check(found.text().find(channels_win ? "channels innermost" : "images innermost") != std::string::npos,
          "the choice is told");
}

// Wide maps of few pictures are for blocks of channels, many pictures of one channel for blocks of pictures.
void modelled() {
    const auto described = [](Index channels, Index pictures, bool training) {
        const Case drafted = Draft("layout", {channels, 20, 20}).convolution(channels, channels, 3, 3).loss();
        const std::vector<Record> records(drafted.records.begin(), drafted.records.end() - 1);
        Network network(drafted.input, records, {1}, drafted.parameters, drafted.state, "modelled");
        return network.describe(pictures, 1, training);
    };
    check(described(64, 1, false).starts_with("layout: channels innermost"), "one picture");
    check(described(1, 256, false).starts_with("layout: images innermost"), "many pictures of one channel");
    check(described(64, 1, true).starts_with("layout: images innermost, as training"), "training has no other");
}

}  // namespace
}  // namespace convscope::test

int main() {
    using namespace convscope::test;
    names();
    measured_choice(0.02, 0.01, true);
    measured_choice(0.001, 0.002, false);
    measured_choice(0.03, 0.04, false);
    modelled();
    return report();
}
