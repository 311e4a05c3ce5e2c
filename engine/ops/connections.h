// Which maps each map of a layer is made from.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/arguments.h"

namespace convscope {

// Ascending lists of source maps, one for each destination map. Neighbours with the same list share it: lists of their own
// would take twice the memory of a 1×1 layer's weights.
class Connections {
public:
    using List = std::vector<Index>;

    Connections() = default;
    explicit Connections(std::vector<List> lists) {
        for (List& each : lists) push_back(std::move(each));
    }

    void push_back(List list) {
        if (!lists_.empty() && *lists_.back() == list) lists_.push_back(lists_.back());
        else lists_.push_back(std::make_shared<const List>(std::move(list)));
    }
    std::size_t size() const { return lists_.size(); }
    const List& operator[](std::size_t to) const { return *lists_[to]; }
    const std::shared_ptr<const List>& shared(std::size_t to) const { return lists_[to]; }
    // Whether every list names as many maps as there are.
    bool dense(Index source_maps) const {
        return std::all_of(lists_.begin(), lists_.end(),
                           [&](const auto& list) { return static_cast<Index>(list->size()) == source_maps; });
    }
    bool alike(std::size_t one, std::size_t other) const {
        return lists_[one] == lists_[other] || *lists_[one] == *lists_[other];
    }

private:
    std::vector<std::shared_ptr<const List>> lists_;
};

}  // namespace convscope
