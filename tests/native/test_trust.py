"""A plan's first call is compared with torch, and a wrong plan is not used."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.native.comparing import pictures, randomised, relative
from torch import Tensor, nn
from torch.nn import functional as F

from convscope import accelerate
from convscope.lowering.plan import Plan, Record
from convscope.native import DiffersFromTorchWarning, checking
from convscope.native.branches import every_value
from convscope.native.calling import call
from convscope.native.chance import drops, factors, is_fair
from convscope.native.network import NativeNetwork
from convscope.native.rounding import differing
from convscope.native.trust import Trust, answers

pytestmark = pytest.mark.usefixtures("any_engine")

SHAPE = (3, 9, 8)


@pytest.fixture(autouse=True)
def _checking(checked: None) -> None:
    """Comparisons are on here."""


class Cumulated(nn.Module):
    """What the engine has not."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x, 1) * 0.5


def net(*more: nn.Module, drop: float = 0.0) -> nn.Sequential:
    return randomised(  # type: ignore[return-value]
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), *more, nn.Dropout2d(drop),
            nn.Conv2d(6, 5, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(drop), nn.Linear(20, 4),
        )
    )  # fmt: skip


def spoilt(monkeypatch: pytest.MonkeyPatch, change: Callable[[Record], Record]) -> None:
    """Every plan that is compiled has its records changed."""
    compile_plan = NativeNetwork._compile

    def compiled(self: NativeNetwork, plan: Plan) -> Any:
        records = tuple(map(change, plan.records))
        return compile_plan(self, plan if records == plan.records else dataclasses.replace(plan, records=records))

    monkeypatch.setattr(NativeNetwork, "_compile", compiled)


def attribute(kind: str, **changes: Any) -> Callable[[Record], Record]:
    """Records of this kind get other attributes."""

    def change(record: Record) -> Record:
        return (
            dataclasses.replace(record, attributes={**record.attributes, **changes}) if record.kind == kind else record
        )

    return change


