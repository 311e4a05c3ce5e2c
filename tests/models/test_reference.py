"""Architectures against torchvision's own: keys, shapes, parameters and logits by formula weights.

The reference file lies beside the data folder; ``convscope.models.report`` makes weights and input by its formula.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from convscope.models import MODELS, report

DATA = os.environ.get("CONVSCOPE_DATA")
REFERENCE = Path(DATA).parent / "fixtures" / "torchvision_parity.json" if DATA else None
needs_reference = pytest.mark.skipif(
    REFERENCE is None or not REFERENCE.exists(), reason="no torchvision_parity.json beside CONVSCOPE_DATA"
)
NAMES = (
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


@needs_reference
@pytest.mark.parametrize("name", NAMES)
def test_same_network_as_torchvision(name: str) -> None:
    assert REFERENCE is not None
    reference = report.read_reference(REFERENCE)[name]
    compared = report.compare(name, reference)
    assert compared.parameters == reference.parameters
    assert compared.keys_agree
    assert compared.logits_error is not None
    assert compared.logits_error < 1e-8
    assert compared.norm_error is not None
    assert compared.norm_error < 1e-8


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


@needs_reference
def test_a_wrong_network_is_noticed() -> None:
    assert REFERENCE is not None
    reference = report.read_reference(REFERENCE)["resnet18"]
    with torch.device("meta"):
        model = MODELS["resnet34"].create(1000, 3, {})
    assert not report.keys_agree(model, reference)
