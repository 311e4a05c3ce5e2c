"""Low precision beside plain references of the same rounding: bf16 to the order of float32 sums, int8 exactly."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import convscope
from convscope.cli.main import group
from convscope.errors import ArgumentError
from convscope.native import DiffersFromTorchWarning, NativeNetwork, accelerate, availability, checking, lowprecision
from convscope.native.low_trust import Rounding, difference
from convscope.native.network import LowPrecision

pytestmark = pytest.mark.skipif(not availability.available(), reason=f"not built: {availability.problem()}")

ULP = 2.0**-23


def ways() -> list[Any]:
    """(instruction set, precision, way) of this processor. What an instruction set would not take by itself is tried in
    the second tier."""
    if not availability.available():
        return []
    engine, found = availability.engine(), []
    before = engine.isa()
    for isa in engine.isas():
        engine.set_isa(isa)
        for precision in ("bf16", "int8"):
            for place, way in enumerate(engine.low_ways(precision)):
                marks = [pytest.mark.long] if place else []
                found.append(pytest.param((isa, precision, way), id=f"{isa}-{precision}-{way}", marks=marks))
    engine.set_isa(before)
    return found


@pytest.fixture(params=ways())
def way(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    engine = availability.engine()
    before = engine.isa()
    isa, precision, name = request.param
    engine.set_isa(isa)
    yield precision, name
    engine.set_isa(before)


# (in, out, kernel, stride, padding, dilation, height, width, pictures)
CONVOLUTIONS = (
    (16, 1, 1, 1, 0, 1, 3, 5, 1),
    (33, 17, 3, 1, 1, 1, 7, 7, 1),
    (70, 40, 3, 2, 1, 1, 9, 6, 2),
    (17, 33, (2, 5), (1, 2), (1, 3), (2, 1), 8, 37, 1),
    (64, 32, 1, 2, 0, 1, 5, 5, 3),
    (32, 16, 3, 1, 0, 1, 12, 13, 17),
    # few channels: a kernel's row is one chunk; of up to 4 channels planes are read
    (3, 20, 7, 2, 3, 1, 21, 18, 2),
    (1, 6, 5, 1, 2, 1, 28, 28, 1),
    (6, 16, 5, 1, 0, 1, 14, 14, 2),
    (10, 33, (5, 3), (2, 1), (0, 1), (2, 1), 13, 9, 1),
)


def answered(model: nn.Module, x: Tensor, low: LowPrecision, threads: int = 1) -> Tensor:
    """By every layer that can, in low precision."""
    network = NativeNetwork(model.eval(), x.shape[1:], low=low, layout="channels", threads=threads)
    with torch.no_grad():
        result = network.forward(x)
    assert isinstance(result, Tensor)
    return result


def told(precision: str, name: str, model: nn.Module, x: Tensor) -> LowPrecision:
    ranges: dict[str, lowprecision.Range] = {}
    if precision == "int8":
        ranges = lowprecision.calibrate([(NativeNetwork(model.eval(), x.shape[1:]), x)])
    quantised = {layer: each.quantised() for layer, each in ranges.items()}
    return LowPrecision(precision, quantised, everywhere=True, way=name)


def integer_sums(rounding: Rounding, layer: Callable[..., Tensor], x: Tensor, weight: Tensor, *more: Any) -> Tensor:
    """Σ (q − zero) · q_w in float64, which holds them exactly."""
    return layer(
        rounding.integers(x).double() - rounding.quantised[1], rounding.weight_integers(weight).double(), *more
    )


def check_layer(
    precision: str, low: LowPrecision, layer: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor, y: Tensor
) -> None:
    """``layer(x, weight)`` without its bias, against the engine's ``y``."""
    shape = (1, -1, *[1] * (y.ndim - 2))
    if precision == "bf16":
        x, weight = x.bfloat16().double(), weight.bfloat16().double()
        right, most = layer(x, weight) + bias.double().reshape(shape), layer(x.abs(), weight.abs())
        terms = weight[0].numel() + 2
        # each addition rounds what has come together by at most 2⁻²⁴ of it
        allowed = terms * 2.0**-24 * (most + bias.abs().double().reshape(shape))
        assert ((y.double() - right).abs() <= allowed).all()
        return
    (quantised,) = low.quantised.values()
    rounding = Rounding("int8", quantised)
    sums = integer_sums(rounding, layer, x, weight)
    scale = (weight.flatten(1).abs().amax(1) / 127 * quantised[0]).reshape(shape)
    assert torch.equal(((y.double() - bias.double().reshape(shape)) / scale.double()).round(), sums)
    right = sums * scale.double() + bias.double().reshape(shape)
    assert ((y.double() - right).abs() <= 4 * ULP * (right.abs() + bias.abs().double().reshape(shape))).all()


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions(way: tuple[str, str], case: Any) -> None:
    channels, outputs, kernel, stride, padding, dilation, height, width, pictures = case
    torch.manual_seed(0)
    model = nn.Conv2d(channels, outputs, kernel, stride, padding, dilation)
    x = torch.randn(pictures, channels, height, width) + 0.3
    low = told(*way, model, x)

    def layer(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, model.stride, model.padding, model.dilation)

    assert model.bias is not None
    with torch.no_grad():
        check_layer(way[0], low, layer, x, model.weight, model.bias, answered(model, x, low))


