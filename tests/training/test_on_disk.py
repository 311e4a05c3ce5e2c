"""Training on pictures that are read meanwhile is training on the same pictures in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

import convscope
from convscope.data import load_dataset


@pytest.mark.parametrize("augment", [None, "flip,crop:1,cutout:3"])
def test_the_same_weights_bit_by_bit(tmp_path: Path, augment: str | None) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    drawn = numpy.random.default_rng(0)
    for part, count in (("train", 70), ("test", 20)):
        numpy.save(folder / f"x_{part}.npy", drawn.integers(0, 256, (count, 3, 10, 12), dtype=numpy.uint8))
        numpy.save(folder / f"y_{part}.npy", numpy.arange(count) % 3)
    results = []
    for in_memory in (True, False):
        data = load_dataset(folder, in_memory=in_memory)
        assert data.train.on_disk is not in_memory
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(320, 3))
        options: dict[str, Any] = {} if augment is None else {"augment": augment}
        result = convscope.fit(
            model, data, run_dir=str(tmp_path / str(in_memory)), epochs=2, batch_size=16, device="cpu", engine="torch",
            **options,
        )  # fmt: skip
        evaluated = convscope.evaluate(result.model, data)
        results.append((result.model.state_dict(), result.metrics["loss"], evaluated["loss"]))
    (kept, loss, evaluated), (read, other_loss, other_evaluated) = results
    assert all(torch.equal(kept[name], read[name]) for name in kept)
    assert (loss, evaluated) == (other_loss, other_evaluated)
