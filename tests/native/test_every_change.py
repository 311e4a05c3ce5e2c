"""A changed parameter is never missed: every way of changing a model, in both layouts, in segments, in low
precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.native.comparing import WHOLE_NETWORK, pictures, randomised, relative
from tests.native.ways_of_changing import MODES, NUMBERS, STATISTICS, STRUCTURE, Way, ways
from torch import Tensor, nn

from convscope import accelerate
from convscope.errors import LoweringError
from convscope.native import availability

pytestmark = [
    pytest.mark.skipif(not availability.available(), reason="the engine is not built"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of a fork beside threads
]

SHAPE = (3, 10, 9)


class Cumulated(nn.Module):
    """What the engine has not."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x, 1) * 0.5


def net(middle: nn.Module | None = None) -> Any:
    layers = {
        "a": nn.Conv2d(3, 8, 3, padding=1), "act": nn.Tanh(), "norm": nn.BatchNorm2d(8),
        "middle": middle or nn.Identity(), "b": nn.Conv2d(8, 6, 3, padding=1), "gate": nn.SiLU(),
        "pool": nn.AvgPool2d(2), "flat": nn.Flatten(), "out": nn.Linear(120, 5),
    }  # fmt: skip
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return randomised(model)


def results(model: nn.Module, x: Tensor, gradients: bool = True) -> dict[str, Tensor]:
    """Everything that comes of one pass, with the buffers put back."""
    before = {name: each.clone() for name, each in model.named_buffers()}
    for each in model.parameters():
        each.grad = None
    leaf = x.clone().requires_grad_(gradients)
    with torch.set_grad_enabled(gradients):
        y = model(leaf)
    found = {"output": y.detach().clone()}
    if gradients:
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        assert leaf.grad is not None
        found["input"] = leaf.grad
        found |= {f"gradient of {n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    found |= {f"buffer {name}": each.double().clone() for name, each in model.named_buffers()}
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
    for each in model.parameters():
        each.grad = None
    return found


def compare(fast: nn.Module, model: nn.Module, x: Tensor, gradients: bool) -> dict[str, Tensor]:
    """The engine beside torch, on the model as it is."""
    own, right = results(fast, x, gradients), results(model, x, gradients)
    assert own.keys() == right.keys()
    sizes = [float(each.abs().max()) for name, each in right.items() if name.startswith("gradient")]
    # A bias before batch normalisation has a gradient of rounding alone.
    least = 0.02 * max(sizes, default=0.0)
    for name, wanted in right.items():
        found = relative(own[name], wanted, least if name.startswith("gradient") else 1e-3)
        assert found < WHOLE_NETWORK, f"{name}: {found:.1e}"
    return right


def see(way: Way, model: Any, x: Tensor, gradients: bool) -> None:
    """The engine says what torch says before the change and after it. Where that is a structure which the engine has
    not, it is refused by name, then and later."""
    kept = way.prepare(model)
    fast = accelerate(model)
    try:
        for _ in range(2):  # the second call is that of a plan that is known
            before = compare(fast, model, x, gradients)
        way.change(model, kept)
        after = compare(fast, model, x, gradients)
    except LoweringError:
        assert way in STRUCTURE.values()
        with pytest.raises(LoweringError):
            fast(x)
        return
    assert "torch: every layer" not in fast.report()
    if way in MODES.values():
        assert before.keys() != after.keys()
    else:
        assert relative(after["output"], before["output"]) > 1e-3


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_LAYOUT", "channels")


ANY = dict(ways(NUMBERS, STRUCTURE))


@pytest.mark.parametrize("name", ANY)
def test_a_batch_in_training(name: str) -> None:
    """Pictures innermost; outputs, gradients and statistics."""
    see(ANY[name], net().train(), pictures(17, SHAPE), True)


EVALUATED = dict(ways(NUMBERS, STRUCTURE, STATISTICS))


@pytest.mark.parametrize("name", EVALUATED)
@pytest.mark.usefixtures("blocked")
def test_one_picture(name: str) -> None:
    """Channels innermost; outputs alone."""
    see(EVALUATED[name], net().eval(), pictures(1, SHAPE), False)


@pytest.mark.parametrize("name", EVALUATED)
@pytest.mark.usefixtures("blocked")
def test_segments(name: str) -> None:
    """A layer of torch in the middle."""
    see(EVALUATED[name], net(Cumulated()).eval(), pictures(3, SHAPE), True)


@pytest.mark.parametrize("middle", [None, Cumulated()], ids=["whole", "segments"])
@pytest.mark.parametrize("name", MODES)
def test_what_is_learnt(name: str, middle: nn.Module | None) -> None:
    see(MODES[name], net(middle).train(), pictures(5, SHAPE), True)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("middle", [None, Cumulated()], ids=["whole", "segments"])
@pytest.mark.parametrize("name", EVALUATED)
@pytest.mark.usefixtures("blocked")
def test_low_precision(name: str, middle: nn.Module | None, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit what a network says that is made after the change."""
    try:
        availability.engine().low_way(precision)
    except ValueError as problem:
        pytest.skip(str(problem))
    monkeypatch.setenv("CONVSCOPE_PRECISION_LAYERS", "all")
    model, x, way = net(middle), pictures(2, SHAPE), EVALUATED[name]
    kept = way.prepare(model)
    model.eval()
    try:
        fast = accelerate(model, precision=precision, calibration=x if precision == "int8" else None)
        with torch.no_grad():
            before = [fast(x) for _ in range(2)]
            way.change(model, kept)
            model.eval()
            after = fast(x)
    except LoweringError:
        assert way in STRUCTURE.values()
        return
    with torch.no_grad():
        other = accelerate(model)
        other._networks.low = fast._networks.low  # the ranges that were found before
        wanted, right = other(x), model(x)
    assert torch.equal(before[0], before[1])
    assert torch.equal(after, wanted)
    assert relative(after, before[0]) > 1e-3
    if precision == "bf16":
        assert relative(after, right) < 0.05
