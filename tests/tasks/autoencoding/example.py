"""A small autoencoder for the contract of every task; without sparsity, since ρ̂ is a whole batch's."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.contracts.test_every_task import Example
from tests.data.kinds.some import some_labelled

from convscope.data import Dataset
from convscope.models import create_model
from convscope.tasks.autoencoding.task import Autoencoding


def example(folder: Path) -> Example:
    whole = some_labelled()
    data = Dataset("few", whole.select(torch.arange(8)), whole.select(torch.arange(8, 11)))
    torch.manual_seed(0)
    model = create_model("sparse_autoencoder", in_channels=3, units=5, input_size=(6, 7))
    return Example(Autoencoding({"beta": 0.0}), model, data, whole.images[8:], 3)
