// An independent, slow implementation of the plan's forward pass and losses: plain loops over doubles, one image at a
// time, in the layout of the mathematics. Gradients are finite differences of it.
#pragma once

#include <vector>

#include "ops/record.h"

namespace convscope::test {

struct Picture {
    Shape shape;
    std::vector<double> x;
    double at(Index map, Index row, Index column) const;  // 0 outside
    double& at(Index map, Index row, Index column);
};

struct Problem {
    Shape input;
    std::vector<Record> records;
    std::vector<double> parameters, state, images;  // images: n × input
    std::vector<std::int64_t> classes;
    std::vector<double> numbers;
    Index n = 0;
    bool training = false;
};

// Mean loss over the batch; `outputs` gets the value of the last record with an output, image after image.
double oracle(const Problem& problem, std::vector<double>* outputs = nullptr);

Record record(const std::string& kind, int input, int output, std::map<std::string, Attribute> attributes = {},
              std::map<std::string, Index> parameters = {}, std::map<std::string, Index> state = {});

}  // namespace convscope::test
