"""Architectures against torchvision's own: keys, shapes, parameters, logits and training outputs by formula weights.

``torchvision.json`` holds what torchvision 0.29's model files give in float64 for pictures of 96×96 (Inception-v3:
299×299); ten networks at their full size, by torchvision 0.26, are in a reference file beside the data folder.
``docs.pages.zoo`` makes weights and pictures by the formula.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from docs.pages import zoo as report

from convscope.models import MODELS

HERE = Path(__file__).parent / "torchvision.json"
DATA = os.environ.get("CONVSCOPE_DATA")
REFERENCE = Path(DATA).parent / "fixtures" / "torchvision_parity.json" if DATA else None
needs_reference = pytest.mark.skipif(
    REFERENCE is None or not REFERENCE.exists(), reason="no torchvision_parity.json beside CONVSCOPE_DATA"
)
REFERENCES = report.read_reference(HERE)
# The wide ones take seconds for their 10⁸ parameters by formula, and every one of them is a longer VGG-11.
LONG = {
    "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "resnet101", "resnet152", "densenet161",
}  # fmt: skip


def tiered(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in names]


FULL_SIZE = (
    "alexnet",
    "vgg11",
    "vgg16",
    "googlenet",
    "inception_v3",
    "resnet18",
    "resnet50",
    "densenet121",
    "mobilenet_v2",
    "shufflenet_v2_x1_0",
)


#: From here on no layer differs, whatever the network makes of it.
NEARLY = 1e-9
#: Our rounding and torchvision's are some times what one rounding of every parameter does: up to 6 times here.
ROUNDINGS = 16


def figures(compared: report.Compared) -> dict[str, float]:
    return {
        "logits": compared.logits_error, "norm": compared.norm_error, "training": compared.training_error or 0.0,
    }  # fmt: skip


def allowed(name: str, reference: report.Reference) -> dict[str, float]:
    """What rounding may do to each figure: it depends on the processor's order of summing and on the network.

    Most networks give the same figures everywhere to 1e-12. Of the deepest residual networks by formula weights, one
    rounding of every parameter (2⁻⁵² of it) moves the logits by 1e-7 (101 layers) and by 2 % (152 layers), so that much
    is measured, and ``ROUNDINGS`` times as much allowed.
    """
    moved = []
    for draw in range(2):
        model, stream = report.by_formula(name), torch.Generator().manual_seed(draw)
        with torch.no_grad():
            for each in model.parameters():
                each.mul_(1 + 2**-52 * torch.randn(each.shape, generator=stream, dtype=torch.float64))
        moved.append(figures(report.compared(model, reference)))
    return {what: max(NEARLY, ROUNDINGS * max(each[what] for each in moved)) for what in moved[0]}


def check(name: str, reference: report.Reference, model: torch.nn.Module | None = None) -> None:
    compared = report.compare(name, reference) if model is None else report.compared(model, reference)
    assert compared.parameters == reference.parameters
    assert compared.keys_agree
    found = figures(compared)
    if not max(found.values()) < NEARLY:
        bounds = allowed(name, reference)
        assert found == {what: value if value < bounds[what] else bounds[what] for what, value in found.items()}


@pytest.mark.parametrize("name", tiered(REFERENCES))
def test_same_network_as_torchvision(name: str) -> None:
    assert REFERENCES[name].training_norms
    check(name, REFERENCES[name])


@needs_reference
@pytest.mark.parametrize("name", tiered(FULL_SIZE))
def test_same_network_as_torchvision_at_full_size(name: str) -> None:
    assert REFERENCE is not None
    check(name, report.read_reference(REFERENCE)[name])


@pytest.mark.parametrize("name", tiered(["resnet18", "resnet101"]))
def test_a_slightly_wrong_layer_is_not_rounding(name: str) -> None:
    """One normalisation of a hundred with an ε of 1.001e-5: 1e-8 of one layer's output."""
    model = report.by_formula(name)
    model.get_submodule("layer2.1.bn2").eps = 1.001e-5  # type: ignore[assignment]
    with pytest.raises(AssertionError, match="logits"):
        check(name, REFERENCES[name], model)


def test_no_model_of_torchvisions_layout_is_left_out() -> None:
    """Every card that promises torchvision's keys has its row."""
    promised = {name for name in MODELS if "torchvision's layout" in MODELS[name].card.note}
    assert promised == set(REFERENCES)


def test_formula_by_hand() -> None:
    """crc32("fc.weight") mod 1000 and the first two values of its sine, worked out apart from the module."""
    import math
    import zlib

    start = zlib.crc32(b"fc.weight") % 1000
    weight = report.formula("fc.weight", torch.empty(2, 3))
    assert weight.flatten()[:2].tolist() == pytest.approx(
        [math.sin(start) * math.sqrt(4 / 3), math.sin(0.7 + start) * math.sqrt(4 / 3)]
    )
    assert report.formula("bn.running_var", torch.empty(4)).min() >= 1
    assert report.formula("bn.num_batches_tracked", torch.tensor(5)).item() == 0


def test_a_wrong_network_is_noticed() -> None:
    reference = REFERENCES["resnet18"]
    with torch.device("meta"):
        model = MODELS["resnet34"].create(1000, 3, {})
    assert not report.keys_agree(model, reference)
    slightly = dataclasses.replace(reference, norm=reference.norm * (1 + 1e-6))
    assert report.compare("resnet18", slightly).norm_error > 1e-7
    in_training = dataclasses.replace(
        reference, training_norms=[each * (1 + 1e-6) for each in reference.training_norms]
    )
    assert (report.compare("resnet18", in_training).training_error or 0.0) > 1e-7
