// Plans with every operator and option, and what writes them.
#pragma once

#include <utility>

#include "oracle.h"

namespace convscope::test {

struct Case {
    std::string name;
    Shape input;
    std::vector<Record> records;  // parameters and state are given places by `Draft`
    Index parameters = 0, state = 0;
    bool classes = true;
};

inline Attribute list(std::vector<double> numbers) { return {std::move(numbers), {}}; }

// Writes plans of one chain, giving each layer its places.
class Draft {
public:
    Draft(std::string name, Shape input) : case_{std::move(name), input, {}, 0, 0, true} {}

    Draft& convolution(Index in, Index out, Index kh, Index kw, std::map<std::string, Attribute> more = {},
                       Index kernels = 0) {
        more["out_channels"] = list({static_cast<double>(out)});
        more["kernel_size"] = list({static_cast<double>(kh), static_cast<double>(kw)});
        return add("conv2d", more, {{"weight", (kernels ? kernels : in * out) * kh * kw}, {"bias", out}});
    }
    Draft& linear(Index in, Index out) {
        return add("linear", {{"out_features", list({static_cast<double>(out)})}},
                   {{"weight", in * out}, {"bias", out}});
    }
    Draft& add(const std::string& kind, std::map<std::string, Attribute> attributes = {},
               std::map<std::string, Index> parameters = {}, std::map<std::string, Index> state = {}) {
        for (auto& [name, count] : parameters) case_.parameters += std::exchange(count, case_.parameters);
        for (auto& [name, count] : state) case_.state += std::exchange(count, case_.state);
        case_.records.push_back(record(kind, last_, last_ + 1, attributes, parameters, state));
        ++last_;
        return *this;
    }
    Draft& join(const std::string& kind, int with) {
        add(kind);
        case_.records.back().inputs.push_back(with);
        return *this;
    }
    Case loss(const std::string& kind = "cross_entropy", std::map<std::string, Attribute> attributes = {}) {
        case_.records.push_back(record(kind, last_, -1, attributes));
        case_.classes = kind != "squared_error" && kind != "binary_cross_entropy";
        return case_;
    }

private:
    Case case_;
    int last_ = 0;
};

std::vector<Case> cases();

// Largest difference between `got` and `wanted`, relative to the largest wanted.
double distance(const std::vector<double>& got, const std::vector<double>& wanted);
double largest(const std::vector<double>& values);

}  // namespace convscope::test
