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
