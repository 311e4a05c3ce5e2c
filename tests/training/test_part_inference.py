"""A detector's body on the native engine, the rest in torch: the same answers, checked, and the model untouched."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from tests.tasks.detection.test_detection import detector, prepared
from torch import nn

from convscope import native
from convscope.errors import ArgumentError
from convscope.models.fast_rcnn import Regions
from convscope.native import NativeNetwork
from convscope.native.trust import DiffersFromTorchWarning, checking
from convscope.spec import spec_of
from convscope.tasks.detection.preparing import detector_inputs
from convscope.training.inference import Inference, prepare_inference

needs_engine = pytest.mark.skipif(not native.available(), reason="the engine is not built")


def asked(model: nn.Module, engine: str = "auto", examples: int | None = None) -> Inference:
    described = spec_of(model)
    assert described is not None
    assert described.preprocessing is not None
    return prepare_inference(model, detector_inputs(described.preprocessing), engine, examples)


def given(model: nn.Module, height: int = 64, width: int = 96) -> tuple[torch.Tensor, ...]:
    chance = torch.Generator().manual_seed(2)
    pictures = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=chance)
    sizes = torch.tensor([[height, width]] * 2)
    rois = torch.tensor([[0.0, 4, 4, 40, 40], [0, 10, 8, 60, 30], [1, 0, 0, 64, 64]])
    return (pictures, sizes) if model.proposes else (pictures, sizes, rois)


@needs_engine
@pytest.mark.parametrize("name", ["faster_rcnn", "fast_rcnn", "rcnn"])
def test_engines_agree_and_leave_the_model_alone(name: str) -> None:
    model = prepared(detector(name)).train()
    before, addresses = copy.deepcopy(model.state_dict()), [each.data_ptr() for each in model.parameters()]
    own, other = asked(model, "native"), asked(model, "torch")
    part = model.picture_part
    assert (own.engine, own.reason) == ("native", f"{part} has native kernels, torch does the rest")
    for height, width in ((64, 96), (48, 64)):  # another size makes another plan
        found, wanted = (each.outputs(given(model, height, width)) for each in (own, other))
        assert isinstance(found, Regions)
        for mine, torchs in zip(found, wanted, strict=True):
            if mine is not None:
                assert mine.shape == torchs.shape
                assert float((mine - torchs).abs().max()) < 1e-4 * max(1.0, float(torchs.abs().max()))
    assert all(module.training for module in model.modules())
    assert [each.data_ptr() for each in model.parameters()] == addresses
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@needs_engine
def test_auto_takes_the_engine_but_for_a_few() -> None:
    model = prepared(detector())
    assert asked(model).engine == "native"
    assert asked(model, examples=8).engine == "native"
    few = asked(model, examples=2)
    assert (few.engine, few.reason[:18]) == ("torch", "2 pictures are few")
    assert asked(model, "native", examples=2).engine == "native"


@needs_engine
def test_an_engine_that_differs_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that answers 1 % more: a warning, and torch's answers; without the check the wrong ones come through."""
    right = NativeNetwork.run_on
    model = prepared(detector())
    wanted = asked(model, "torch").outputs(given(model))
    engine = asked(model, "native")
    with checking(False):
        unchecked = asked(model, "native")

    def wrong(self: NativeNetwork, network: Any, plan: Any, images: Any, outputs: Any, *more: Any) -> None:
        right(self, network, plan, images, outputs, *more)
        for each in outputs:
            each.mul_(1.01)

    monkeypatch.setattr(NativeNetwork, "run_on", wrong)
    with pytest.warns(DiffersFromTorchWarning, match="the native engine differs from torch"):
        found = engine.outputs(given(model))
    assert torch.equal(found.scores, wanted.scores)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DiffersFromTorchWarning)
        assert not torch.allclose(unchecked.outputs(given(model)).objectness, wanted.objectness, rtol=1e-3)


def test_what_cannot_be_on_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepared(detector())
    monkeypatch.setattr(native, "available", lambda: False)
    assert asked(model).engine == "torch"
    with pytest.raises(ArgumentError, match="engine: got 'native', wanted another engine: the native engine is not"):
        asked(model, "native")


@needs_engine
def test_a_body_with_a_layer_that_the_engine_lacks() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = torch.special.bessel_j0(x)
            return y

    model = prepared(detector())
    model.backbone.append(Odd())  # type: ignore[operator, union-attr]
    found = asked(model)
    assert found.engine == "torch"
    assert "the native engine cannot run" in found.reason
    assert "backbone" in found.reason
    assert isinstance(found.outputs(given(model)), Regions)
