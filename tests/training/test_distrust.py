"""A run whose native plan is wrong goes on with torch, by torch's numbers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from convscope import evaluate, fit, predict
from convscope.data import Dataset
from convscope.lowering.plan import Plan
from convscope.native import DiffersFromTorchWarning, NativeNetwork, available

pytestmark = pytest.mark.skipif(not available(), reason="the native engine is not built")


def stripes() -> Dataset:
    pixels = numpy.random.default_rng(1).integers(0, 256, (40, 9, 7), dtype=numpy.uint8)
    return Dataset.from_arrays(pixels, numpy.arange(40) % 3, name="stripes")


class Cumulated(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(x, 2) * 0.2


def network(part: type[nn.Module] = nn.Identity) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Tanh(), part(), nn.Conv2d(8, 8, 3), nn.Tanh(),
        nn.Flatten(), nn.Linear(120, 3),
    )  # fmt: skip


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose batch normalisation adds another epsilon."""
    compile_plan = NativeNetwork._compile

    def compiled(self: NativeNetwork, plan: Plan) -> Any:
        for record in plan.records:
            if record.kind == "batch_norm":
                record.attributes["eps"] = 0.7  # type: ignore[index]
        for constant in plan.constants:
            object.__setattr__(constant, "value", lambda size=constant.size: torch.ones(size))
        return compile_plan(self, plan)

    monkeypatch.setattr(NativeNetwork, "_compile", compiled)


def trained(model: nn.Module, folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    fit(model, stripes(), run_dir=str(folder), epochs=2, batch_size=16, watch=False, threads=1, **options)
    return copy.deepcopy(model.state_dict())


@pytest.mark.parametrize(
    ("engine", "part", "more"),
    [("auto", nn.Identity, {}), ("native", nn.Identity, {"gradient_clip": 1.0}), ("native", Cumulated, {})],
)
def test_training(wrong: None, tmp_path: Path, engine: str, part: type[nn.Module], more: dict[str, Any]) -> None:
    right = trained(network(part), tmp_path / "torch", engine="torch", **more)
    with pytest.warns(DiffersFromTorchWarning, match="layer '1'"):
        found = trained(network(part), tmp_path / "native", engine=engine, **more)
    off = trained(network(part), tmp_path / "off", engine=engine, check_engine=False, **more)
    for name, each in right.items():
        assert torch.allclose(found[name], each, atol=1e-4), name
    assert not torch.allclose(off["7.weight"], right["7.weight"], atol=1e-3)


def test_evaluation_and_prediction(wrong: None, tmp_path: Path) -> None:
    model = network()
    trained(model, tmp_path / "run", engine="torch")
    model[1].running_var.fill_(0.1)  # type: ignore[operator]
    right = evaluate(model, stripes(), engine="torch")
    with pytest.warns(DiffersFromTorchWarning, match="output"):
        found = evaluate(model, stripes(), engine="native")
    assert found["loss"] == pytest.approx(right["loss"], rel=1e-5)
    assert evaluate(model, stripes(), engine="native", check=False)["loss"] != pytest.approx(right["loss"], rel=1e-5)
    pictures = stripes().test.images[:9]
    with pytest.warns(DiffersFromTorchWarning, match="output"):
        answers = predict(model, pictures, engine="native")
    for one, other in zip(answers, predict(model, pictures, engine="torch"), strict=True):
        assert one.probability == pytest.approx(other.probability, rel=1e-4)
    unlike = predict(model, pictures, engine="native", check=False)
    assert unlike[0].probability != pytest.approx(answers[0].probability, rel=1e-4)