@pytest.mark.parametrize(("inputs", "outputs", "pictures"), [(16, 10, 1), (100, 33, 5), (64, 16, 33)])
def test_linear_layers(way: tuple[str, str], inputs: int, outputs: int, pictures: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))
    x = torch.randn(pictures, inputs, 1, 1)
    low = told(*way, model, x)
    linear = model[1]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        y = answered(model, x, low, threads=2)
        check_layer(way[0], low, F.linear, x.flatten(1), linear.weight, linear.bias, y)


class Mixture(nn.Module):
    """Whatever is taken into a convolution: normalisation before and behind, a sum, activations, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 20, 3, padding=1)  # reads planes
        self.before, self.narrow = nn.BatchNorm2d(20), nn.Conv2d(20, 36, 1)
        self.behind = nn.BatchNorm2d(36)
        self.second, self.third = nn.Conv2d(36, 36, 3, padding=1), nn.Conv2d(36, 24, 3, padding=1)
        self.last = nn.Linear(24 * 3 * 4, 5)
        for norm in (self.before, self.behind):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = F.hardtanh(self.behind(self.narrow(torch.relu(self.before(x)))), 0.0, 6.0)
        x = torch.relu(x + self.second(x))
        x = F.max_pool2d(torch.tanh(self.third(x)), 2)
        y: Tensor = self.last(x.flatten(1))
        return y


@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_fused(way: tuple[str, str], threads: int) -> None:
    torch.manual_seed(1)
    model = Mixture().eval()
    x = torch.randn(5, 3, 6, 8)
    low = told(*way, model, x)
    fast = accelerate(model, check=True)
    fast._networks.low, fast._networks.trusted = low, True
    with torch.no_grad():
        network, _ = fast._networks.find(x)
        network.threads, network.layout = threads, "channels"
        network._compiled.clear()
        y = fast(x)
    assert "the same but for rounding: outputs, 5 layers in" in fast.report()
    assert not torch.equal(y, model(x))
    assert torch.equal(y, fast(x))
    names = network.ready().network.low_layers(5, threads)
    assert [name.split("+")[0] for name in names] == ["first", "before", "second", "third", "last"]


def test_a_plain_way_and_the_quickest_agree_to_the_bit_in_int8() -> None:
    engine = availability.engine()
    torch.manual_seed(2)
    model = nn.Conv2d(48, 40, 3, padding=1)
    x = torch.randn(2, 48, 10, 11)
    names = engine.low_ways("int8")
    answers = [answered(model, x, told("int8", name, model, x)) for name in names]
    for one, other in itertools.pairwise(answers):
        assert torch.equal(one, other)


def test_a_changed_weight_is_seen() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(16, 16, 3).eval()
    x = torch.randn(1, 16, 6, 6)
    low = LowPrecision("bf16", {}, True, "plain")
    network = NativeNetwork(model, x.shape[1:], low=low, layout="channels")
    with torch.no_grad():
        before = network.forward(x)
        model.weight.data[3] *= 2
        after = network.forward(x)
    assert model.bias is not None
    bias = model.bias[3].detach()
    torch.testing.assert_close(after[:, 3] - bias, 2 * (before[:, 3] - bias))
    assert torch.equal(after[:, 4], before[:, 4])


@pytest.fixture
def portable() -> Iterator[None]:
    """The instruction set whose plain loops any processor may be asked for."""
    engine = availability.engine()
    before = engine.isa()
    engine.set_isa("portable")
    yield
    engine.set_isa(before)


def network_of(layers: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    body = [each for _ in range(layers) for each in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(16 * 36, 4)).eval()


@pytest.mark.usefixtures("portable")
def test_accelerate_answers_and_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_PRECISION_LAYERS", "all")
    monkeypatch.setenv("CONVSCOPE_LAYOUT", "channels")
    model, x = network_of(), torch.randn(3, 16, 6, 6)
    for precision, calibration in (("bf16", None), ("int8", x)):
        fast = convscope.accelerate(model, precision=precision, check=True, calibration=calibration)
        with torch.no_grad():
            y, exact = fast(x), model(x)
        error = float(torch.linalg.vector_norm(y - exact) / torch.linalg.vector_norm(exact))
        assert 1e-4 < error < 0.05
        assert f"3 layers in {precision}" in fast.report()
        assert f"0: convolution 3×3 in {precision} by plain" in fast.report().replace("0+1:", "0:")


@pytest.mark.usefixtures("portable")
def test_a_layer_that_is_not_quicker_stays_in_float32() -> None:
    """Plain loops never are."""
    fast = convscope.accelerate(network_of(), precision="bf16", check=True)
    with torch.no_grad():
        fast(torch.randn(1, 16, 6, 6))
    assert "outputs, 0 layers in bf16" in fast.report()
    assert "in float32: 1 picture" in fast.report() or "images innermost" in fast.report()


@pytest.mark.usefixtures("portable")
def test_gradients_are_refused_by_name() -> None:
    model, x = network_of(), torch.randn(2, 16, 6, 6)
    fast = convscope.accelerate(model, precision="bf16")
    y = fast(x)
    with pytest.raises(ArgumentError, match=r"precision: got 'bf16', wanted None .float32.*a backward pass wants"):
        y.sum().backward()
    with pytest.raises(ArgumentError, match="loss_and_grad wants accelerate"):
        fast.loss_and_grad(x, torch.zeros(2, dtype=torch.int64))
    fast.train()
    with pytest.raises(ArgumentError, match="training mode wants accelerate"):
        fast(x)
    with pytest.raises(ArgumentError, match="model: got 'in training mode', wanted one in evaluation mode"):
        convscope.accelerate(network_of().train(), precision="bf16")


@pytest.mark.usefixtures("portable")
def test_what_cannot_be_is_refused_by_name() -> None:
    model, x = network_of(), torch.randn(2, 16, 6, 6)
    with pytest.raises(ArgumentError, match=r"precision: got 'fp8', wanted None .float32., 'bf16' or 'int8'"):
        convscope.accelerate(model, precision="fp8")
    with pytest.raises(ArgumentError, match="calibration: got None, wanted pictures like those to come"):
        convscope.accelerate(model, precision="int8")
    with pytest.raises(ArgumentError, match="calibration: got 'Tensor', wanted none, for bf16"):
        convscope.accelerate(model, precision="bf16", calibration=x)
    with pytest.raises(ArgumentError, match="calibration: got 'Tensor', wanted none, for precision=None"):
        convscope.accelerate(model, calibration=x)
    with pytest.raises(ArgumentError, match=r"calibration: got \(2, 16\), wanted a tensor of at least one picture"):
        convscope.accelerate(model, precision="int8", calibration=x[:, :, 0, 0])
    with pytest.raises(ArgumentError, match="calibration: got 'NaN or infinity'"):
        convscope.accelerate(model, precision="int8", calibration=x / 0)
    fast = convscope.accelerate(model, precision="int8", calibration=x)
    with pytest.raises(ArgumentError, match="x: got 'NaN or infinity', wanted finite numbers"):
        fast(x * float("nan"))


def test_a_processor_without_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = availability.engine()
    before = engine.isa()
    if "avx2" not in engine.isas():
        pytest.skip("no avx2 here")
    engine.set_isa("avx2")
    try:
        wanted = (
            r"precision: got 'bf16', wanted one that this processor multiplies\. bf16 wants AMX-BF16 or AVX512-BF16, "
            r"and this processor, with instruction set avx2, has none .* Here there is float32 and int8"
        )
        with pytest.raises(ArgumentError, match=wanted):
            convscope.accelerate(network_of(), precision="bf16")
    finally:
        engine.set_isa(before)


@pytest.mark.usefixtures("portable")
def test_a_wrong_product_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch rounds is one weight off, as a wrong panel would be."""
    monkeypatch.setenv("CONVSCOPE_PRECISION_LAYERS", "all")
    monkeypatch.setenv("CONVSCOPE_LAYOUT", "channels")
    model, x = network_of(), torch.randn(2, 16, 6, 6)
    fast = convscope.accelerate(model, precision="bf16", check=True)
    right = NativeNetwork.run

    def wrong(self: NativeNetwork, *args: Any) -> list[Tensor]:
        return [each * 1.1 for each in right(self, *args)]

    monkeypatch.setattr(NativeNetwork, "run", wrong)
    with pytest.warns(DiffersFromTorchWarning, match="of its length from the same rounding in torch"):
        y = fast(x)
    assert torch.equal(y, model(x))


