"""Two processes under torchrun train what one process trains with the whole batch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convscope.data import Dataset
from convscope.errors import ArgumentError
from convscope.tasks import fit
from convscope.training import events, load
from convscope.training.distributed import own_device

SETTINGS: dict[str, Any] = {
    "engine": "torch", "device": "cpu", "epochs": 2, "batch_size": 17, "optimiser": "sgd", "learning_rate": 0.05,
    "watch": False,
}  # fmt: skip

SCRIPT = """
import os, sys
sys.path.insert(0, sys.argv[1])
import torch
from conftest import make_net, make_stripes
from convscope.tasks import fit
torch.set_num_threads(1)
# Each process starts from other weights: the first one's must win.
net = make_net(seed=int(os.environ["RANK"]) + 1, dropout=0.0, smooth=True)
fit(net, make_stripes(), run_dir=sys.argv[2], resume=sys.argv[3] == "resume", **SETTINGS)
"""


def torchrun(run_dir: Path, what: str) -> str:
    arguments = [str(Path(__file__).parent), str(run_dir), what]
    script = run_dir.parent / "script.py"
    script.write_text(f"SETTINGS = {SETTINGS!r}{SCRIPT}")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*launcher, str(script), *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_processes_equal_one(tmp_path: Path, stripes: Dataset, make_net: Callable[..., nn.Module]) -> None:
    torchrun(tmp_path / "two", "all")
    alone = fit(make_net(seed=1, dropout=0.0, smooth=True), stripes, run_dir=str(tmp_path / "one"), **SETTINGS)
    together = load(tmp_path / "two" / "model.safetensors")
    start = make_net(seed=1, dropout=0.0, smooth=True).state_dict()
    for name, weight in together.state_dict().items():
        torch.testing.assert_close(weight, alone.model.state_dict()[name], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(weight, start[name], rtol=1e-3), "the canary: it has learned"
    one, two = ((tmp_path / each / "history.csv").read_text().splitlines() for each in ("one", "two"))
    for mine, theirs in zip(one[1:], two[1:], strict=True):
        assert mine.split(",")[:2] == theirs.split(",")[:2]
        assert [float(each) for each in mine.split(",")[2:7]] == pytest.approx(
            [float(each) for each in theirs.split(",")[2:7]], rel=1e-4
        )
    log = (tmp_path / "two" / "events.jsonl").read_text()
    assert '"processes": 2' in log
    assert log.count("RunStarted") == 1, "only the first process writes"


# One step each. At a rate of 1 plain descent leaves the gradient itself in the weights' difference.
ONE_STEP: dict[str, dict[str, Any]] = {
    "gradient64": {"precision": "float64", "optimiser": "sgd", "momentum": 0.0, "learning_rate": 1.0},
    "gradient32": {"precision": "float32", "optimiser": "sgd", "momentum": 0.0, "learning_rate": 1.0},
    "adam64": {"precision": "float64", "optimiser": "adam", "learning_rate": 1e-3},
    "adam32": {"precision": "float32", "optimiser": "adam", "learning_rate": 1e-3},
}

ONE_STEP_SCRIPT = """
import os, sys
import torch
from convscope.tasks import fit
torch.set_num_threads(1)
if "RANK" in os.environ:
    torch.distributed.init_process_group("gloo")
for name, settings in ONE_STEP.items():
    result = fit("lenet5", "digits", run_dir=f"{sys.argv[1]}/{name}", max_steps=1, watch=False, schedule="constant",
                 engine="torch", device="cpu", batch_size=64, **settings)
    if os.environ.get("RANK", "0") == "0":
        torch.save(result.model.state_dict(), f"{sys.argv[1]}/{name}.pt")
"""


@pytest.mark.long
def test_the_gradients_of_two_processes_add_up_to_those_of_one(tmp_path: Path) -> None:
    """LeNet-5 with sigmoids, whose first gradients are small. Measured, largest difference of a number: gradients
    3e-17 in float64 and 1.5e-8 in float32; after a step of Adam 1e-15 and 1.8e-6. Adam's first step is
    rate·g / (|g| + eps), so that a difference of gradients counts up to rate/eps = 10⁵ times where |g| is below eps:
    what is left of the order of summation is seen there, and no wrong sum."""
    script = tmp_path / "script.py"
    script.write_text(f"ONE_STEP = {ONE_STEP!r}{ONE_STEP_SCRIPT}")
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    weights: dict[str, dict[str, dict[str, torch.Tensor]]] = {}
    for name, launcher in (("one", []), ("two", launch)):
        (tmp_path / name).mkdir()
        command = [sys.executable, *launcher, str(script), str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        weights[name] = {case: torch.load(tmp_path / name / f"{case}.pt", weights_only=True) for case in ONE_STEP}

    def difference(case: str) -> dict[str, torch.Tensor]:
        one, two = weights["one"][case], weights["two"][case]
        return {each: (one[each].double() - two[each].double()).abs() for each in one}

    def largest(case: str) -> float:
        return max(float(each.max()) for each in difference(case).values())

    assert largest("gradient64") < 1e-15
    assert largest("gradient32") < 2e-7
    # float64 runs all sums anew, so this is the rounding of 64 pictures' terms, times Adam's own factor
    rate, eps = 1e-3, 1e-8
    assert largest("adam64") <= rate / eps * 1e-15
    assert largest("adam32") <= min(2 * rate, rate / eps * 2e-7)
    # the canary: the steps did move the weights, by far more than the bounds
    one = weights["one"]
    assert max(float((one["gradient64"][each] - one["adam64"][each]).abs().max()) for each in one["adam64"]) > 1e-3


def test_two_processes_go_on_with_a_run_of_one(
    tmp_path: Path,
    stripes: Dataset,
    make_net: Callable[..., nn.Module],
    interrupt_at: Callable[[int], Callable[[events.Event], None]],
) -> None:
    whole = fit(make_net(seed=1, dropout=0.0, smooth=True), stripes, run_dir=str(tmp_path / "whole"), **SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        fit(
            make_net(seed=1, dropout=0.0, smooth=True),
            stripes,
            run_dir=str(tmp_path / "parts"),
            listeners=[interrupt_at(7)],
            **SETTINGS,
        )
    torchrun(tmp_path / "parts", "resume")
    parts = load(tmp_path / "parts" / "model.safetensors").state_dict()
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(weight, parts[name], rtol=1e-5, atol=1e-6)
    assert '"processes": 2, "resumed_at": 8' in (tmp_path / "parts" / "events.jsonl").read_text()


def test_more_processes_than_pictures_are_refused(
    stripes: Dataset, make_net: Callable[..., nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convscope.training import distributed

    monkeypatch.setattr(distributed.Group, "world", 4)
    with pytest.raises(ArgumentError, match="batch_size: got 2, wanted at least one example for each of the 4"):
        fit(make_net(), stripes, batch_size=2, run_dir=str(tmp_path / "run"))


def test_the_device_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device("auto") == torch.device("cuda", 1)
    assert own_device("cuda:0") == torch.device("cuda", 0)
