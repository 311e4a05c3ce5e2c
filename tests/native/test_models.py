"""Every catalogue model lowers, or the refusal names a layer; those small enough also compute what torch computes."""

from __future__ import annotations

import pytest
from tests.native.comparing import WHOLE_NETWORK, check, pictures, randomised
from torch import nn

from convscope import create_model
from convscope.errors import LoweringError
from convscope.inspect import count
from convscope.models import MODELS
from convscope.native import availability, lower
from convscope.native.benchmarking import Subject, verify
from convscope.spec import spec_of

#: With a layer each that the engine does not have.
REFUSED = {
    "googlenet": "does not divide maps",  # the auxiliary classifiers' 14×14 → 4×4, in training only
}
LARGEST = 160e6  # multiply-adds an image of the models that are run


def shape_of(model: nn.Module) -> tuple[int, int, int]:
    described = spec_of(model)
    assert described is not None
    channels, height, width = described.input_shape
    return channels, height, width


def built(name: str) -> nn.Module:
    """The model, in its small form where it has one."""
    small = "small" in MODELS[name].option_names()
    return create_model(name, small=True) if small else create_model(name)


@pytest.mark.parametrize("name", MODELS.names())
def test_it_lowers_or_names_the_layer(name: str) -> None:
    model = built(name)
    for training in (True, False):
        model.train(training)
        try:
            plan = lower(model, shape_of(model), MODELS[name].card.loss)
        except LoweringError as problem:
            refusal = problem
        else:
            assert plan.outputs[0].shape == (MODELS[name].card.classes,)
            continue
        wanted = [reason for start, reason in REFUSED.items() if name.startswith(start)]
        assert any(reason in refusal.reason for reason in wanted), str(refusal)
        assert refusal.layer in dict(model.named_modules())


def small_models() -> list[str]:
    return [name for name in MODELS if MODELS[name].card.parameters < 3e6 or "small" in MODELS[name].option_names()]


@pytest.mark.parametrize("name", small_models())
def test_it_computes_what_torch_computes(name: str) -> None:
    if not availability.available():
        pytest.skip(f"the engine is not built: {availability.problem()}")
    model = built(name)
    shape = shape_of(model)
    if count(model, shape).multiply_adds > LARGEST:
        pytest.skip("large")
    try:
        lower(model.train(), shape)
    except LoweringError as refusal:
        pytest.skip(str(refusal))
    check(randomised(model).eval(), pictures(3, shape), WHOLE_NETWORK)
    # Dozens of rectifiers on the statistics of few values: which side of 0 an input is on is often a matter of
    # rounding, in torch as here. Smooth ones in their places show whether everything else is right.
    card = MODELS[name].card
    verify(Subject(name, smooth(built(name)), card.loss, shape, card.classes), batch_sizes=(5,))


def smooth(model: nn.Module) -> nn.Module:
    for module in list(model.modules()):
        for child_name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(module, child_name, nn.SiLU())
    return model
