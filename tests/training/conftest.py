"""A data set and models small enough to train in a blink."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convscope.data import Dataset
from convscope.tasks import fit
from convscope.training import Result
from convscope.training.events import BatchDone, Event


def make_stripes(count: int = 100, size: tuple[int, int] = (9, 7), channels: int = 1) -> Dataset:
    """Pictures of noise with a bright bar: in a row (class 0), a column (1) or both (2)."""
    chance = torch.Generator().manual_seed(5)
    images = torch.randint(0, 100, (count, channels, *size), generator=chance, dtype=torch.uint8)
    labels = torch.randint(0, 3, (count,), generator=chance)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = (torch.randint(0, side, (1,), generator=chance) for side in size)
        if label != 1:
            image[:, row] = 250
        if label != 0:
            image[:, :, column] = 250
    return Dataset.from_arrays(images, labels, classes=("row", "column", "both"), name="stripes")


def make_net(seed: int = 1, dropout: float = 0.25, batch_norm: bool = False, smooth: bool = False) -> nn.Sequential:
    """A convolution, pooling, dropout and a fully connected layer for the stripes (9×7).

    ``smooth``: without kinks, for comparisons of programs that round otherwise: at a kink either's gradient is right.
    """
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(1, 5, 3)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(5))
    return nn.Sequential(
        *layers,
        nn.Tanh() if smooth else nn.ReLU(),
        nn.AvgPool2d(2) if smooth else nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(5 * 3 * 2, 3),
    )


@pytest.fixture(scope="session")
def stripes() -> Dataset:
    return make_stripes()


@pytest.fixture
def net() -> nn.Sequential:
    return make_net()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def fitted(tmp_path: Path, stripes: Dataset) -> Callable[..., Result]:
    """``fit`` of a small net on the stripes with the torch engine, in a folder of its own unless given one."""

    def do(model: nn.Module | None = None, data: Dataset = stripes, **options: Any) -> Result:
        defaults = {"engine": "torch", "run_dir": str(tmp_path / "run"), "epochs": 2, "batch_size": 17, "watch": False}
        return fit(model if model is not None else make_net(), data, **{**defaults, **options})

    return do


@pytest.fixture
def interrupt_at() -> Callable[[int], Callable[[Event], None]]:
    """A listener that presses Ctrl-C after the given step."""

    def make(step: int) -> Callable[[Event], None]:
        def listen(event: Event) -> None:
            if isinstance(event, BatchDone) and event.step == step:
                os.kill(os.getpid(), signal.SIGINT)

        return listen

    return make


@pytest.fixture(name="make_net")
def net_maker() -> Callable[..., nn.Sequential]:
    """``make_net`` for the tests."""
    return make_net
