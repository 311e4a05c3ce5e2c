"""A run that was killed, interrupted or left with damaged checkpoints ends with the weights of an undisturbed one."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convscope import native
from convscope.data import Dataset
from convscope.errors import ArgumentError, CheckpointError
from convscope.tasks import fit
from convscope.training import Result, events, load
from convscope.training.run_folder import RunFolder

Fit = Callable[..., Result]

# Runs in a process of its own: trains and, after the given step, is gone without a word.
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import torch
from conftest import make_net, make_stripes
from convscope.tasks import fit
from convscope.training import events
torch.set_num_threads(1)
def listen(event):
    if isinstance(event, events.BatchDone) and event.step == int(sys.argv[4]):
        os.kill(os.getpid(), signal.{signal})
fit(make_net(batch_norm=True), make_stripes(), run_dir=sys.argv[2], engine=sys.argv[3], listeners=[listen],
    epochs=3, batch_size=17, checkpoint_batches=2, augment="translate:1", watch=False)
print("not reached")
"""


def run_killed(run_dir: Path, engine: str, step: int, name: str = "SIGKILL") -> subprocess.CompletedProcess[str]:
    arguments = [str(Path(__file__).parent), str(run_dir), engine, str(step)]
    script = KILLED.format(signal=name)
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)


def weights(result: Result) -> dict[str, torch.Tensor]:
    return {name: each.clone() for name, each in result.model.state_dict().items()}


def assert_identical(first: Result, second: Result) -> None:
    left, right = weights(first), weights(second)
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name
    for before, after in zip(first.history, second.history, strict=True):
        for figure in ("epoch", "step", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            assert before[figure] == after[figure], figure
    assert first.metrics == second.metrics


NATIVE = pytest.param(
    "native", marks=pytest.mark.skipif(not native.available(), reason="the native engine is not built here")
)


@pytest.mark.parametrize("engine", ["torch", "rules", NATIVE])
def test_killed_in_mid_epoch_and_resumed_bit_for_bit(
    engine: str, tmp_path: Path, stripes: Dataset, make_net: Callable[..., nn.Module]
) -> None:
    options: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 17,
        "checkpoint_batches": 2,
        "augment": "translate:1",
        "watch": False,
    }
    whole = fit(make_net(batch_norm=True), stripes, run_dir=str(tmp_path / "whole"), engine=engine, **options)
    assert len(whole.history) == 3
    steps = whole.history[0].step
    assert steps == 5
    killed = tmp_path / "killed"
    done = run_killed(killed, engine, step=steps + 4)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "not reached" not in done.stdout
    newest = max((killed / "checkpoints").iterdir()).name
    assert newest == "step-000000008.safetensors", "in mid-epoch, one step before the kill"
    seen: list[events.Event] = []
    # Another module, other weights: everything must come from the checkpoint.
    resumed = fit(make_net(seed=9, batch_norm=True), stripes, run_dir=str(killed), resume=True, listeners=[seen.append])
    started = next(each for each in seen if isinstance(each, events.RunStarted))
    assert started.resumed_at == 8
    first = next(each for each in seen if isinstance(each, events.EpochStarted))
    assert (first.epoch, first.first_batch) == (2, 3)
    assert_identical(whole, resumed)
    # the canary: another seed does end elsewhere
    other = fit(make_net(batch_norm=True), stripes, run_dir=str(tmp_path / "other"), engine=engine, seed=1, **options)
    assert not torch.equal(weights(other)["0.weight"], weights(whole)["0.weight"])


