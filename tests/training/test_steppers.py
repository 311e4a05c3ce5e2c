"""Every engine makes the same step: rules against torch, both against autograd written out by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from convscope import create_model, native
from convscope.data import Dataset
from convscope.data.examples import Batch
from convscope.errors import ArgumentError, LoweringError
from convscope.layers import LOSSES, AuxiliaryOutputs, CombinedConv2d, loss_for, penalised, penalty
from convscope.spec import Input, Preprocessing
from convscope.tasks.classification.task import ClassificationObjective
from convscope.training import Config
from convscope.training.distributed import Group
from convscope.training.steppers import Assignment, Share, Stepper, choose
from convscope.training.steppers.native import NativeStepper, SegmentsStepper
from convscope.training.steppers.torch import TorchStepper

PIXELS = Preprocessing(1, (9, 7), (0.3,), (0.25,))


def assignment(model: nn.Module, loss: str, config: Config) -> Assignment:
    objective = ClassificationObjective(loss_for(loss, model))
    inputs = (Input("pictures", preprocessing=PIXELS),)
    return Assignment(model, objective, inputs, config, torch.device("cpu"), Group(), steps=10)


def step(each: Stepper, images: torch.Tensor, labels: torch.Tensor, seed: int, rate: float, whole: int) -> None:
    each.step(Batch((images,), labels, len(labels), len(labels)), seed, rate, Share(whole, whole))


def stepper(model: nn.Module, engine: str, loss: str = "cross_entropy", **options: Any) -> Stepper:
    config = Config.of(engine=engine, optimiser="sgd", momentum=0.0, **options)
    made, reason = choose(assignment(model, loss, config))
    assert reason
    return made


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error", "hinge", "binary_cross_entropy"])
@pytest.mark.parametrize("count", [1, 15, 17])
def test_rules_and_torch_make_the_same_step(
    loss: str, count: int, stripes: Dataset, make_net: Callable[..., nn.Sequential]
) -> None:
    images, labels = stripes.train.images[:count], stripes.train.labels[:count]
    readings, gradients, weights = [], [], []
    for engine in ("rules", "torch"):
        each = stepper(make_net(dropout=0.0).double(), engine, loss, precision="float64")
        each.model.train()
        step(each, images, labels, seed=3, rate=0.1, whole=count)
        reading = each.read()
        readings.append((reading.loss, reading.counts[0], reading.examples))
        gradients.append(each.parameters.gradients.clone())
        weights.append({name: value.clone() for name, value in each.model.state_dict().items()})
    # by hand: one picture at a time, gradients summed, step 9 of the procedure
    model = make_net(dropout=0.0).double()
    objective = loss_for(loss, model)
    total = 0.0
    for image, label in zip(images, labels, strict=True):
        value = objective.value(model(PIXELS.normalise(image[None]).double()), label[None]) / count
        value.backward()  # type: ignore[no-untyped-call]
        total += value.item()
    by_hand = torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])
    for reading_, gradient in zip(readings, gradients, strict=True):
        assert reading_[0] == pytest.approx(total * count, rel=1e-6)
        assert reading_[2] == count
        # torch's gradients lie in the memory order of channels-last weights
        assert gradient.norm().item() == pytest.approx(by_hand.norm().item(), rel=1e-12)
    assert readings[0][1] == readings[1][1]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-12, atol=1e-14)


class Scaled(nn.Module):
    """A number that is no parameter: written into a record of a call."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def test_rules_follow_a_model_that_changes_between_steps(stripes: Dataset) -> None:
    images, labels = stripes.train.images[:5], stripes.train.labels[:5]
    weights = []
    for engine in ("rules", "torch"):
        torch.manual_seed(0)
        scaled = Scaled()
        each = stepper(nn.Sequential(nn.Flatten(), scaled, nn.Linear(63, 4)).double(), engine, precision="float64")
        for scale in (1.0, 3.0):
            scaled.scale = scale
            step(each, images, labels, seed=3, rate=0.1, whole=5)
        weights.append(each.parameters.values.clone())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-12, atol=1e-14)


def test_right_answers_are_those_before_the_step(stripes: Dataset, make_net: Callable[..., nn.Sequential]) -> None:
    images, labels = stripes.train.images[:33], stripes.train.labels[:33]
    model = make_net(dropout=0.0)
    expected = int((model(PIXELS.normalise(images)).argmax(1) == labels).sum())
    each = stepper(model, "torch")
    step(each, images, labels, 0, 0.5, 33)
    step(each, images, labels, 0, 0.5, 33)
    both = each.read()
    again = stepper(make_net(dropout=0.0), "torch")
    step(again, images, labels, 0, 0.5, 33)
    first = again.read()
    assert first.counts[0] == expected
    assert both.examples == 66
    assert both.loss != 2 * first.loss
    assert each.read().examples == 0, "reading starts a new sum"


