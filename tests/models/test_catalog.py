"""``create_model``: options, sizes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.models import MODELS, create_model, list_models, spec_of

REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: create_model("lenet"), "model: got 'lenet'.*Did you mean 'lenet5'"),
    (lambda: create_model("lenet5", activation="rleu"), "activation: got 'rleu'.*Did you mean 'relu'"),
    (lambda: create_model("lenet5", pool="maxx"), "pool: got 'maxx'.*Did you mean 'max'"),
    (lambda: create_model("lenet5", actvation="relu"), "option of lenet5: got 'actvation'.*Did you mean 'activation'"),
    (lambda: create_model("lenet5", classes=0), "classes: got 0, wanted an integer ≥ 1"),
    (
        lambda: create_model("lenet5", classes=2.0),  # type: ignore[arg-type]
        "classes: got 2.0, wanted an integer ≥ 1",
    ),
    (lambda: create_model("resnet18", in_channels=True), "in_channels: got True"),
    (lambda: create_model("lenet5", input_size=6), "input_size: got 6, wanted a larger picture"),
    (lambda: create_model("slides_stl10", input_size=(96, 8)), r"input_size: got \(96, 8\), wanted a larger picture"),
    (lambda: create_model("resnet18", input_size=16), "input_size: got 16, wanted at least 32"),
    (lambda: create_model("resnet18", small="yes"), "small: got 'yes', wanted True or False"),
    (lambda: create_model("googlenet", auxiliary=1), "auxiliary: got 1, wanted True or False"),
    (lambda: create_model("inception_v3", input_size=224), "input_size: got 224, wanted at least 299.*auxiliary=False"),
    (lambda: create_model("inception_v3", input_size=64, auxiliary=False), "input_size: got 64, wanted at least 75"),
    (lambda: create_model("vgg16", hidden=0), "hidden: got 0, wanted an integer ≥ 1"),
    (lambda: create_model("lenet5_1998", input_size=28), "option of lenet5_1998"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_refused(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        build()


def test_all_architectures_of_the_sources_are_there() -> None:
    wanted = """
    lenet5 lenet5_1998 mcdnn_column slides_cifar10 slides_stl10 slides_caltech101 alexnet_2012 alexnet
    alexnet_gray zfnet vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn vgg16_bn vgg19_bn vgg16c vgg11_lrn vgg11_gray
    nin nin_gray googlenet googlenet_gray inception_v3 inception_v4 inception_resnet_v2 resnet18 resnet34
    resnet50 resnet101 resnet152 resnext50_32x4d densenet121 densenet161 densenet169 densenet201 xception
    squeezenet1_0 mobilenet_v1 mobilenet_v2 shufflenet_v1 shufflenet_v2_x1_0
    """
    assert set(wanted.split()) <= set(list_models())


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("lenet5", {}, (1, 28, 28)),
        ("lenet5", {"input_size": 32}, (1, 32, 32)),
        ("lenet5", {"input_size": (32, 20), "in_channels": 3}, (3, 32, 20)),
        ("resnet18", {"small": True}, (3, 32, 32)),
        ("resnet18", {"small": True, "input_size": 64}, (3, 64, 64)),
        ("resnet18", {"input_size": [96, 64]}, (3, 96, 64)),
        ("slides_caltech101", {"input_size": 96}, (3, 96, 96)),
    ],
)
def test_spec_has_the_size_of_the_build(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model = create_model(name, **options)
        y = model.eval()(torch.zeros(2, *shape))
    described = spec_of(model)
    assert described is not None
    assert described.input_shape == shape
    assert described.architecture == name
    assert described.options["classes"] == MODELS[name].card.classes == y.shape[1]


def test_activations_and_poolings_by_name() -> None:
    model = create_model("lenet5", activation="relu", pool="max")
    kinds = [type(module) for module in model.children()]
    assert kinds.count(nn.ReLU) == 4
    assert kinds.count(nn.MaxPool2d) == 2
    for pool in ("mean", "max", "sum", "l2", "min", "median"):
        assert create_model("lenet5", pool=pool)(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


def test_options_with_defaults_are_listed() -> None:
    assert MODELS["lenet5"].options() == {"activation": "sigmoid", "pool": "mean", "input_size": 28}
    assert MODELS["resnet18"].options() == {"small": False, "input_size": (224, 224)}
    assert MODELS["resnet18"].option_names() == ["small", "input_size"]


def test_unknown_names_are_one_kind_of_argument_error() -> None:
    with pytest.raises(UnknownNameError):
        create_model("resnet19")
