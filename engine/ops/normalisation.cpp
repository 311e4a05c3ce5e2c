#include <cmath>

#include "ops/layers.h"

namespace convscope {
namespace {

class LocalResponseNorm final : public Op {
public:
    LocalResponseNorm(const Record& record, const Shape& input) : Op(record, {input}, input) {
        Attributes read(record);
        size_ = read.whole("size", 1);
        alpha_ = static_cast<float>(read.number("alpha", 1e-4));
        beta_ = static_cast<float>(read.number("beta", 0.75));
        k_ = static_cast<float>(read.number("k", 1));
        read.finish();
    }
    bool reads_input_in_backward() const override { return true; }
    bool reads_output_in_backward() const override { return true; }
    void forward(const Block& block) const override { block.kernels->response_norm_forward(arguments(block)); }
    void backward(const Block& block) const override {
        ResponseNorm a = arguments(block);
        a.delta = block.delta;
        a.input_delta = block.input_deltas[0];
        a.accumulate = block.accumulate_input_delta[0];
        block.kernels->response_norm_backward(a);
    }

private:
    ResponseNorm arguments(const Block& block) const {
        ResponseNorm a;
        a.input = block.inputs[0];
        a.output = block.output;
        a.size = size_;
        a.alpha = alpha_;
        a.beta = beta_;
        a.k = k_;
        return a;
    }
    Index size_ = 0;
    float alpha_ = 0, beta_ = 0, k_ = 0;
};

// y = γ (x − μ)/σ + β, or f of it. In training μ and σ are the batch's, so the network is cut here: all blocks are measured, the
// sums are merged in order of the blocks (Chan's update, in doubles), and then the blocks go on.
//
// Statistics of a block, per map: [0] Σx and [1] Σ(x − block mean)² of the forward pass, then [2] Σδ and [3] Σδ·(x −
// μ); [4] μ, [5] 1/σ, [6] mean δ, [7] mean δ·(x − μ) of the batch, kept with block 0.
class BatchNorm final : public Op {
public:
    BatchNorm(const Record& record, const Shape& input) : Op(record, {input}, input) {
        Attributes read(record);
        eps_ = read.number("eps", 1e-5);
        momentum_ = read.number("momentum", 0.1);
        read.finish();
        check_names(record, record.parameters, {"weight", "bias"});
        check_names(record, record.state, {"running_mean", "running_var"});
        weight_ = optional_place(record.parameters, "weight", input.channels);
        bias_ = optional_place(record.parameters, "bias", input.channels);
        mean_ = required_place(record, record.state, "running_mean", input.channels);
        variance_ = required_place(record, record.state, "running_var", input.channels);
    }

    std::vector<Place> parameter_places() const override { return {weight_, bias_}; }
    std::vector<Place> state_places() const override { return {mean_, variance_}; }
    bool reads_input_in_backward() const override { return true; }
    bool reads_output_in_backward() const override { return activates(); }
    bool can_take_activation() const override { return true; }
    void take(ActivationSpec activation) override { activation_ = activation; }
    bool cuts() const override { return true; }
    bool shares() const override { return true; }
    Index statistics_count() const override { return kValues * output_shape.channels; }

    void measure(const Block& block) const override {
        const Team::Own own = block.team.of(maps());
        for (Index map = own.begin; map < own.end; ++map) {
            double* values = block.statistics + map * kValues;
            values[0] =
                over_rows(block, map, [&](Index row, Moments& a) { a.x = row_of(block.inputs[0], map, row); }).sum;
            const double mean = values[0] / static_cast<double>(block.images_present * area());
            values[1] = over_rows(block, map, [&](Index row, Moments& a) {
                            a.x = a.y = row_of(block.inputs[0], map, row);
                            a.centre = static_cast<float>(mean);
                        }).product;
            // Σ(x − c)² about the rounded centre c → about the mean itself.
            const double off = mean - static_cast<double>(static_cast<float>(mean));
            values[1] -= off * off * static_cast<double>(block.images_present * area());
        }
    }

    void settle(const Batch& batch) const override {
        for (Index map = 0; map < maps(); ++map) {
            double count = 0, mean = 0, squares = 0;
            for (Index number = 0; number < batch.blocks; ++number) {
                const double* values = batch.statistics + number * statistics_count() + map * kValues;
                const Index images = std::min(kBlock, batch.images - number * kBlock);
                const auto added = static_cast<double>(images * area());
                const double difference = values[0] / added - mean;
                squares += values[1] + difference * difference * count * added / (count + added);
                mean += difference * added / (count + added);
                count += added;
            }
            double* result = batch.statistics + map * kValues;
            result[4] = mean;
            result[5] = 1 / std::sqrt(squares / count + eps_);
            if (!batch.update_state) continue;
            float& running_mean = batch.state[mean_.offset + map];
            float& running_variance = batch.state[variance_.offset + map];
            const double unbiased = squares / std::max(1.0, count - 1);
            running_mean = static_cast<float>((1 - momentum_) * static_cast<double>(running_mean) + momentum_ * mean);
            running_variance =
                static_cast<float>((1 - momentum_) * static_cast<double>(running_variance) + momentum_ * unbiased);
        }
    }

    void forward(const Block& block) const override {
        const Team::Own own = block.team.of(maps());
        for (Index map = own.begin; map < own.end; ++map) {
            const Normal normal = normal_of(block, map);
            const double scale = gamma(block, map) * normal.inverse;
            const auto centre = static_cast<float>(normal.mean);
            const auto offset =
                static_cast<float>(beta(block, map) + scale * (static_cast<double>(centre) - normal.mean));
            for (Index row = 0; row < output_shape.height; ++row) {
                float* const to = row_of(block.output, map, row);
                block.kernels->affine(static_cast<float>(scale), centre, offset, row_of(block.inputs[0], map, row), to,
                                      output_shape.width);
                if (activates()) block.kernels->activate(activation_, to, to, output_shape.width * kBlock);
            }
        }
    }