def test_the_folder_alone_is_enough(tmp_path: Path, stripes: Dataset) -> None:
    """No model given: it is rebuilt from the folder's description."""
    done = run_killed(tmp_path / "run", "torch", step=7)
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed = fit(data=stripes, run_dir=str(tmp_path / "run"), resume=True)
    assert len(resumed.history) == 3
    assert load(resumed.run_dir / "model.safetensors").state_dict().keys() == resumed.model.state_dict().keys()


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "header":
        content[9] ^= 1
        path.write_bytes(content)
    else:
        content[-5] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "empty", "header", "data"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    how: str, tmp_path: Path, fitted: Fit, interrupt_at: Callable[[int], Callable[[events.Event], None]]
) -> None:
    whole = fitted(run_dir=str(tmp_path / "whole"), epochs=3)
    with pytest.raises(KeyboardInterrupt):
        fitted(epochs=3, listeners=[interrupt_at(12)], checkpoint_batches=5)
    newest, before = sorted((tmp_path / "run" / "checkpoints").iterdir(), reverse=True)
    damage(newest, how)
    seen: list[events.Event] = []
    resumed = fitted(epochs=3, resume=True, listeners=[seen.append])
    assert isinstance(seen[0], events.CheckpointRefused)
    assert seen[0].path == newest
    started = next(each for each in seen if isinstance(each, events.RunStarted))
    assert before.stem.endswith(str(started.resumed_at))
    assert_identical(whole, resumed)