def results(model: nn.Module, x: Tensor) -> list[Tensor]:
    leaf = x.clone().requires_grad_()
    y = model(leaf)
    (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    found = [y.detach(), leaf.grad, *(p.grad for p in model.parameters()), *(b.double() for b in model.buffers())]
    return [each for each in found if each is not None]


@pytest.mark.parametrize("more", [(), (Cumulated(),)], ids=["whole", "segments"])
@pytest.mark.parametrize("drop", [0.0, 0.4])
@pytest.mark.parametrize("training", [True, False])
def test_what_is_right_is_trusted(more: tuple[nn.Module, ...], drop: float, training: bool) -> None:
    fast = accelerate(net(*more, drop=drop)).train(training)
    for count in (1, 5, 17) if not training else (5, 17):
        fast(pictures(count, SHAPE)).sum().backward()
        with torch.no_grad():
            fast(pictures(count, SHAPE))
        fast.loss_and_grad(pictures(count, SHAPE), torch.arange(count) % 4)
    text = fast.report()
    assert "differs" not in text
    assert "compared with torch on 17 pictures, the same but for rounding: outputs, buffers and gradients" in text
    assert ("compared with torch on 1 picture," in text) is not training
    assert ("nothing dropped" in text) <= (training and drop > 0)


@pytest.mark.parametrize("more", [(), (Cumulated(),)], ids=["whole", "segments"])
@pytest.mark.parametrize("training", [True, False])
def test_comparing_changes_nothing(more: tuple[nn.Module, ...], training: bool) -> None:
    model = net(*more, drop=0.3).train(training)
    one, other = accelerate(model), accelerate(copy.deepcopy(model), check=False)
    for seed in range(2):
        found = []
        for each in (one, other):
            torch.manual_seed(seed)
            found.append([*results(each, pictures(5, SHAPE)), torch.get_rng_state()])
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert "not compared with torch" in other.report()


WRONG: dict[str, tuple[Callable[[Record], Record], str]] = {
    "an epsilon": (attribute("batch_norm", eps=0.05), "layer '1'"),
    "a momentum": (attribute("batch_norm", momentum=0.3), "buffer 1.running_mean"),
}


@pytest.mark.parametrize("more", [(), (Cumulated(),)], ids=["whole", "segments"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch, more: Any, wrong: str) -> None:
    change, named = WRONG[wrong]
    spoilt(monkeypatch, change)
    plain = net(*more)
    fast = accelerate(copy.deepcopy(plain))
    x = pictures(17, SHAPE)
    with pytest.warns(
        DiffersFromTorchWarning, match="the native engine differs from torch: .*Torch is used from now on"
    ) as told:
        found = results(fast, x)
    assert named in str(told[0].message)
    for own, right in zip(found, results(plain, x), strict=True):
        assert relative(own, right, 1e-3) < 1e-5
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        results(fast, x)
    assert "torch: every layer\ndiffers from torch on 17 pictures" in fast.report()


def test_a_wrong_gradient_alone_is_found_beside_kinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 6 kernels' gradients off by a thousandth: far below what a unit at a kink is worth."""
    run_backward = NativeNetwork.run_backward

    def off(self: NativeNetwork, *args: Any) -> list[Tensor]:
        gradients = run_backward(self, *args)
        gradients[0][2] *= 1.001
        return gradients

    monkeypatch.setattr(NativeNetwork, "run_backward", off)
    plain = net()
    fast = accelerate(copy.deepcopy(plain))
    x = pictures(33, SHAPE)
    with pytest.warns(DiffersFromTorchWarning, match=r"layer '0' \(its gradient of 0.weight\)"):
        found = results(fast, x)
    for own, right in zip(found, results(plain, x), strict=True):
        assert relative(own, right, 1e-3) < 1e-5


def test_a_wrong_loss_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = net()
    fast = accelerate(copy.deepcopy(plain), loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    spoilt(monkeypatch, attribute("cross_entropy", label_smoothing=0.2))
    x, targets = pictures(17, SHAPE), torch.arange(17) % 4
    with pytest.warns(DiffersFromTorchWarning, match="the loss"):
        loss = fast.loss_and_grad(x, targets)
    wanted = F.cross_entropy(plain(x), targets, label_smoothing=0.1)
    wanted.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    for own, right in zip(fast.parameters(), plain.parameters(), strict=True):
        assert own.grad is not None
        assert right.grad is not None
        assert relative(own.grad, right.grad, 1e-3) < 1e-5


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(monkeypatch, attribute("batch_norm", eps=0.05))
    plain, x = net(), pictures(17, SHAPE)
    fast = accelerate(copy.deepcopy(plain), check=False)
    with checking(False):
        other = accelerate(copy.deepcopy(plain))
        other(x)  # its network is made here
    assert relative(fast(x), plain(x)) > 1e-4
    assert relative(other(x), plain(x)) > 1e-4


def test_units_at_a_kink_and_ties_are_no_difference() -> None:
    """Of a picture of one grey, all places of a map are tied but for rounding; half of the units are at 0."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.MaxPool2d(2)
    )
    with torch.no_grad():
        for layer in (model[0], model[3]):
            assert isinstance(layer, nn.Conv2d)
            layer.bias.copy_(-0.3 * layer.weight.sum((1, 2, 3)))  # type: ignore[union-attr]
    x = torch.full((17, 1, 18, 16), 0.3)
    x[3:] += 1e-7 * pictures(14, (1, 18, 16))
    fast = accelerate(model)
    fast(x.requires_grad_()).sum().backward()
    assert "the same but for rounding" in fast.report()


@pytest.mark.parametrize("rising", [nn.Sigmoid(), nn.Tanh()])
def test_numbers_that_a_rising_function_makes_equal_are_no_difference(rising: nn.Module) -> None:
    """The engine takes the maximum before the function, where one number is the largest still."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), rising, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2))
    nn.init.ones_(model[0].weight)  # type: ignore[arg-type]
    x = torch.ones(32, 1, 4, 4)
    x[:, :, 1::2, 1::2] = 1 + 2.0**-23
    assert torch.equal(rising(x)[:, :, 1::2, 1::2], rising(x)[:, :, ::2, ::2])
    fast, given = accelerate(model), x.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (fast(given) * torch.tensor([1.0, -2.0])).sum().backward()
    assert "native: every layer" in fast.report()
    assert given.grad is not None
    windows = given.grad.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    assert ((windows != 0).sum(-1) == 1).all()


def test_rounding_is_measured_not_guessed() -> None:
    """A gradient that cancels out is nothing but rounding, and may be any; one that does not may not."""
    model, x = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh())), pictures(5, SHAPE)

    def run() -> Any:
        return answers(lambda x: model(x), model, x, True)

    own = dict(run())
    assert differing(own, run) == []
    assert float(own["gradient of 0.bias"].abs().max()) < 1e-4
    own["gradient of 0.bias"] = -own["gradient of 0.bias"]
    assert differing(own, run) == []
    own["gradient of 1.bias"] = own["gradient of 1.bias"] * 1.0001
    assert differing(own, run) == ["gradient of 1.bias"]


def test_numbers_that_are_not_finite() -> None:
    right = {"output": torch.tensor([torch.inf, torch.nan, 1.0])}
    assert differing({"output": torch.tensor([torch.inf, torch.nan, 1.0])}, lambda: right) == []
    for other in ([torch.inf, 0.0, 1.0], [-torch.inf, torch.nan, 1.0], [torch.inf, torch.nan, torch.nan]):
        assert differing({"output": torch.tensor(other)}, lambda: right) == ["output"]


def test_what_is_dropped_is_looked_at() -> None:
    network = NativeNetwork(net(drop=0.4), SHAPE)
    plan = network.ready().plan
    for record, factor in zip(drops(plan), factors(network.engine, plan, 64, 5, 1), strict=True):
        assert is_fair(record, factor)
        assert not is_fair(record, factor * 1.01)
        assert not is_fair(record, torch.ones_like(factor))


@pytest.mark.parametrize(("kernel", "maps", "side"), [(3, 24, 34), (1, 32, 16), (5, 12, 20)])
@pytest.mark.parametrize("between", [[], [nn.ReLU()]])
def test_what_is_asked_for_on_the_way_is_what_training_has(
    kernel: int, maps: int, side: int, between: list[nn.Module]
) -> None:
    """Asked for what a pooled layer puts out, the engine keeps the pooling apart; by other sums than the fused ones it
    would go other ways at kinks than the gradients did."""
    layers = [nn.Conv2d(maps, 2 * maps, kernel), *between, nn.MaxPool2d(2)]
    shape = (maps, side, side)
    network = NativeNetwork(randomised(nn.Sequential(*layers)), shape, layout="images")
    x = pictures(17, shape)
    with torch.no_grad():
        _, (fused,) = call(network, x)
    assert torch.equal(every_value(network, x, 0)[-1], fused)


def test_a_comparison_is_made_once_for_each_plan() -> None:
    fast = accelerate(net())
    for _ in range(3):
        fast(pictures(17, SHAPE))
        fast(pictures(33, SHAPE))
    assert fast.report().count("compared") == 1
    fast.eval()
    fast(pictures(17, SHAPE))
    fast(pictures(2, SHAPE))
    assert fast.report().count("compared") == 3
    fast.model[1].eps = 0.3
    fast(pictures(17, SHAPE))
    assert fast.report().count("compared") == 4


def test_trust_without_a_check() -> None:
    network = NativeNetwork(net(), SHAPE)
    trust = Trust(False)
    assert trust.forward(network, network.ready(), pictures(2, SHAPE)) is network.ready()
    assert trust.report() == "not compared with torch"
    assert Trust().report() == "not yet compared with torch"


def test_kinks_of_whole_numbers_are_nobody_s() -> None:
    """Places that are cut off or of which the last is looked for, as in models that know where a patch lies."""

    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(144, 5)

        def forward(self, x: Tensor) -> Tensor:
            h = self.conv(x).relu()
            places = torch.arange(h.size(3)).clamp(max=4)
            y: Tensor = self.head((h * (places / places.max())).flatten(1))
            return y

    fast = accelerate(randomised(Placed()))
    x = pictures(3, (3, 8, 8))
    assert relative(fast(x), fast.model(x)) < 1e-5
    assert not any(verdict.difference for verdict in fast.verdicts())
