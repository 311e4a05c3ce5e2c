#include "channels/plan.h"

#include <algorithm>

namespace convscope::channels {
namespace {

constexpr Index kNever = -1;

struct Tenant {
    Index* place = nullptr;
    Index floats = 0;
    Index birth = kNever, death = kNever;

    void touch(Index time) {
        if (birth == kNever) birth = time;
        death = time;
    }
    Index end() const { return *place + floats; }
};

// The largest first, each at the lowest place that is free all its life.
Index place_all(std::vector<Tenant>& tenants) {
    std::stable_sort(tenants.begin(), tenants.end(),
                     [](const Tenant& a, const Tenant& b) { return a.floats > b.floats; });
    Index end = 0;
    std::vector<const Tenant*> placed, neighbours;
    for (Tenant& each : tenants) {
        if (each.birth == kNever || each.floats == 0) continue;
        neighbours.clear();
        for (const Tenant* other : placed)
            if (other->birth <= each.death && each.birth <= other->death) neighbours.push_back(other);
        std::sort(neighbours.begin(), neighbours.end(),
                  [](const Tenant* a, const Tenant* b) { return *a->place < *b->place; });
        Index place = 0;
        for (const Tenant* other : neighbours) {
            if (*other->place >= place + each.floats) break;
            place = std::max(place, other->end());
        }
        *each.place = place;
        end = std::max(end, each.end());
        placed.push_back(&each);
    }
    return end;
}

}  // namespace

Plan make_plan(const Net& net, Index lanes, Index pictures, int threads) {
    Plan plan;
    plan.storages.assign(net.storages.size(), 0);
    plan.shared.assign(net.ops.size(), 0);
    std::vector<Tenant> tenants(net.storages.size() + net.ops.size());
    for (std::size_t i = 0; i < net.storages.size(); ++i) {
        tenants[i].place = &plan.storages[i];
        tenants[i].floats = net.storages[i].picture_floats(lanes) * pictures;
    }
    const auto storage_of = [&](int value) -> Tenant& {
        return tenants[static_cast<std::size_t>(net.values[static_cast<std::size_t>(value)].storage)];
    };
    for (std::size_t number = 0; number < net.ops.size(); ++number) {
        const Op& op = *net.ops[number];
        const auto time = static_cast<Index>(number);
        for (const int input : op.inputs) storage_of(input).touch(time);
        if (op.skip >= 0) storage_of(op.skip).touch(time);
        if (op.output >= 0) storage_of(op.output).touch(time);
        Tenant& shared = tenants[net.storages.size() + number];
        shared.place = &plan.shared[number];
        shared.floats = rounded_up(op.shared_floats(pictures), 16);
        shared.touch(time);
        plan.scratch_floats = std::max(plan.scratch_floats, op.scratch_floats(pictures, threads));
    }
    plan.arena_floats = place_all(tenants);
    return plan;
}

}  // namespace convscope::channels