def test_dropout_depends_on_the_seed_alone(stripes: Dataset, make_net: Callable[..., nn.Sequential]) -> None:
    images, labels = stripes.train.images[:16], stripes.train.labels[:16]
    results = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed * 100)
        each = stepper(make_net(dropout=0.5), "torch")
        each.model.train()
        torch.rand(seed)
        step(each, images, labels, seed, 0.1, 16)
        results.append(each.parameters.values.clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_auxiliary_outputs_and_penalties_count(stripes: Dataset) -> None:
    class WithAuxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 2, 1), CombinedConv2d(2, 2, 3, padding=1, sparsity=0.1))
            self.flatten = nn.Flatten()
            self.head, self.side = nn.Linear(2 * 9 * 7, 3), nn.Linear(2 * 9 * 7, 3)

        def forward(self, x: torch.Tensor) -> Any:
            x = self.flatten(self.body(x))
            return AuxiliaryOutputs(self.head(x), (self.side(x),), 0.3) if self.training else self.head(x)

    images, labels = stripes.train.images[:17], stripes.train.labels[:17]
    gradients = []
    for engine in ("rules", "torch", "hand"):
        torch.manual_seed(0)
        model = WithAuxiliary().train()
        if engine == "hand":
            x = model.flatten(model.body(PIXELS.normalise(images)))
            main, side = (nn.functional.cross_entropy(head(x), labels) for head in (model.head, model.side))
            added = penalty(penalised(model))
            assert added is not None
            value = main + 0.3 * side + added
            value.backward()  # type: ignore[no-untyped-call]
        else:
            each = stepper(model, engine)
            step(each, images, labels, 0, 1e-30, 17)
            assert each.read().loss > 0
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    for name, expected in gradients[2].items():
        for found in gradients[:2]:
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)
        assert expected.abs().max() > 0


def test_bfloat16_is_near_and_weights_stay_float32(stripes: Dataset, make_net: Callable[..., nn.Sequential]) -> None:
    images, labels = stripes.train.images[:32], stripes.train.labels[:32]
    found = []
    for precision in ("float32", "bfloat16"):
        each = stepper(make_net(dropout=0.0), "torch", precision=precision)
        step(each, images, labels, 0, 0.1, 32)
        found.append(each.read().loss)
        assert each.parameters.values.dtype == torch.float32
    assert found[0] != found[1]
    assert found[1] == pytest.approx(found[0], rel=0.02)


def test_the_choice_and_its_reason(make_net: Callable[..., nn.Sequential]) -> None:
    def chosen(engine: str, **options: Any) -> tuple[Stepper, str]:
        config = Config.of(engine=engine, **options)
        return choose(assignment(make_net(), "cross_entropy", config))

    assert chosen("torch")[0].name == "torch"
    assert chosen("rules")[0].name == "rules"
    double, reason = chosen("auto", precision="float64")
    assert isinstance(double, TorchStepper)
    assert reason == "the native engine computes in float32, and precision is float64"
    with pytest.raises(ArgumentError, match="engine: got 'native', wanted another engine: .* precision is bfloat16"):
        chosen("native", precision="bfloat16")
    with pytest.raises(ArgumentError, match="precision: got 'bfloat16', wanted float32 or float64 with engine='rules'"):
        chosen("rules", precision="bfloat16")


def test_convolutions_go_channels_last_and_come_out_the_same() -> None:
    torch.manual_seed(0)
    model = create_model("slides_cifar10")
    each = TorchStepper(
        Assignment(
            model,
            ClassificationObjective(LOSSES["cross_entropy"]),
            (Input("pictures", preprocessing=Preprocessing(3, (32, 32), (0.5,) * 3, (0.25,) * 3)),),
            Config.of(optimiser="sgd", precision="float32"),
            torch.device("cpu"),
            Group(),
            1,
        )
    )
    assert each.channels_last
    assert each.parameters.intact()
    weight = next(p for p in model.parameters() if p.ndim == 4)
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_auto_goes_to_torch_where_a_layer_does_not_lower(
    make_net: Callable[..., nn.Sequential], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Stepper) -> None:
        raise LoweringError("3", "no kernel for it")

    monkeypatch.setattr(native, "available", lambda: True)
    monkeypatch.setattr(NativeStepper, "flatten", refuse)
    config = Config.of()
    given = assignment(make_net(), "cross_entropy", config)
    chosen, reason = choose(given)
    assert isinstance(chosen, TorchStepper)
    assert reason == "the native engine cannot run layer '3': no kernel for it"
    asked = dataclasses.replace(given, config=config.replace(engine="native"))
    monkeypatch.setattr(SegmentsStepper, "flatten", refuse)
    with pytest.raises(LoweringError, match="layer '3': no kernel for it"):
        choose(asked)


def test_native_asked_for_where_it_is_not_built(
    make_net: Callable[..., nn.Sequential], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    with pytest.raises(ArgumentError, match="engine: got 'native', wanted another engine: .* is not built here"):
        stepper(make_net(), "native")
    assert stepper(make_net(), "auto").name == "torch"


needs_engine = pytest.mark.skipif(not native.available(), reason="the native engine is not built here")


@needs_engine
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error", "hinge"])
@pytest.mark.parametrize("count", [1, 15, 17, 33])
def test_native_makes_torchs_step(
    loss: str, count: int, stripes: Dataset, make_net: Callable[..., nn.Sequential]
) -> None:
    images, labels = stripes.train.images[:count], stripes.train.labels[:count]
    found: list[tuple[float, float, dict[str, torch.Tensor]]] = []
    for engine in ("native", "torch"):
        each = stepper(make_net(dropout=0.0, smooth=True), engine, loss)
        each.model.train()
        step(each, images, labels, seed=3, rate=0.5, whole=count)
        reading = each.read()
        found.append(
            (reading.loss, reading.counts[0], {name: w.clone() for name, w in each.model.state_dict().items()})
        )
        assert each.parameters.intact()
        each.model.eval()
        torch.testing.assert_close(
            each.outputs((images,)), each.model(*each.model_inputs((images,))), rtol=1e-4, atol=1e-5
        )
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert found[0][1] == found[1][1]
    start = make_net(dropout=0.0, smooth=True).state_dict()
    for name, weight in found[0][2].items():
        torch.testing.assert_close(weight, found[1][2][name], rtol=1e-4, atol=1e-6)
        assert not torch.equal(weight, start[name]), "the canary: it did move"