def test_when_all_are_damaged_it_says_so(
    tmp_path: Path, fitted: Fit, interrupt_at: Callable[[int], Callable[[events.Event], None]]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fitted(epochs=3, listeners=[interrupt_at(7)])
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        damage(path, "data")
    with pytest.raises(CheckpointError, match="no whole checkpoint is left; the oldest: damaged.*Start the run anew"):
        fitted(resume=True, epochs=3)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(CheckpointError, match="no checkpoint is left of a run that had made some. Start the run anew"):
        fitted(resume=True, epochs=3)
    (tmp_path / "run" / "history.csv").unlink()
    assert len(fitted(resume=True, epochs=3).history) == 3, "killed before the first checkpoint: from the start"


def test_only_what_leaves_it_the_same_run_may_change(
    tmp_path: Path, fitted: Fit, stripes: Dataset, interrupt_at: Callable[[int], Callable[[events.Event], None]]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fitted(epochs=3, listeners=[interrupt_at(7)])
    with pytest.raises(ArgumentError, match="batch_size: got 16, wanted 17, as the run was begun with"):
        fitted(epochs=3, resume=True, batch_size=16)
    with pytest.raises(ArgumentError, match="learning_rate: got 0.5, wanted None"):
        fitted(epochs=3, resume=True, learning_rate=0.5)
    other = Dataset("stripes", stripes.test, stripes.train)
    with pytest.raises(CheckpointError, match="begun with other data.*Resume with the same data set"):
        fitted(data=other, epochs=3, resume=True)
    with pytest.raises(CheckpointError, match="another architecture"):
        fitted(nn.Sequential(nn.Flatten(), nn.Linear(63, 3)), epochs=3, resume=True)
    with pytest.raises(CheckpointError, match="a run of 'graph', not of 'lenet5'"):
        fit("lenet5", stripes, run_dir=str(tmp_path / "run"), resume=True)
    assert len(fitted(epochs=4, resume=True).history) == 4


def test_resuming_a_finished_run_gives_its_result_again(fitted: Fit) -> None:
    first = fitted(epochs=2)
    again = fitted(epochs=2, resume=True)
    assert_identical(first, again)


@pytest.mark.parametrize("engine", ["torch", "rules", NATIVE])
def test_more_steps_go_on_at_the_very_step_where_max_steps_ended(
    engine: str, tmp_path: Path, stripes: Dataset, make_net: Callable[..., nn.Module]
) -> None:
    options: dict[str, Any] = {"engine": engine, "batch_size": 17, "augment": "translate:1", "watch": False}
    options |= {"epochs": 3, "schedule": "constant"}
    whole = fit(make_net(batch_norm=True), stripes, run_dir=str(tmp_path / "whole"), **options)
    run_dir = tmp_path / "run"
    cut = fit(make_net(batch_norm=True), stripes, run_dir=str(run_dir), max_steps=8, **options)
    assert (cut.stopped, [row.step for row in cut.history]) == ("max_steps", [5, 8]), "3 of the 5 batches of epoch 2"
    assert cut.metrics.accuracy == cut.history[-1].test_accuracy
    assert len((run_dir / "history.csv").read_text().splitlines()) == 3
    assert_identical(cut, fit(data=stripes, run_dir=str(run_dir), resume=True))
    seen: list[events.Event] = []
    on = fit(data=stripes, run_dir=str(run_dir), resume=True, max_steps=9, listeners=[seen.append])
    first = next(each for each in seen if isinstance(each, events.EpochStarted))
    assert (first.epoch, first.first_batch) == (2, 3)
    assert [row.step for row in on.history] == [5, 9]
    # the canary: one step fewer is another model
    assert not torch.equal(weights(on)["0.weight"], weights(cut)["0.weight"])
    at_an_end = fit(data=stripes, run_dir=str(run_dir), resume=True, max_steps=10)
    assert [row.step for row in at_an_end.history] == [5, 10]
    resumed = fit(data=stripes, run_dir=str(run_dir), resume=True, max_steps=None)
    assert resumed.stopped == "epochs"
    assert_identical(whole, resumed)
    assert len((run_dir / "history.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(("name", "code"), [("SIGINT", None), ("SIGTERM", 143)])
def test_signals_finish_the_batch_save_and_say_how_to_go_on(
    name: str, code: int | None, tmp_path: Path, fitted: Fit, stripes: Dataset
) -> None:
    done = run_killed(tmp_path / "run", "torch", 8, name)
    if code is None:
        assert "KeyboardInterrupt: training was interrupted; to go on: convscope train --resume" in done.stderr
    else:
        assert done.returncode == code
    assert "not reached" not in done.stdout
    assert max((tmp_path / "run" / "checkpoints").iterdir()).name == "step-000000009.safetensors"
    log = (tmp_path / "run" / "events.jsonl").read_text()
    assert f'"signal": "{name}"' in log
    assert f"convscope train --resume {tmp_path / 'run'}" in log


def test_a_signal_in_the_last_batch_of_an_epoch(
    fitted: Fit, interrupt_at: Callable[[int], Callable[[events.Event], None]], tmp_path: Path
) -> None:
    whole = fitted(run_dir=str(tmp_path / "whole"), epochs=2)
    for step in (4, 5):
        run_dir = str(tmp_path / f"run{step}")
        with pytest.raises(KeyboardInterrupt):
            fitted(run_dir=run_dir, epochs=2, listeners=[interrupt_at(step)])
        assert_identical(whole, fitted(run_dir=run_dir, epochs=2, resume=True))


def test_handlers_are_put_back(fitted: Fit) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    fitted(epochs=1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_frozen_layers_stay_frozen_when_the_folder_rebuilds_the_model(
    tmp_path: Path, stripes: Dataset, make_net: Callable[..., nn.Module]
) -> None:
    def frozen_net() -> nn.Module:
        net = make_net()
        net.get_parameter("0.weight").requires_grad_(False)
        return net

    begun = frozen_net()
    before = {name: value.clone() for name, value in begun.state_dict().items()}
    options: dict[str, Any] = {"engine": "torch", "batch_size": 17, "watch": False, "weight_decay": 0.1}
    run_dir = tmp_path / "run"
    fit(begun, stripes, run_dir=str(run_dir), epochs=2, max_steps=5, schedule="constant", **options)
    resumed = fit(data=stripes, run_dir=str(run_dir), resume=True, max_steps=9)
    options |= {"epochs": 2, "max_steps": 9, "schedule": "constant"}
    whole = fit(frozen_net(), stripes, run_dir=str(tmp_path / "whole"), **options)
    assert torch.equal(resumed.model.state_dict()["0.weight"], before["0.weight"])
    assert not torch.equal(resumed.model.state_dict()["0.bias"], before["0.bias"])
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_a_run_that_has_a_configuration_has_weights_to_go_on_with(
    fitted: Fit, stripes: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed the moment the configuration is there, it begins anew from the weights that it had, not from others."""
    undisturbed = fitted(epochs=2, run_dir=str(tmp_path / "undisturbed"))

    class Killed(BaseException):
        pass

    def killed(self: RunFolder, described: dict[str, Any]) -> None:
        write_config(self, described)
        raise Killed

    write_config = RunFolder.write_config
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_config", killed)
        with pytest.raises(Killed):
            fitted(epochs=2)
    (begun,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert begun.name == "step-000000000.safetensors"
    assert_identical(fit(None, stripes, run_dir=str(tmp_path / "run"), resume=True), undisturbed)
