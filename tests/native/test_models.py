"""Every catalogue model lowers, or the refusal names a layer; and each computes what torch computes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.native.comparing import WHOLE_NETWORK, check, differences, pictures, randomised, worst
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


def affordable(name: str) -> nn.Module:
    """The small form where a picture costs little, else the cheapest build with every kind of layer, on pictures small
    enough that seconds suffice. Side classifiers, which the first test refuses, are left out."""
    entry = MODELS[name]
    card = entry.card
    if card.parameters < 3e6 or "small" in entry.options():
        model = built(name)
        if count(model, shape_of(model)).multiply_adds <= LARGEST:
            return model
    options: dict[str, Any] = dict(card.economical)
    if "auxiliary" in entry.options():
        options["auxiliary"] = False
    if card.minimum_size is not None:
        # 64 rather than 32: batch normalisation over single values of five pictures is mostly noise
        options["input_size"] = max(card.minimum_size, 64)
    return create_model(name, **options)


@pytest.mark.parametrize("name", MODELS.names())
def test_it_computes_what_torch_computes(name: str) -> None:
    if not availability.available():
        pytest.skip(f"the engine is not built: {availability.problem()}")
    model = affordable(name)
    shape = shape_of(model)
    # Which side of 0 a rectifier's input is on, or which of two candidates is the larger, is a matter of rounding for
    # some of a large network's millions of values, in torch as here. Outputs do not mind; gradients jump. Smooth
    # functions in their places show whether everything else is right.
    name_of, value = worst(differences(randomised(model).eval(), pictures(2, shape), gradients=False))
    assert value <= WHOLE_NETWORK, f"{name_of}: {value:.2e} of the largest"
    check(smooth(model), pictures(2, shape), WHOLE_NETWORK)
    card = MODELS[name].card
    verify(Subject(name, smooth(affordable(name)), card.loss, shape, card.classes), batch_sizes=(5,))


def smooth(model: nn.Module) -> nn.Module:
    for module in list(model.modules()):
        for child_name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(module, child_name, nn.SiLU())
            elif isinstance(child, nn.MaxPool2d):
                sizes = (child.kernel_size, child.stride, child.padding)
                setattr(module, child_name, nn.AvgPool2d(*sizes, ceil_mode=child.ceil_mode))
    return model