    void measure_backward(const Block& block) const override {
        const Team::Own own = block.team.of(maps());
        for (Index map = own.begin; map < own.end; ++map) {
            double* values = block.statistics + map * kValues;
            const Moments sums = over_rows(block, map, [&](Index row, Moments& a) {
                float* const delta = row_of(block.delta, map, row);
                if (activates())  // from here on δ is that of what f takes
                    block.kernels->differentiate(activation_, nullptr, row_of(block.output, map, row), delta, delta,
                                                 output_shape.width, false);
                a.x = row_of(block.inputs[0], map, row);
                a.y = delta;
                a.centre = static_cast<float>(normal_of(block, map).mean);
            });
            values[2] = sums.sum;
            values[3] = sums.product;
            if (!block.training)
                add_gradients(block.gradients, block.accumulate_gradient, map, sums.sum,
                              sums.product * normal_of(block, map).inverse);
        }
    }

    void settle_backward(const Batch& batch) const override {
        const auto count = static_cast<double>(batch.images * area());
        for (Index map = 0; map < maps(); ++map) {
            double to_beta = 0, to_gamma = 0;
            for (Index number = 0; number < batch.blocks; ++number) {
                const double* values = batch.statistics + number * statistics_count() + map * kValues;
                to_beta += values[2];
                to_gamma += values[3];
            }
            double* result = batch.statistics + map * kValues;
            result[6] = to_beta / count;
            result[7] = to_gamma / count;
            add_gradients(batch.gradients, batch.accumulate_gradient, map, to_beta, to_gamma * result[5]);
        }
    }

    // Training: δx = γ/σ (δ − mean δ − (x − μ)/σ² · mean δ(x − μ)). Evaluation: δx = γ/σ δ.
    void backward(const Block& block) const override {
        if (!block.training) measure_backward(block);
        if (!block.input_deltas[0].data) return;
        const Team::Own own = block.team.of(maps());
        for (Index map = own.begin; map < own.end; ++map) {
            const Normal normal = normal_of(block, map);
            const double scale = gamma(block, map) * normal.inverse;
            Combine a;
            a.a = static_cast<float>(scale);
            if (block.training) {
                const double* shared = batch_values(block, map);
                const double along = -scale * normal.inverse * normal.inverse * shared[7];
                a.b = static_cast<float>(along);
                a.centre = static_cast<float>(normal.mean);
                a.c = static_cast<float>(-scale * shared[6] + along * (static_cast<double>(a.centre) - normal.mean));
            }
            a.count = output_shape.width;
            a.images_present = block.images_present;
            a.accumulate = block.accumulate_input_delta[0];
            for (Index row = 0; row < output_shape.height; ++row) {
                a.x = row_of(block.delta, map, row);
                a.y = row_of(block.inputs[0], map, row);
                a.to = row_of(block.input_deltas[0], map, row);
                block.kernels->combine(a);
            }
        }
    }

private:
    static constexpr Index kValues = 8;
    struct Normal {
        double mean, inverse;
    };

    bool activates() const { return activation_.kind != Activation::identity; }
    Index maps() const { return output_shape.channels; }
    Index area() const { return output_shape.height * output_shape.width; }
    double gamma(const Block& block, Index map) const {
        return weight_.present() ? static_cast<double>(block.parameters[weight_.offset + map]) : 1.0;
    }
    double beta(const Block& block, Index map) const {
        return bias_.present() ? static_cast<double>(block.parameters[bias_.offset + map]) : 0.0;
    }
    const double* batch_values(const Block& block, Index map) const {
        return block.statistics - block.first_image / kBlock * statistics_count() + map * kValues;
    }
    Normal normal_of(const Block& block, Index map) const {
        if (block.training) return {batch_values(block, map)[4], batch_values(block, map)[5]};
        return {static_cast<double>(block.state[mean_.offset + map]),
                1 / std::sqrt(static_cast<double>(block.state[variance_.offset + map]) + eps_)};
    }
    void add_gradients(float* gradients, bool accumulate, Index map, double to_beta, double to_gamma) const {
        if (!gradients) return;
        const auto put = [&](const Place& place, double value) {
            if (!place.present()) return;
            float& to = gradients[place.offset + map];
            to = static_cast<float>(value) + (accumulate ? to : 0.0f);
        };
        put(bias_, to_beta);
        put(weight_, to_gamma);
    }
    template <class Point>
    Moments over_rows(const Block& block, Index, Point point) const {
        Moments total;
        for (Index row = 0; row < output_shape.height; ++row) {
            Moments a;
            point(row, a);
            a.count = output_shape.width;
            a.images_present = block.images_present;
            block.kernels->moments(a);
            total.sum += a.sum;
            total.product += a.product;
        }
        return total;
    }

    double eps_ = 0, momentum_ = 0;
    Place weight_, bias_, mean_, variance_;
    ActivationSpec activation_;  // y = f(γ (x − μ)/σ + β)
};

}  // namespace

OpPointer make_response_norm(const Record& record, const Shape& input) {
    return std::make_unique<LocalResponseNorm>(record, input);
}

OpPointer make_batch_norm(const Record& record, const Shape& input) {
    return std::make_unique<BatchNorm>(record, input);
}

}  // namespace convscope