def test_the_bound_lets_rounding_pass_and_nothing_else() -> None:
    exact = [torch.ones(100)]
    noise = 0.01 * torch.randn(100, generator=torch.Generator().manual_seed(0))
    rounded = [exact[0] + noise]
    assert difference([exact[0] - noise], rounded, exact) is None
    assert difference([exact[0] * 1.1], rounded, exact) is not None
    assert difference([exact[0] * 1.001], exact, exact) is not None
    assert difference([exact[0] * float("nan")], rounded, exact) is not None


def test_ranges_hold_zero_and_no_range_is_one() -> None:
    cases = ((-1.0, 4.1, 0.02, 50), (2.0, 5.1, 0.02, 0), (-5.1, -2.0, 0.02, 255), (0.0, 0.0, 1.0, 0))
    for low, high, scale, zero in cases:
        assert lowprecision.Range(low, high).quantised() == pytest.approx((scale, zero))


@pytest.mark.usefixtures("portable")
def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_PRECISION_LAYERS", "all")
    torch.manual_seed(0)
    picture = tmp_path / "p.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    data = str(tmp_path / "data.npz")
    np.savez(data, x_train=pixels[20:], y_train=np.arange(40) % 10, x_test=pixels[:20], y_test=np.arange(20) % 10)
    Image.new("L", (28, 28), 90).save(picture)
    with checking(False):
        run = convscope.fit("lenet5", data, epochs=1, engine="torch", run_dir=tmp_path / "run")
    assert run.run_dir is not None
    file = run.run_dir / "model.safetensors"
    given = ["evaluate", str(file), "--data", data, "--json", "--precision"]
    errors = {}
    for precision in ("float32", "bf16", "int8"):
        done = CliRunner().invoke(group, [*given, precision])
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        errors[precision] = told["loss"]
        assert told["engine_reason"] == "asked for in " + precision or precision == "float32"
    assert errors["float32"] == pytest.approx(errors["bf16"], rel=0.01)
    assert errors["float32"] == pytest.approx(errors["int8"], rel=0.02)
    asking = ["predict", str(file), str(picture), "--precision"]
    done = CliRunner().invoke(group, [*asking, "int8", "--calibrate", data])
    assert done.exit_code == 0, done.output
    assert "engine native: asked for in int8" in done.stderr
    for wrong, words in (
        ([*asking, "int8"], "--calibrate and --precision int8 go together"),
        ([*asking, "bf16", "--calibrate", data], "--calibrate and --precision int8 go together"),
        ([*asking, "bf16", "--engine", "torch"], "precision: got 'bf16', wanted float32 with engine='torch'"),
    ):
        done = CliRunner().invoke(group, wrong)
        assert done.exit_code == 2
        assert words in done.output
