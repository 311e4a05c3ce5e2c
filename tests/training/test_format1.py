"""A run that the first release began, killed in its second epoch: it goes on, and its files are read.

``format1/`` holds what that release had written: configuration, history and the checkpoint after step 7.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from convscope import evaluate, fit, load
from convscope.data import Dataset
from convscope.spec import spec_of
from convscope.training import Result, describe

FOLDER = Path(__file__).parent / "format1"
CHECKPOINT = FOLDER / "checkpoints" / "step-000000007.safetensors"


def test_a_run_of_format_1_ends_as_one_begun_now(
    tmp_path: Path, stripes: Dataset, make_net: Callable[..., nn.Module], fitted: Callable[..., Result]
) -> None:
    shutil.copytree(FOLDER, tmp_path / "old")
    old = fit(data=stripes, run_dir=str(tmp_path / "old"), resume=True)
    new = fitted(make_net(), epochs=3, checkpoint_batches=1, optimiser="sgd", learning_rate=0.05)
    assert [row.step for row in old.history] == [row.step for row in new.history] == [5, 10, 15]
    for mine, its in zip(old.history, new.history, strict=True):
        assert mine.train == pytest.approx(dict(its.train), rel=1e-4)
        assert mine.test == pytest.approx(dict(its.test), rel=1e-4)
    # another processor may have rounded the first steps otherwise
    for name, weight in new.model.state_dict().items():
        torch.testing.assert_close(weight, old.model.state_dict()[name], rtol=1e-4, atol=1e-6)
    assert (tmp_path / "old" / "history.csv").read_text().splitlines()[0] == (
        FOLDER / "history.csv"
    ).read_text().splitlines()[0], "the columns are as they were"


def test_a_file_of_format_1_is_read_whole(stripes: Dataset) -> None:
    assert describe(CHECKPOINT)["format"] == 1
    model = load(CHECKPOINT)
    described = spec_of(model)
    assert described is not None
    assert (described.task, described.classes) == ("classification", ("row", "column", "both"))
    scaling, now = described.preprocessing, stripes.preprocessing(fit="pad")
    assert scaling is not None
    assert now is not None
    assert scaling.mean == pytest.approx(now.mean, rel=1e-12)
    assert scaling.std == pytest.approx(now.std, rel=1e-12)
    assert dataclasses.replace(scaling, mean=now.mean, std=now.std) == now, "but for the order of its sums"
    assert evaluate(model, stripes).images == len(stripes.test)
