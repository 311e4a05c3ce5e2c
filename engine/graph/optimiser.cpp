#include "graph/optimiser.h"

#include <algorithm>
#include <cmath>

namespace convscope {

std::vector<Piece> cut_pieces(const std::vector<Range>& summed, const std::vector<Rule>& rules) {
    std::vector<Index> ends;
    for (const Range& each : summed) ends.insert(ends.end(), {each.begin, each.end});
    for (const Rule& each : rules) ends.insert(ends.end(), {each.range.begin, each.range.end});
    std::sort(ends.begin(), ends.end());
    std::vector<Piece> pieces;
    auto sum = summed.begin();
    auto rule = rules.begin();
    for (std::size_t i = 0; i + 1 < ends.size(); ++i) {
        const Range range{ends[i], ends[i + 1]};
        if (range.begin == range.end) continue;
        while (sum != summed.end() && sum->end <= range.begin) ++sum;
        while (rule != rules.end() && rule->range.end <= range.begin) ++rule;
        Piece piece{range};
        piece.summed = sum != summed.end() && sum->begin <= range.begin;
        if (rule != rules.end() && rule->range.begin <= range.begin) piece.rule = &*rule;
        if (piece.summed || piece.rule) pieces.push_back(piece);
    }
    return pieces;
}

Descent descent_of(const Piece& piece, float* parameters) {
    Descent descent;
    descent.first = piece.range.begin;
    descent.count = piece.range.end - piece.range.begin;
    if (!piece.rule) return descent;
    const Rule& rule = *piece.rule;
    const Index offset = piece.range.begin - rule.range.begin;
    descent.parameters = parameters + piece.range.begin;
    if (rule.mean) descent.mean = rule.mean + offset;
    if (rule.squares) descent.squares = rule.squares + offset;
    descent.momentum = static_cast<float>(rule.momentum);
    if (!rule.adam) {
        descent.kind = rule.momentum != 0 ? DescentKind::momentum : DescentKind::gradient;
        descent.rate = static_cast<float>(rule.rate);
        descent.decay = static_cast<float>(rule.weight_decay);
        descent.fresh = static_cast<float>(1 - rule.dampening);
        descent.nesterov = rule.nesterov;
        return descent;
    }
    const double steps = static_cast<double>(*rule.steps) + 1;
    descent.kind = DescentKind::adam;
    descent.rate = static_cast<float>(rule.rate / (1 - std::pow(rule.momentum, steps)));
    if (rule.decoupled) descent.keep = static_cast<float>(1 - rule.rate * rule.weight_decay);
    else descent.decay = static_cast<float>(rule.weight_decay);
    descent.fresh = static_cast<float>(1 - rule.momentum);
    descent.square_momentum = static_cast<float>(rule.square_momentum);
    descent.square_fresh = static_cast<float>(1 - rule.square_momentum);
    descent.root_scale = static_cast<float>(1 / std::sqrt(1 - std::pow(rule.square_momentum, steps)));
    descent.epsilon = static_cast<float>(rule.epsilon);
    return descent;
}

Range share(const Range& range, int part, int parts) {
    const auto end_of = [&](int number) {
        if (number == 0) return range.begin;
        if (number == parts) return range.end;
        const Index at = range.begin + (range.end - range.begin) * number / parts;
        return std::max(range.begin, at / kBlock * kBlock);
    };
    return {end_of(part), end_of(part + 1)};
}

}  // namespace convscope
