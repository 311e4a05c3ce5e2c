"""A new element-wise function is one row: everything else reads the table. Here a row is added while the test runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convscope
from convscope import layers
from convscope.data import Dataset, Labelled
from convscope.errors import LoweringError
from convscope.explorer.network import Network
from convscope.explorer.snapshot import Question, Snapshot
from convscope.graph import leaves
from convscope.inspect.dependence import along
from convscope.lowering.lower import lower
from convscope.models import portable
from convscope.rules import base
from convscope.rules import elementwise as table
from convscope.rules.elementwise import ELEMENTWISE, Elementwise, Stage, elementwise, stage
from convscope.spec import ModelSpec, Preprocessing, attach


class Sinc(nn.Module):
    """sin(πsx)/(πsx): a module of a user's own, which torch has only as a function with s = 1."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return torch.sinc(self.scale * x)

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The row, for the time of one test."""
    for owner, name in (
        (ELEMENTWISE, "_entries"), (table, "_of_module"), (table, "_of_call"),
        (base, "_modules"), (base, "_functions"), (base, "_methods"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, dict(getattr(owner, name)))
    monkeypatch.setattr(leaves, "LEAVES", set(leaves.LEAVES))
    monkeypatch.setattr(table, "LEAVES", leaves.LEAVES)
    ELEMENTWISE.names()

    @elementwise("sinc", modules=[Sinc])
    @dataclasses.dataclass(frozen=True)
    class SincRule(Elementwise):
        """f(u) = sin(πsu)/(πsu), 1 at 0,   f′ = (cos(πsu) − y)/u, 0 at 0;   s = ``scale``."""

        scale: float = 1.0

        def f(self, x: Tensor) -> Tensor:
            return torch.sinc(self.scale * x)

        def slope(self, saved: Tensor) -> Tensor:
            at_zero = torch.zeros_like(saved)
            return torch.where(saved == 0, at_zero, (torch.cos(torch.pi * self.scale * saved) - self.f(saved)) / saved)

    return SincRule


class Net(nn.Module):
    """The module, the function and the in-place method, each once."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 3, 3)
        self.act = Sinc(0.5)
        self.b = nn.Conv2d(3, 2, 3)
        self.out = nn.Linear(2 * 4 * 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sinc(self.b(self.act(self.a(x))))
        z: Tensor = self.out(y.flatten(1)).sinc_()
        return z


def ready(model: nn.Module) -> nn.Module:
    pictures = Preprocessing(1, (8, 8), (0.5,), (0.25,))
    return attach(
        model,
        ModelSpec("graph", portable.describe(model, [torch.rand(2, 1, 8, 8)]), (1, 8, 8), ("no", "yes"), pictures),
    )


def names(model: nn.Module, x: Tensor) -> list[str]:
    return [layer.name for layer in convscope.trace(model, x) if layer.kind == "activation"]


def test_trace_and_rules(row: Any) -> None:
    torch.manual_seed(0)
    model = Net().double().eval()
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    found = convscope.trace(model, x, target=torch.tensor([0, 1, 1]))
    assert names(model, x) == ["act", "sinc", "sinc_"]
    assert all(found[name].rule == row(scale) for name, scale in (("act", 0.5), ("sinc", 1.0), ("sinc_", 1.0)))
    loss = torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 1]))
    for own, its in zip(found.gradients.values(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
        torch.testing.assert_close(own, its, rtol=1e-9, atol=1e-12)


def test_training_by_the_rules_and_by_torch_agree(row: Any, tmp_path: Path) -> None:
    images = torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(32) % 2
    split = Labelled(images, labels, ("no", "yes"))
    data = Dataset("noise", split, split)
    weights = []
    for engine in ("rules", "torch"):
        torch.manual_seed(0)
        model = Net()
        options: dict[str, Any] = {"epochs": 2, "batch_size": 8, "engine": engine, "seed": 3}
        options["run_dir"] = tmp_path / engine
        convscope.fit(model, data, **options)
        weights.append(torch.cat([each.detach().flatten() for each in model.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


def test_receptive_field_and_cost(row: Any) -> None:
    model = Net()
    field = convscope.receptive_field(model, "sinc", (1, 8, 8))
    assert (field.size, field.jump) == ((5, 5), (1, 1))
    steps = convscope.count(model, (1, 8, 8))
    assert [steps[name].operations for name in ("act", "sinc", "sinc_")] == [3 * 36, 2 * 16, 2]
    assert [steps[name].multiply_adds for name in ("act", "sinc", "sinc_")] == [0, 0, 0]


def test_reads_its_own_place_without_an_experiment(row: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from convscope.graph.calls import walk
    from convscope.inspect import dependence

    monkeypatch.setattr(dependence, "probe", lambda *_: pytest.fail("found by experiment"))
    step = walk(Net(), (1, 8, 8))["act"]
    assert along(step, step.inputs[0], 2).reads.tolist() == [[place] for place in range(6)]


def test_arithmetic(row: Any) -> None:
    torch.manual_seed(0)
    model = Net().double().eval()
    network = Network(model, (1, 8, 8))
    snapshot = Snapshot(network, Question(torch.randn(1, 1, 8, 8, dtype=torch.float64), 1, "cross_entropy"), 1)
    assert [network.nodes[name].family for name in ("act", "sinc", "sinc_")] == ["activation"] * 3
    forward = snapshot.forward("act", (1, 2, 3))
    assert forward.formula == "y = sin(πsu)/(πsu), 1 at 0,  scale = 0.5"
    assert forward.computed == pytest.approx(float(model.act(snapshot.layers["a"].y)[0, 1, 2, 3]), rel=1e-12)
    x = snapshot.layers["a"].y.clone().requires_grad_()
    rest = model.out(torch.sinc(model.b(model.act(x))).flatten(1)).sinc()
    (delta,) = torch.autograd.grad(torch.nn.functional.cross_entropy(rest, torch.tensor([1])), x)
    backward = snapshot.backward("a", (2, 3, 3))
    assert backward.through == "act"
    assert backward.computed == pytest.approx(float(delta[0, 2, 3, 3]), rel=1e-9)
    assert backward.value == pytest.approx(float(delta[0, 2, 3, 3]), rel=1e-9)


def test_saved_and_loaded(row: Any, tmp_path: Path) -> None:
    model = ready(Net().eval())
    convscope.save(model, tmp_path / "model.safetensors")
    again = convscope.load(tmp_path / "model.safetensors").eval()
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(again(x), model(x))
    assert names(again, x) == names(model, x)


def test_activation_by_name(row: Any) -> None:
    made = layers.activation("sinc")
    assert type(made) is Sinc
    pool = layers.Subsample2d(2, activation="sinc")
    x = torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(convscope.trace(pool, x).logits, torch.sinc(pool.pre_activation(x)).detach())


def test_the_engine_refuses_it_by_name(row: Any) -> None:
    with pytest.raises(LoweringError, match="layer 'act': the engine has no Sinc"):
        lower(Net(), (1, 8, 8))
    with pytest.raises(LoweringError, match="layer 'sinc': the engine has no function torch.sinc"):
        lower(torch.fx.symbolic_trace(_function), (1, 8, 8))


def _function(x: Tensor) -> Tensor:
    return torch.sinc(x)


def test_the_engine_runs_it_where_the_row_says_how(row: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stages(self: Any) -> tuple[Stage, ...]:
        return (stage("elu", alpha=self.scale),)

    monkeypatch.setattr(row, "engine", stages)
    plan = lower(Net(), (1, 8, 8))
    kinds = [(record.kind, record.attributes) for record in plan.records if record.kind == "elu"]
    assert kinds == [("elu", {"alpha": 0.5}), ("elu", {"alpha": 1.0}), ("elu", {"alpha": 1.0})]


def test_without_the_row_it_is_not_known(tmp_path: Path) -> None:
    """The canary: what the tests above show comes from the row alone."""
    x = torch.randn(1, 1, 8, 8)
    assert names(Net().eval(), x) == []
    with pytest.raises(convscope.errors.ArgumentError, match="sinc"):
        portable.describe(Net(), [x])
