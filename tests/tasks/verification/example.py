"""A small Pyramid CNN for the contract of every task."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.contracts.test_every_task import Example
from tests.data.kinds.some import some_labelled

from convscope.data import Dataset
from convscope.data.kinds.pairs import draw_pairs
from convscope.models import create_model
from convscope.tasks.verification.task import Verification


def example(folder: Path) -> Example:
    whole = some_labelled()
    data = Dataset("few", draw_pairs(whole, 8, 1), draw_pairs(whole, 6, 2))
    torch.manual_seed(0)
    model = create_model("pyramid_cnn", in_channels=3, maps=[3], features=4, input_size=(6, 7))
    return Example(Verification(), model, data, [whole.images[:5], whole.images[5:10]], 5)
