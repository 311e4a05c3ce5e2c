"""Which engine answers, and that all of them answer alike."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn

from convscope import native
from convscope.errors import ArgumentError
from convscope.native import accelerate
from convscope.spec import Input, Preprocessing
from convscope.training.inference import prepare_inference

PREPROCESSING = Preprocessing(3, (9, 7), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
INPUTS = (Input("pictures", preprocessing=PREPROCESSING),)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(30, 4)
    )
    for _ in range(3):
        model(torch.randn(8, 3, 9, 7))
    return model


def images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


needs_engine = pytest.mark.skipif(not native.available(), reason="the engine is not built")


@needs_engine
@pytest.mark.parametrize("count", [1, 15, 16, 17, 33])
def test_engines_agree_and_leave_the_model_alone(count: int) -> None:
    model = net()
    before, addresses = copy.deepcopy(model.state_dict()), [each.data_ptr() for each in model.parameters()]
    own, other = (prepare_inference(model, INPUTS, engine) for engine in ("native", "torch"))
    assert (own.engine, own.reason, other.engine, other.reason) == ("native", "asked for", "torch", "asked for")
    pixels = images(count)
    with torch.no_grad():
        x = (pixels.double() / 255 - torch.tensor(PREPROCESSING.mean).view(3, 1, 1)) / torch.tensor(
            PREPROCESSING.std
        ).view(3, 1, 1)
        wanted = copy.deepcopy(model).eval().double()(x)
    for found in (own.outputs((pixels,)), other.outputs((pixels,))):
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5
    assert all(module.training for module in model.modules())
    assert [each.data_ptr() for each in model.parameters()] == addresses
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@needs_engine
def test_auto() -> None:
    model = net()
    found = prepare_inference(model, INPUTS)
    assert (found.engine, found.reason) == ("native", "every layer has a native kernel")
    assert prepare_inference(accelerate(model), INPUTS).engine == "native"
    few = prepare_inference(model, INPUTS, examples=3)
    assert few.engine == "torch"
    assert "3 pictures are few: torch has answered before the native engine's plan is made and compared" in few.reason
    assert prepare_inference(model, INPUTS, "native", examples=3).engine == "native"


@needs_engine
@pytest.mark.parametrize("case", ["layers", "hook", "double", "copy"])
def test_torch_answers_where_the_engine_cannot(case: str) -> None:
    model = net()
    if case == "layers":
        model = nn.Sequential(nn.LPPool2d(1, 3), nn.Flatten(), nn.Softmin(1), nn.AdaptiveAvgPool1d(4))
        reason = "the native engine cannot run layer '0': the engine has no LPPool2d"
    elif case == "hook":
        seen: list[torch.Tensor] = []
        model[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
        reason = "0 has hooks, which the native engine would not call"
    elif case == "double":
        model.double()
        reason = "the native engine computes in float32, and 0.weight is torch.float64"
    else:
        model.register_buffer("derived", model.get_parameter("0.weight") * 2)
        reason = "the native engine works on a copy, and Sequential cannot be copied"
    found = prepare_inference(model, INPUTS)
    assert found.engine == "torch"
    assert found.reason.startswith(reason)
    assert found.outputs((images(9),)).shape == (9, 4)
    if case == "hook":
        assert len(seen) == 1
    with pytest.raises(ArgumentError, match="engine: got 'native', wanted another engine: "):
        prepare_inference(model, INPUTS, "native")


@needs_engine
def test_layers_that_the_engine_lacks_run_in_torch() -> None:
    model = net()
    model.insert(3, nn.Sequential(nn.LPPool2d(1, 1), nn.BatchNorm2d(5), nn.Conv2d(5, 5, 1)))
    pixels = images(17)
    own, other, found = (prepare_inference(model, INPUTS, engine) for engine in ("native", "torch", "auto"))
    assert (own.engine, own.reason) == ("native", "asked for")
    assert found.reason.startswith("the native engine cannot run layer '3.0': the engine has no LPPool2d")
    assert re.search("16 pictures take .* ms with the rest of it on the native engine, .* ms with torch", found.reason)
    wanted = other.outputs((pixels,))
    for each in (own, found):
        assert float((each.outputs((pixels,)) - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_without_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.availability, "_load", lambda: (None, "no compiler"))
    monkeypatch.setattr("convscope.training.inference.native.available", lambda: False)
    found = prepare_inference(net(), INPUTS)
    assert (found.engine, found.reason) == ("torch", "the native engine is not built here")


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(ArgumentError, match="engine: got 'tpu', wanted one of auto, native, torch"):
        prepare_inference(net(), INPUTS, "tpu")
