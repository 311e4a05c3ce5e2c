"""Architectures against torchvision's own: keys, shapes, parameters, logits and training outputs by formula weights.

``torchvision.json`` holds what torchvision 0.29's model files give in float64 for pictures of 96×96 (Inception-v3:
299×299); ten networks at their full size, by torchvision 0.26, are in a reference file beside the data folder.
``docs.pages.zoo`` makes weights and pictures by the formula.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

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


def check(name: str, reference: report.Reference) -> None:
    compared = report.compare(name, reference)
    assert compared.parameters == reference.parameters
    assert compared.keys_agree
    assert compared.logits_error < 1e-8
    assert compared.norm_error < 1e-8
    assert (compared.training_error or 0.0) < 1e-8


@pytest.mark.parametrize("name", REFERENCES)
def test_same_network_as_torchvision(name: str) -> None:
    assert REFERENCES[name].training_norms
    check(name, REFERENCES[name])


@needs_reference
@pytest.mark.parametrize("name", FULL_SIZE)
def test_same_network_as_torchvision_at_full_size(name: str) -> None:
    assert REFERENCE is not None
    check(name, report.read_reference(REFERENCE)[name])


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
