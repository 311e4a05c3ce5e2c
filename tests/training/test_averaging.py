"""The finished model is the mean of the weights after the last epochs, exactly, also of a run that was broken off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from convscope import evaluate
from convscope.cli.progress import TrainingDisplay
from convscope.data import Dataset
from convscope.errors import ArgumentError, CheckpointError
from convscope.training import Result, events, load
from convscope.training.averaging import average_files

Fit = Callable[..., Result]


def checkpoint(result: Result, epoch: int) -> Path:
    return result.run_dir / "checkpoints" / f"step-{result.history[epoch - 1].step:09d}.safetensors"


def weights(result: Result) -> dict[str, torch.Tensor]:
    return {name: each.clone() for name, each in result.model.state_dict().items()}


def naive_mean(paths: list[Path]) -> dict[str, torch.Tensor]:
    found = [load_file(path) for path in paths]
    names = [name for name in found[0] if not name.startswith("__optimiser__/")]
    return {name: torch.stack([each[name].double() for each in found]).mean(0).float() for name in names}


def test_it_is_the_mean_of_the_last_epochs_and_measured_as_such(fitted: Fit, stripes: Dataset) -> None:
    heard: list[events.Event] = []
    result = fitted(epochs=5, average_epochs=3, keep_checkpoints=1, checkpoint_batches=2, listeners=[heard.append])
    kept = sorted((result.run_dir / "checkpoints").iterdir())
    assert kept == [checkpoint(result, epoch) for epoch in (3, 4, 5)]
    for name, wanted in naive_mean(kept).items():
        assert torch.equal(result.model.state_dict()[name], wanted), name
        assert not torch.equal(load_file(kept[-1])[name], wanted), name
    saved = load(result.run_dir / "model.safetensors")
    assert evaluate(saved, stripes).loss == pytest.approx(result.metrics.loss, rel=1e-5)  # another engine
    assert result.metrics.loss != pytest.approx(result.history[-1].test["loss"], rel=1e-4), (
        "the history is of each epoch's own weights"
    )
    assert [each.epochs for each in heard if isinstance(each, events.Averaged)] == [(3, 4, 5)]


def test_broken_off_and_resumed_it_is_the_same(
    fitted: Fit, interrupt_at: Callable[[int], Callable[[events.Event], None]], tmp_path: Path
) -> None:
    options = {"epochs": 4, "average_epochs": 3}
    whole = weights(fitted(run_dir=str(tmp_path / "whole"), **options))
    with pytest.raises(KeyboardInterrupt):
        fitted(listeners=[interrupt_at(14)], **options)
    resumed = fitted(resume=True, **options)
    again = fitted(resume=True, **options)
    for name, wanted in whole.items():
        assert torch.equal(weights(resumed)[name], wanted), name
        assert torch.equal(weights(again)[name], wanted), name


def test_an_epoch_that_max_steps_cuts_short_counts_as_its_last(fitted: Fit) -> None:
    heard: list[events.Event] = []
    result = fitted(epochs=3, max_steps=8, average_epochs=2, listeners=[heard.append])
    assert [each.epochs for each in heard if isinstance(each, events.Averaged)] == [(1, 2)]
    for name, wanted in naive_mean([checkpoint(result, 1), checkpoint(result, 2)]).items():
        assert torch.equal(result.model.state_dict()[name], wanted), name


def test_fewer_than_were_asked_for_are_told(fitted: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    result = fitted(epochs=2, average_epochs=2)
    checkpoint(result, 1).write_bytes(b"damaged")
    with TrainingDisplay(Console(width=200)) as display:
        alone = fitted(resume=True, listeners=[display])
    said = capsys.readouterr().out
    assert "is passed over" in said
    assert "the model is the mean of 1 epochs' weights, not of 2" in said
    for name, wanted in naive_mean([checkpoint(result, 2)]).items():
        assert torch.equal(alone.model.state_dict()[name], wanted), name


def test_running_statistics_are_refused(fitted: Fit, make_net: Callable[..., nn.Sequential], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"average_epochs: got 2, wanted 1: the running statistics of '1'"):
        fitted(make_net(batch_norm=True), average_epochs=2)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ArgumentError, match="average_epochs: got 0, wanted an integer ≥ 1"):
        fitted(average_epochs=0)


def test_files_are_averaged_too(fitted: Fit, make_net: Callable[..., nn.Sequential], tmp_path: Path) -> None:
    result = fitted(epochs=3, keep_checkpoints=3)
    paths = [checkpoint(result, epoch) for epoch in (1, 2, 3)]
    found = average_files(paths)
    assert not found.training
    for name, wanted in naive_mean(paths).items():
        assert torch.equal(found.state_dict()[name], wanted), name
    other = fitted(nn.Sequential(nn.Flatten(), nn.Linear(63, 3)), run_dir=str(tmp_path / "other"))
    with pytest.raises(CheckpointError, match="weights of another architecture"):
        average_files([checkpoint(other, 1), *paths])
    with pytest.raises(ArgumentError, match="paths: got 'no files', wanted at least one"):
        average_files([])
