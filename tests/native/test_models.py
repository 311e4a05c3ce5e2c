"""Every catalogue model lowers, or the refusal names a layer; and each computes what torch computes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.contracts.model_tasks import TASKS, asked
from tests.native.comparing import WHOLE_NETWORK, check, check_step, pictures, randomised, relative, smooth
from tests.tiers import by_family
from torch import nn

from convscope import create_model
from convscope.errors import LoweringError
from convscope.models import MODELS
from convscope.native import accelerate, availability, lower
from convscope.spec import spec_of

#: With a layer each that the engine does not have.
REFUSED = {
    "stn": "the engine has no function torch.nn.functional.affine_grid",
    "committee": "stacks along dim 0, the batch",  # each member runs on the engine by itself
    "mcdnn": "stacks along dim 0, the batch",
    "deepid": "the engine has no LocallySharedConv2d",
    "deconvnet": "does not give the places of the maxima away",
}
CLASSIFIERS = [name for name in MODELS if MODELS[name].card.task == "classification"]
#: Those of which no build lowers whole.
NEVER = tuple(
    name for name in CLASSIFIERS if name.startswith(("stn", "committee", "mcdnn", "deepid")) and name != "mcdnn_column"
)


def shape_of(model: nn.Module) -> tuple[int, int, int]:
    described = spec_of(model)
    assert described is not None
    channels, height, width = described.input_shape
    return channels, height, width


def built(name: str) -> nn.Module:
    """The model, in its small form where it has one."""
    small = "small" in MODELS[name].option_names()
    return create_model(name, small=True) if small else create_model(name)


@pytest.mark.parametrize("name", by_family([name for name in MODELS if MODELS[name].card.task in TASKS]))
def test_it_lowers_or_names_the_layer(name: str) -> None:
    model = built(name)
    for training in (True, False):
        model.train(training)
        try:
            plan = lower(model, shape_of(model), MODELS[name].card.loss if name in CLASSIFIERS else None)
        except LoweringError as problem:
            refusal = problem
        else:
            answer = asked(name).answer(1, MODELS[name].card.classes, shape_of(model))
            assert plan.outputs[0].shape == answer[1:]
            continue
        wanted = [reason for start, reason in REFUSED.items() if name.startswith(start)]
        assert any(reason in refusal.reason for reason in wanted), str(refusal)
        assert refusal.layer in dict(model.named_modules()) or refusal.layer in ("reshape", "affine_grid", "stack")


@pytest.mark.skipif(not availability.available(), reason="the engine is not built")
@pytest.mark.parametrize("name", ["fcn32s", "fcn8s"])
@pytest.mark.parametrize("options", [{"small": True, "width": 0.1}, {"body": "vgg11", "width": 0.05, "hidden": 8}])
def test_scores_of_pixels_are_torchs(name: str, options: dict[str, Any]) -> None:
    """Outputs and gradients, of the authors' paddings and crops and of the small build's."""
    model = randomised(create_model(name, classes=3, input_size=(64, 96), **options)).eval()
    check(smooth(model), pictures(2, (3, 64, 96)), WHOLE_NETWORK)
    with pytest.raises(LoweringError, match="features"):
        accelerate(model).loss_and_grad(pictures(2, (3, 64, 96)), torch.zeros(2, dtype=torch.int64))


@pytest.mark.skipif(not availability.available(), reason="the engine is not built")
@pytest.mark.parametrize("name", by_family([name for name in CLASSIFIERS if name not in NEVER]))
def test_it_computes_what_torch_computes(name: str) -> None:
    card = MODELS[name].card
    small_form = "small" in MODELS[name].option_names() or card.minimum_size is None
    if card.parameters > 5e6 or not small_form:
        compare_once(name)
        return
    model = built(name)
    shape = shape_of(model)
    check(randomised(model).eval(), pictures(3, shape), WHOLE_NETWORK)
    # Dozens of rectifiers on the statistics of few values: which side of 0 an input is on is often a matter of
    # rounding, in torch as here. Smooth ones in their places show whether everything else is right.
    check_step(smooth(built(name)), card.loss, pictures(5, shape), torch.arange(5) % card.classes, WHOLE_NETWORK)


@pytest.mark.skipif(not availability.available(), reason="the engine is not built")
@pytest.mark.parametrize("name", NEVER)
def test_it_computes_in_part_what_torch_computes(name: str) -> None:
    model = built(name).eval()
    x = pictures(3, shape_of(model))
    fast = accelerate(copy.deepcopy(model))
    with torch.no_grad():
        assert relative(fast(x), copy.deepcopy(model).double()(x.double())) <= WHOLE_NETWORK
    assert "native: " in fast.report()
    assert "torch: " in fast.report()


def compare_once(name: str) -> None:
    """For large ones: an evaluation of two pictures and a step of five, on the smallest pictures that will do."""
    model = smallest_that_lowers(name)
    shape, card = shape_of(model), MODELS[name].card
    x = pictures(2, shape)
    with torch.no_grad():
        got = accelerate(copy.deepcopy(model).eval())(x)
        exact = copy.deepcopy(model).double().eval()(x.double())
    assert relative(got, exact) <= WHOLE_NETWORK
    check_step(smooth(model), card.loss, pictures(5, shape), torch.arange(5) % card.classes, WHOLE_NETWORK)


def smallest_that_lowers(name: str) -> nn.Module:
    """The first of: the cheapest build on 64×64 (on 32×32 deep batch normalisation would be over five single values) or
    the smallest picture it takes, the same as the small form, the same on the paper's pictures."""
    entry = MODELS[name]
    options: dict[str, Any] = dict(entry.card.economical)
    if "input_size" in options:  # 3/2 of the smallest, for the sake of batch normalisation
        candidates = [options | {"input_size": options["input_size"] * 3 // 2}]
    elif entry.card.minimum_size is not None:
        candidates = [options | {"input_size": max(entry.card.minimum_size, 64)}]
    else:
        candidates = [options]
    candidates += [options | {"small": True}] if "small" in entry.options() else [options]
    problems = []
    for each in candidates:
        with torch.device("meta"):  # no weights are drawn that ``randomised`` replaces
            model = create_model(name, classes=10, **each)
        model = model.to_empty(device="cpu").train()
        for buffer in model.buffers():
            buffer.zero_()  # counters of batches; the statistics are replaced as well
        try:
            lower(randomised(model), shape_of(model))
        except LoweringError as problem:
            problems.append(str(problem))
            continue
        return model
    raise AssertionError("; ".join(problems))
