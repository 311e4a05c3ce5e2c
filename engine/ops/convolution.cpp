#include "ops/convolution.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

namespace convscope {
namespace {

Index output_size(const Record& record, Index input, Index kernel, Index stride, Index padding, Index dilation) {
    const Index reach = dilation * (kernel - 1) + 1;
    if (input + 2 * padding < reach)
        refuse(record, "the kernel reaches over " + std::to_string(reach) + " positions, the padded input has " +
                           std::to_string(input + 2 * padding));
    return (input + 2 * padding - reach) / stride + 1;
}

// Where a map stands in an ascending list, −1 where it does not. Most lists have no gaps.
Index number_in(const Connections::List& own, Index map) {
    const Index expected = own.empty() ? -1 : map - own.front();
    const auto count = static_cast<Index>(own.size());
    if (expected >= 0 && expected < count && own[static_cast<std::size_t>(expected)] == map) return expected;
    const auto found = std::lower_bound(own.begin(), own.end(), map);
    return found == own.end() || *found != map ? -1 : found - own.begin();
}

// Among the activations whose derivative follows from their value.
bool is_rising(ActivationSpec spec) {
    switch (spec.kind) {
        case Activation::logistic: return spec.a > 0;
        case Activation::scaled_tanh: return spec.a * spec.b > 0;
        case Activation::hard_tanh: return spec.a <= spec.b;
        default: return true;
    }
}

}  // namespace

Shape Convolution::output_of(const Record& record, const Shape& input) {
    Attributes read(record);
    const Size kernel = read.size("kernel_size", 1), stride = read.size("stride", 1, {1, 1});
    const Size padding = read.size("padding", 0, {0, 0}), dilation = read.size("dilation", 1, {1, 1});
    return {read.whole("out_channels", 1), output_size(record, input.height, kernel.y, stride.y, padding.y, dilation.y),
            output_size(record, input.width, kernel.x, stride.x, padding.x, dilation.x)};
}

bool Convolution::is_linear(const Record& record, const Shape& input) {
    Attributes read(record);
    const Size kernel = read.size("kernel_size", 1), padding = read.size("padding", 0, {0, 0});
    const Size dilation = read.size("dilation", 1, {1, 1});
    return kernel.y == input.height && kernel.x == input.width && padding.y == 0 && padding.x == 0 && dilation.y == 1 &&
           dilation.x == 1 && read.whole("groups", 1, 1) == 1 && read.whole("flip_kernel", 0, 0) == 0 &&
           !read.table("table");
}

Convolution::Convolution(const KernelTable& kernels, const Record& record, const Shape& input)
    : Op(record, {input}, output_of(record, input)), kernels_(kernels), input_(input), conv_(output_shape) {
    connect(record);
    // Taps of the forward pass, by padded input position.
    const Axis rows{conv_.height, stride_.y, kernel_.y, dilation_.y, -padding_.y, input.height, 0, 1};
    const Axis columns{conv_.width, stride_.x, kernel_.x, dilation_.x, -padding_.x, input.width, 0, 1};
    forward_ = CorrelationPass(
        kernels, rows, columns, sources_,
        [this](Index to, Index from, Index ky, Index kx) {
            const Index number = number_in(sources_[static_cast<std::size_t>(to)], from);
            return number < 0 ? number : weight_index(to, static_cast<std::size_t>(number), ky, kx);
        },
        input.channels);
    build_input_deltas();
    build_gradients();
    build_square();
    build_product();
}

// Every output map has every input map.
bool Convolution::is_dense() const { return sources_.dense(input_.channels); }

// A kernel of one position is a matrix, whose products are as quick as direct sums and need no packing.
void Convolution::build_product() {
    const auto is = [](Size size, Index each) { return size.y == each && size.x == each; };
    constexpr Index kLeastMaps = 8;
    if (!is(kernel_, 1) || !is(stride_, 1) || !is(padding_, 0) || !is_dense()) return;
    if (std::min(input_.channels, conv_.channels) < kLeastMaps) return;
    product_ = ChannelProduct(input_, conv_.channels);
    by_product_ = {true, true, input_.channels % kBlock == 0};
}

// Which passes F(m × m, 3 × 3) makes quicker, and the quicker m.
void Convolution::build_square() {
    const auto is = [](Size size, Index each) { return size.y == each && size.x == each; };
    const WinogradUse use = winograd_use();
    constexpr Index kLeastMaps = 8;  // most of a panel of 16 would be zeros
    if (std::min(input_.channels, conv_.channels) < kLeastMaps) return;
    if (use == WinogradUse::never || !is_dense() || !is(kernel_, 3) || !is(stride_, 1) || !is(dilation_, 1)) return;
    const WinogradSquare small(input_, conv_, padding_, flip_, 2), large(input_, conv_, padding_, flip_, 4);
    square_ = small.forward_cycles() < large.forward_cycles() ? small : large;
    const auto quicker = [&](double own, double other) { return use == WinogradUse::always || own < 0.9 * other; };
    by_square_.forward = quicker(square_.forward_cycles(), forward_.cycles());
    by_square_.delta = quicker(square_.input_delta_cycles(), input_deltas_.front().cycles());
    const double direct = gradients_.cycles() * static_cast<double>(conv_.height * conv_.width) +
                          gradients_.closing_cycles();
    by_square_.gradient = quicker(square_.gradient_cycles(),
                                  gradients_by_winograd() ? winograd_gradients_.cycles() : direct);
}

void Convolution::connect(const Record& record) {
    Attributes read(record);
    static_cast<void>(read.whole("out_channels", 1));
    kernel_ = read.size("kernel_size", 1);
    stride_ = read.size("stride", 1, {1, 1});
    padding_ = read.size("padding", 0, {0, 0});
    dilation_ = read.size("dilation", 1, {1, 1});
    groups_ = read.whole("groups", 1, 1);
    flip_ = read.whole("flip_kernel", 0, 0) != 0;
    const auto* table = read.table("table");
    read.finish();
    const Index maps = conv_.channels;
    if (input_.channels % groups_ != 0 || maps % groups_ != 0)
        refuse(record, "groups " + std::to_string(groups_) + " does not divide " + std::to_string(input_.channels) +
                           " input and " + std::to_string(maps) + " output maps");
    if (table) {
        if (groups_ != 1) refuse(record, "has both a table and groups");
        if (static_cast<Index>(table->size()) != maps)
            refuse(record,
                   "table has " + std::to_string(table->size()) + " rows for " + std::to_string(maps) + " output maps");
        for (const auto& row : *table)
            for (std::size_t i = 0; i < row.size(); ++i)
                if (row[i] < 0 || row[i] >= input_.channels || (i > 0 && row[i] <= row[i - 1]))
                    refuse(record, "table rows want ascending input maps below " + std::to_string(input_.channels));
        sources_ = Connections(*table);
    } else {
        const Index in_group = input_.channels / groups_, out_group = maps / groups_;
        for (Index to = 0; to < maps; ++to) {
            std::vector<Index> own(static_cast<std::size_t>(in_group));
            std::iota(own.begin(), own.end(), to / out_group * in_group);
            sources_.push_back(std::move(own));
        }
    }
    Index connections = 0;
    for (std::size_t to = 0; to < sources_.size(); ++to) {
        first_kernel_.push_back(connections);
        connections += static_cast<Index>(sources_[to].size());
    }
    if (connections > std::numeric_limits<std::int32_t>::max() / (kernel_.y * kernel_.x))
        refuse(record, "has more than 2^31 weights");
    check_names(record, record.parameters, {"weight", "bias"});
    weight_ = required_place(record, record.parameters, "weight", connections * kernel_.y * kernel_.x);
    bias_ = optional_place(record.parameters, "bias", maps);
}

// Where the weight that multiplies input at tap (ky, kx) stands: true convolution rotates the kernel.
Index Convolution::weight_index(Index to, std::size_t source_number, Index ky, Index kx) const {
    const Index area = kernel_.y * kernel_.x;
    const Index tap = ky * kernel_.x + kx;
    return (first_kernel_[static_cast<std::size_t>(to)] + static_cast<Index>(source_number)) * area +
           (flip_ ? area - 1 - tap : tap);
}

// δ of the input. With stride s the input positions fall into s phases a side; to each belong the taps k with
// k·dilation ≡ position + padding (mod s), and within a phase it is a correlation with stride 1.
void Convolution::build_input_deltas() {
    std::vector<Connections::List> lists(static_cast<std::size_t>(input_.channels));
    for (std::size_t to = 0; to < sources_.size(); ++to)
        for (const Index from : sources_[to]) lists[static_cast<std::size_t>(from)].push_back(static_cast<Index>(to));
    const Connections targets(std::move(lists));
    struct Phase {
        Axis axis;
        Index first_tap, tap_step;  // tap i of the axis is kernel index first_tap + (taps − 1 − i)·tap_step
    };
    const auto phases = [](Index input, Index output, Index kernel, Index stride, Index padding, Index dilation) {
        std::vector<Phase> found;
        const Index common = std::gcd(stride, dilation);
        for (Index phase = 0; phase < std::min(stride, input); ++phase) {
            Index first = 0;
            while (first < kernel && (phase + padding - first * dilation) % stride != 0) ++first;
            const Index tap_step = stride / common;
            const Index taps = first < kernel ? (kernel - 1 - first) / tap_step + 1 : 0;
            Axis axis;
            axis.count = (input - phase + stride - 1) / stride;
            axis.step = 1;
            axis.taps = taps;
            axis.tap = dilation / common;
            axis.origin = taps == 0 ? 0 : (phase + padding - first * dilation) / stride - (taps - 1) * axis.tap;
            axis.source = output;
            axis.first = phase;
            axis.stride = stride;
            found.push_back({axis, first, tap_step});
        }
        return found;
    };
    const auto rows = phases(input_.height, conv_.height, kernel_.y, stride_.y, padding_.y, dilation_.y);
    const auto columns = phases(input_.width, conv_.width, kernel_.x, stride_.x, padding_.x, dilation_.x);
    for (const Phase& y : rows)
        for (const Phase& x : columns) {
            delta_border_.y = std::max({delta_border_.y, y.axis.border_before(), y.axis.border_after()});
            delta_border_.x = std::max({delta_border_.x, x.axis.border_before(), x.axis.border_after()});
            Axis row_axis = y.axis;
            Axis column_axis = x.axis;
            if (row_axis.taps == 0 || column_axis.taps == 0) row_axis.taps = column_axis.taps = 0;
            input_deltas_.emplace_back(
                kernels_, row_axis, column_axis, targets,
                [&, this](Index to, Index from, Index i, Index j) {
                    const Index number = number_in(sources_[static_cast<std::size_t>(from)], to);
                    if (number < 0) return number;
                    return weight_index(from, static_cast<std::size_t>(number),
                                        y.first_tap + (y.axis.taps - 1 - i) * y.tap_step,
                                        x.first_tap + (x.axis.taps - 1 - j) * x.tap_step);
                },
                conv_.channels);
        }
}

bool Convolution::can_fuse_pool(Size kernel) const {
    // Larger layers keep their sums in memory between chunks of input maps, and hardly notice the pooling.
    return kernel.y <= conv_.height && kernel.x <= conv_.width && kernel.y * kernel.x <= 255 &&
           (forward_.by_winograd() || forward_.direct().chunk_count() == 1);
}

void Convolution::fuse_pool(Size kernel) {
    pool_ = kernel;
    output_shape = {conv_.channels, conv_.height / kernel.y, conv_.width / kernel.x};
    forward_.group_rows(kernel.y);
}

void Convolution::sum_by_rows() { by_square_.forward = by_product_.forward = false; }

Size Convolution::input_border() const {
    const Axis &rows = forward_.direct().rows(), &columns = forward_.direct().columns();
    return {std::max(rows.border_before(), rows.border_after()),
            std::max(columns.border_before(), columns.border_after())};
}

Index Convolution::saved_bytes() const { return pooled() ? output_shape.positions() * kBlock : 0; }

// Rows of δ that are unpooled at once for the weight gradient, when no δ of the input asks for all of it.
Index Convolution::band_rows() const {
    constexpr Index kBandBytes = 192 * 1024;
    const Index row_bytes = conv_.channels * conv_.width * kBlock * 4;
    const Index windows = std::max<Index>(1, kBandBytes / (row_bytes * std::max<Index>(1, pool_.y)));
    return std::min(conv_.height, windows * std::max<Index>(1, pool_.y));
}

// A thread's memory of this layer itself; after it comes that of Winograd's form.
Index Convolution::own_scratch_floats(bool backward, bool wants_input_delta) const {
    if (!backward) return pooled() ? kMostMaps * pool_.y * conv_.width * kBlock : 0;
    if (!wants_input_delta) return pooled() ? conv_.channels * band_rows() * conv_.width * kBlock : 0;
    return copies_delta() ? conv_.channels * delta_map_step() : 0;
}

Index Convolution::scratch_floats(bool backward, bool wants_input_delta) const {
    const Index own = own_scratch_floats(backward, wants_input_delta);
    if (!backward) return own + (by_square_.forward ? square_.forward_floats() : forward_.scratch_floats());
    Index more = by_product_.gradient ? product_.gradient_floats() : winograd_gradients_.scratch_floats();
    if (by_square_.gradient) more = pooled() ? std::max(more, square_.gradient_floats()) : square_.gradient_floats();
    if (!wants_input_delta) return own + more;
    if (by_square_.delta) return own + std::max(more, square_.input_delta_floats());
    for (const CorrelationPass& each : input_deltas_) more = std::max(more, each.scratch_floats());
    return own + more;
}

Index Convolution::packed_floats() const {
    Index total = forward_packed_floats();
    if (!packs_delta()) return total;
    for (const CorrelationPass& each : input_deltas_) total += each.packed_floats();
    return total;
}

void Convolution::arrange(const std::vector<Maps>& inputs_at, const Maps& delta_at) {
    forward_.arrange(inputs_at[0]);
    Block none;
    const Maps delta = copies_delta() ? delta_scratch(none) : delta_at;
    for (CorrelationPass& each : input_deltas_) each.arrange(delta);
    gradients_.arrange(inputs_at[0]);
}

void Convolution::prepare(const float* parameters, float* packed, bool backward, int part, int parts) const {
    if (packs_forward()) forward_.pack(parameters + weight_.offset, packed, part, parts);
    packed += forward_packed_floats();
    if (!backward || !packs_delta()) return;
    for (const CorrelationPass& each : input_deltas_) {
        each.pack(parameters + weight_.offset, packed, part, parts);
        packed += each.packed_floats();
    }
}

bool Convolution::activates_apart() const {
    const bool bounded = activation_.kind == Activation::relu && !by_product_.forward;
    return activation_.kind != Activation::identity && !bounded && !pooled();
}

int Convolution::phases(bool backward) const { return backward || activates_apart() ? 2 : 1; }

void Convolution::forward(const Block& block) const {
    if (block.phase == 1)
        return for_own_rows(block, block.output, [&](Index map, Index row) {
            float* at = row_of(block.output, map, row);
            block.kernels->activate(activation_, at, at, conv_.width * kBlock);
        });
    CorrelationCall call;
    call.kernels = block.kernels;
    call.source = block.inputs[0];
    call.destination = block.output;
    call.packed = block.packed;
    call.bias = bias_.present() ? block.parameters + bias_.offset : nullptr;
    call.floor = activation_.kind == Activation::relu ? 0.0f : -std::numeric_limits<float>::infinity();
    if (pooled()) return forward_pooled(block, call);
    if (!packs_forward()) call.packed = block.parameters + weight_.offset;
    if (by_square_.forward) square_.forward(call, block.scratch, block.team);
    else if (by_product_.forward) product_.forward(call, block.team);
    else forward_.run(call, block.scratch, block.team);
}

// The rows under one row of windows are computed into scratch, activated and pooled while they are in the first-level
// cache.
void Convolution::forward_pooled(const Block& block, const CorrelationCall& outer) const {
    CorrelationCall call = outer;
    const Index row_step = conv_.width * kBlock, map_step = pool_.y * row_step;
    const Team::Own own = block.team.of(output_shape.height);  // rows of windows
    if (forward_.by_winograd()) {
        const WinogradCorrelation& winograd = forward_.winograd();
        float* const more = block.scratch + own_scratch_floats(false, false);
        const Index begin = own.begin * pool_.y, end = own.end * pool_.y;
        for (Index first = begin; first < end; first += winograd.band()) {
            const Index count = std::min(winograd.band(), end - first);
            winograd.multiply(call, more, first, count);
            for (Index row = 0; row < count; row += pool_.y)
                for (Index map = 0; map < conv_.channels; map += kMostMaps) {
                    const Index maps = std::min<Index>(kMostMaps, conv_.channels - map);
                    for (Index m = 0; m < maps; ++m)
                        for (Index y = 0; y < pool_.y; ++y)
                            winograd.finish(call, more, map + m, row + y, block.scratch + m * map_step + y * row_step);
                    pool_rows(block, map, maps, (first + row) / pool_.y);
                }
        }
        return;
    }
    const Correlation& direct = forward_.direct();
    for (Index row = own.begin; row < own.end; ++row)
        for (Index part = 0; part < direct.block_count(); ++part) {
            const Index first = direct.block_first(part), maps = direct.block_maps(part);
            // run_rows places by map and row of the whole picture: shift so that this block's rows start at the
            // scratch.
            call.destination = {block.scratch - first * map_step - row * map_step,
                                conv_.channels,
                                conv_.height,
                                conv_.width,
                                row_step,
                                map_step};
            direct.run_rows(call, part, 0, row * pool_.y, pool_.y);
            pool_rows(block, first, maps, row);
        }
}

// Row `row` of the windows of maps first … first+maps−1, whose sums stand in scratch.
void Convolution::pool_rows(const Block& block, Index first, Index maps, Index row) const {
    Pool pool;
    pool.kind = PoolKind::max;
    pool.kernel_height = pool.stride_y = pool_.y;
    pool.kernel_width = pool.stride_x = pool_.x;
    // A rising f may come after the maximum: f(max u) = max f(u), and a 2×2 window has a quarter of the values left.
    const bool separate = activation_.kind != Activation::identity && activation_.kind != Activation::relu;
    const bool after = separate && is_rising(activation_);
    if (separate && !after)
        block.kernels->activate(activation_, block.scratch, block.scratch, maps * pool_.y * conv_.width * kBlock);
    const Index row_step = conv_.width * kBlock;
    pool.input = {block.scratch, maps, pool_.y, conv_.width, row_step, pool_.y * row_step};
    pool.output = block.output;
    pool.output.data = row_of(block.output, first, row);
    pool.output.height = 1;
    pool.winner = reinterpret_cast<std::uint8_t*>(block.saved) +
                  (first * output_shape.height + row) * output_shape.width * kBlock;
    pool.winner_map_step = output_shape.height * output_shape.width * kBlock;
    block.kernels->pool_forward(pool);
    if (!after) return;
    for (Index map = first; map < first + maps; ++map) {
        float* at = row_of(block.output, map, row);
        block.kernels->activate(activation_, at, at, output_shape.width * kBlock);
    }
}

// The model counts a position's multiply-add as a cycle. In networks it takes 0.77 of one on 16 lanes (LeNet-5 to ResNet-18,
// against what the other layout's model says and takes), and of fewer lanes as much more.
double Convolution::cycles(int lanes, double near_bytes) const {
    const double own = by_square_.forward ? square_.forward_cycles() : forward_.cycles();
    return own * 0.77 * static_cast<double>(kBlock) / lanes + Op::cycles(lanes, near_bytes);
}

std::string Convolution::describe() const {
    const std::string square = square_.exists() ? square_.describe() : "";
    const auto way = [&](bool by_square, bool by_product, const std::string& other) {
        return by_square ? square : by_product ? "product" : other;
    };
    return Op::describe() + " forward " + way(by_square_.forward, by_product_.forward, forward_.describe()) + " delta " +
           way(by_square_.delta, by_product_.delta, input_deltas_.front().describe()) + " gradient " +
           way(by_square_.gradient, by_product_.gradient,
               gradients_by_winograd() ? winograd_gradients_.describe() : gradients_.describe());
}

}  // namespace convscope
