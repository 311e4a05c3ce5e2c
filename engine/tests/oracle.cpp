#include "oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace convscope::test {
namespace {

using Pictures = std::vector<Picture>;

std::size_t u(Index i) { return static_cast<std::size_t>(i); }

double number(const Record& r, const std::string& name, double fallback) {
    const auto found = r.attributes.find(name);
    return found == r.attributes.end() ? fallback : found->second.numbers.at(0);
}

Size size(const Record& r, const std::string& name, Size fallback) {
    const auto found = r.attributes.find(name);
    if (found == r.attributes.end()) return fallback;
    return {static_cast<Index>(found->second.numbers.front()), static_cast<Index>(found->second.numbers.back())};
}

Picture blank(Index channels, Index height, Index width) {
    Picture picture;
    picture.shape = {channels, height, width};
    picture.x.assign(u(picture.shape.positions()), 0.0);
    return picture;
}

Picture convolve(const Problem& p, const Record& r, const Picture& in) {
    const Size k = size(r, "kernel_size", {}), s = size(r, "stride", {1, 1}), pad = size(r, "padding", {0, 0}),
               d = size(r, "dilation", {1, 1});
    const Index groups = static_cast<Index>(number(r, "groups", 1)),
                maps = static_cast<Index>(number(r, "out_channels", 0));
    const bool flip = number(r, "flip_kernel", 0) != 0;
    Picture out = blank(maps, (in.shape.height + 2 * pad.y - d.y * (k.y - 1) - 1) / s.y + 1,
                        (in.shape.width + 2 * pad.x - d.x * (k.x - 1) - 1) / s.x + 1);
    Index kernel = r.parameters.at("weight");
    for (Index to = 0; to < maps; ++to) {
        std::vector<Index> from;
        if (r.attributes.contains("table")) from = r.attributes.at("table").lists[u(to)];
        else
            for (Index i = 0; i < in.shape.channels / groups; ++i)
                from.push_back(to / (maps / groups) * (in.shape.channels / groups) + i);
        for (Index y = 0; y < out.shape.height; ++y)
            for (Index x = 0; x < out.shape.width; ++x) {
                double sum = r.parameters.contains("bias") ? p.parameters[u(r.parameters.at("bias") + to)] : 0.0;
                for (std::size_t f = 0; f < from.size(); ++f)
                    for (Index i = 0; i < k.y; ++i)
                        for (Index j = 0; j < k.x; ++j) {
                            const Index tap = flip ? (k.y - 1 - i) * k.x + (k.x - 1 - j) : i * k.x + j;
                            sum += p.parameters[u(kernel + static_cast<Index>(f) * k.y * k.x + tap)] *
                                   std::as_const(in).at(from[f], y * s.y + i * d.y - pad.y, x * s.x + j * d.x - pad.x);
                        }
                out.at(to, y, x) = sum;
            }
        kernel += static_cast<Index>(from.size()) * k.y * k.x;
    }
    return out;
}

Index pooled(Index n, Index k, Index s, Index pad, bool up) {
    Index out = static_cast<Index>(up ? std::ceil(static_cast<double>(n + 2 * pad - k) / static_cast<double>(s))
                                      : std::floor(static_cast<double>(n + 2 * pad - k) / static_cast<double>(s))) +
                1;
    return up && (out - 1) * s >= n + pad ? out - 1 : out;
}

Picture pool(const Problem& p, const Record& r, const Picture& in) {
    Size k = size(r, "kernel_size", {in.shape.height, in.shape.width});
    const Size s = size(r, "stride", k), pad = size(r, "padding", {0, 0});
    const bool up = number(r, "ceil_mode", 0) != 0, counts_padding = number(r, "count_include_pad", 1) != 0;
    Picture out = blank(in.shape.channels, pooled(in.shape.height, k.y, s.y, pad.y, up),
                        pooled(in.shape.width, k.x, s.x, pad.x, up));
    for (Index map = 0; map < in.shape.channels; ++map)
        for (Index y = 0; y < out.shape.height; ++y)
            for (Index x = 0; x < out.shape.width; ++x) {
                double most = -std::numeric_limits<double>::infinity(), sum = 0, squares = 0, inside = 0, padded = 0;
                for (Index i = y * s.y - pad.y; i < y * s.y - pad.y + k.y; ++i)
                    for (Index j = x * s.x - pad.x; j < x * s.x - pad.x + k.x; ++j) {
                        if (i < in.shape.height + pad.y && j < in.shape.width + pad.x) padded += 1;
                        if (i < 0 || j < 0 || i >= in.shape.height || j >= in.shape.width) continue;
                        const double value = in.at(map, i, j);
                        most = std::max(most, value);
                        sum += value;
                        squares += value * value;
                        inside += 1;
                    }
                double& to = out.at(map, y, x);
                if (r.kind == "max_pool") to = most;
                else if (r.kind == "sum_pool") to = sum;
                else if (r.kind == "l2_pool") to = std::sqrt(squares);
                else if (r.kind == "subsample")
                    to = p.parameters[u(r.parameters.at("weight") + map)] * sum +
                         p.parameters[u(r.parameters.at("bias") + map)];
                else to = sum / (counts_padding ? padded : inside);
            }
    return out;
}

double activate(const Record& r, double x) {
    if (r.kind == "relu") return std::max(0.0, x);
    if (r.kind == "relu6") return std::min(6.0, std::max(0.0, x));
    if (r.kind == "tanh") return std::tanh(x);
    if (r.kind == "sigmoid") return 1 / (1 + std::exp(-number(r, "slope", 1) * x));
    if (r.kind == "scaled_tanh") return number(r, "amplitude", 1.7159) * std::tanh(number(r, "slope", 2.0 / 3.0) * x);
    if (r.kind == "leaky_relu") return x > 0 ? x : number(r, "negative_slope", 0.01) * x;
    if (r.kind == "elu") return x > 0 ? x : number(r, "alpha", 1) * std::expm1(x);
    if (r.kind == "silu") return x / (1 + std::exp(-x));
    if (r.kind == "softplus") return std::log1p(std::exp(x));
    if (r.kind == "hard_tanh") return std::min(number(r, "high", 1), std::max(number(r, "low", -1), x));
    return x;
}

Picture dense(const Problem& p, const Record& r, const Picture& in) {
    Picture out = blank(static_cast<Index>(number(r, "out_features", 0)), 1, 1);
    const bool distances = r.kind == "rbf_units";
    const auto inputs = static_cast<Index>(in.x.size());
    for (Index o = 0; o < out.shape.channels; ++o) {
        double sum = !distances && r.parameters.contains("bias") ? p.parameters[u(r.parameters.at("bias") + o)] : 0.0;
        for (Index i = 0; i < inputs; ++i) {
            const double w = distances ? p.state[u(r.state.at("weight") + o * inputs + i)]
                                       : p.parameters[u(r.parameters.at("weight") + o * inputs + i)];
            const double x = in.x[u(i)];
            sum += distances ? (x - w) * (x - w) : w * x;
        }
        out.x[u(o)] = sum;
    }
    return out;
}

Picture respond(const Record& r, const Picture& in) {
    Picture out = in;
    const auto n = static_cast<Index>(number(r, "size", 0));
    for (Index c = 0; c < in.shape.channels; ++c)
        for (Index y = 0; y < in.shape.height; ++y)
            for (Index x = 0; x < in.shape.width; ++x) {
                double squares = 0;
                for (Index j = c - n / 2; j < c - n / 2 + n; ++j) squares += std::pow(in.at(j, y, x), 2);
                out.at(c, y, x) = in.at(c, y, x) * std::pow(number(r, "k", 1) + number(r, "alpha", 1e-4) /
                                                                                    static_cast<double>(n) * squares,
                                                            -number(r, "beta", 0.75));
            }
    return out;
}

Pictures normalise(const Problem& p, const Record& r, const Pictures& in) {
    Pictures out = in;
    for (Index c = 0; c < in[0].shape.channels; ++c) {
        double mean = 0, variance = 0, count = 0;
        const Index area = in[0].shape.height * in[0].shape.width;
        for (const Picture& each : in)
            for (Index i = 0; i < area; ++i) mean += each.x[u(c * area + i)], count += 1;
        mean /= count;
        for (const Picture& each : in)
            for (Index i = 0; i < area; ++i) variance += std::pow(each.x[u(c * area + i)] - mean, 2) / count;
        if (!p.training) {
            mean = p.state[u(r.state.at("running_mean") + c)];
            variance = p.state[u(r.state.at("running_var") + c)];
        }
        const double gamma = p.parameters[u(r.parameters.at("weight") + c)],
                     beta = p.parameters[u(r.parameters.at("bias") + c)];
        for (Picture& each : out)
            for (Index i = 0; i < area; ++i) {
                double& x = each.x[u(c * area + i)];
                x = gamma * (x - mean) / std::sqrt(variance + number(r, "eps", 1e-5)) + beta;
            }
    }
    return out;
}

double loss_of(const Problem& p, const Record& r, const Picture& y, Index image) {
    const auto count = static_cast<Index>(y.x.size());
    const Index target = p.classes.empty() ? 0 : static_cast<Index>(p.classes[u(image)]);
    double total = 0, value = 0;
    if (r.kind == "cross_entropy") {
        for (const double each : y.x) total += std::exp(each);
        const double smoothing = number(r, "label_smoothing", 0);
        for (Index i = 0; i < count; ++i)
            value -= ((i == target ? 1 - smoothing : 0) + smoothing / static_cast<double>(count)) *
                     (y.x[u(i)] - std::log(total));
    } else if (r.kind == "rbf_loss") {
        total = std::exp(-number(r, "j", 0.1));
        for (const double each : y.x) total += std::exp(-each);
        value = y.x[u(target)] + std::log(total);
    } else {
        for (Index i = 0; i < count; ++i) {
            const double t = p.numbers.empty() ? 0 : p.numbers[u(image * count + i)], v = y.x[u(i)];
            if (r.kind == "squared_error") value += number(r, "scale", 0.5) * (v - t) * (v - t);
            if (r.kind == "binary_cross_entropy") value += std::log1p(std::exp(v)) - v * t;
            if (r.kind == "hinge" && i != target)
                value += std::max(0.0, number(r, "margin", 1) - y.x[u(target)] + v) / static_cast<double>(count);
        }
    }
    return number(r, "weight", 1) * value / static_cast<double>(p.n);
}

Picture one(const Problem& p, const Record& r, const std::vector<const Picture*>& in) {
    if (r.kind == "conv2d") return convolve(p, r, *in[0]);
    if (r.kind == "linear" || r.kind == "rbf_units") return dense(p, r, *in[0]);
    if (r.kind == "response_norm") return respond(r, *in[0]);
    if (r.kind.ends_with("_pool") || r.kind == "subsample" || r.kind == "global_mean") return pool(p, r, *in[0]);
    Picture out = *in[0];
    if (r.kind == "flatten") out.shape = {static_cast<Index>(out.x.size()), 1, 1};
    else if (r.kind == "add")
        for (std::size_t i = 0; i < out.x.size(); ++i) out.x[i] += in[1]->x[i];
    else if (r.kind == "concat") {
        out.x.insert(out.x.end(), in[1]->x.begin(), in[1]->x.end());
        out.shape.channels += in[1]->shape.channels;
    } else if (r.kind == "softmax") {
        double total = 0;
        for (const double each : in[0]->x) total += std::exp(each);
        for (double& each : out.x) each = std::exp(each) / total;
    } else
        for (double& each : out.x) each = activate(r, each);
    return out;
}

}  // namespace

double Picture::at(Index map, Index row, Index column) const {
    if (map < 0 || row < 0 || column < 0 || map >= shape.channels || row >= shape.height || column >= shape.width)
        return 0;
    return x[u((map * shape.height + row) * shape.width + column)];
}

double& Picture::at(Index map, Index row, Index column) {
    return x[u((map * shape.height + row) * shape.width + column)];
}

double oracle(const Problem& p, std::vector<double>* outputs) {
    std::map<int, Pictures> values;
    for (Index n = 0; n < p.n; ++n) {
        Picture picture = blank(p.input.channels, p.input.height, p.input.width);
        std::copy_n(p.images.begin() + n * p.input.positions(), p.input.positions(), picture.x.begin());
        values[0].push_back(picture);
    }
    double loss = 0;
    int last = 0;
    for (const Record& r : p.records) {
        if (r.output < 0) {
            for (Index n = 0; n < p.n; ++n) loss += loss_of(p, r, values[r.inputs[0]][u(n)], n);
            continue;
        }
        last = r.output;
        if (r.kind == "batch_norm") {
            values[r.output] = normalise(p, r, values[r.inputs[0]]);
            continue;
        }
        for (Index n = 0; n < p.n; ++n) {
            std::vector<const Picture*> in;
            for (const int input : r.inputs) in.push_back(&values[input][u(n)]);
            values[r.output].push_back(one(p, r, in));
        }
    }
    if (outputs) {
        outputs->clear();
        for (const Picture& each : values[last]) outputs->insert(outputs->end(), each.x.begin(), each.x.end());
    }
    return loss;
}

Record record(const std::string& kind, int input, int output, std::map<std::string, Attribute> attributes,
              std::map<std::string, Index> parameters, std::map<std::string, Index> state) {
    Record r;
    r.kind = kind;
    r.name = kind + std::to_string(output);
    r.inputs = {input};
    r.output = output;
    r.attributes = std::move(attributes);
    r.parameters = std::move(parameters);
    r.state = std::move(state);
    return r;
}

}  // namespace convscope::test
