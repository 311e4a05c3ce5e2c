"""Every task, trained by several processes under torchrun, in float64: what comes out is what one process makes.

Batches of 5 of few examples: shares differ in size, and with four processes some have none of the last batch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from convscope.tasks import fit

ROOT = Path(__file__).parents[2]
SCRIPT = """
import dataclasses, importlib, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from torch import nn
from convscope import fit
from convscope.data import Order
from convscope.models import create_model
from convscope.tasks.detection.task import DetectionTask
from tests.contracts.test_every_task import Example
from tests.tasks import measuring
from tests.training.conftest import make_net, make_stripes

torch.set_num_threads(1)
if "RANK" in os.environ:
    torch.distributed.init_process_group("gloo")
folder = Path(sys.argv[2])
SETTINGS = dict(engine="torch", device="cpu", precision="float64", epochs=2, batch_size=5, optimiser="adam",
                learning_rate=0.01, watch=False, evaluation_batch_size=4, threads=1)


def train(name, model, data, **options):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    fit(model, data, run_dir=str(folder / name), **{**SETTINGS, **options})


def widened(picture):
    return nn.functional.pad(picture, (0, 240 - picture.shape[2]))


train("measuring", measuring.Net(), measuring.dataset(22), task=measuring.Measuring())
def proposed(task, data):
    model = create_model("fast_rcnn", small=True, width=0.25, hidden=16, **task.options(data))
    settings = {"shorter": 32, "longest": 64, "proposals": "grid", "scales": "24,32,48"}
    train("fast_rcnn", model, data, task=DetectionTask(settings), sync_batch_norm=True, augment="flip")


# shares of which nothing is known, in batches of which something is, weigh nothing
data = measuring.dataset(23)
known = data.train.known.clone()
known[Order(10, 4, seed=0, epoch=1, rank=0, world=2).own(0)] = False
train("unknown", measuring.Net(), dataclasses.replace(data, train=dataclasses.replace(data.train, known=known)),
      task=measuring.Measuring(), batch_size=4)
augment = "flip,crop:1,rotate:10,elastic:10:2,cutout:2"
train("augmented", make_net(smooth=True, dropout=0.0), make_stripes(22), augment=augment)
train("averaged", make_net(smooth=True, dropout=0.0), make_stripes(24), average_epochs=2)
train("normalised", make_net(smooth=True, dropout=0.0, batch_norm=True), make_stripes(23), sync_batch_norm=True)
for name in (
    "segmentation", "sentences", "autoencoding", "lines", "verification", "captions", "translation", "detection",
):
    example = importlib.import_module(f"tests.tasks.{name}.example").example(folder / f"data-{name}")
    data = example.dataset
    if name == "lines":  # all as wide as the widest: a share is filled up to its own widest line, which norms see
        wide = lambda lines: dataclasses.replace(lines, widths=None, draw=lambda place: widened(lines.draw(place)))
        data = dataclasses.replace(data, train=wide(data.train), test=wide(data.test))
    train(name, example.model, data, task=example.task, sync_batch_norm=True)
    if name == "detection":
        proposed(example.task, data)
"""
NAMES = (
    "measuring", "unknown", "augmented", "averaged", "normalised", "segmentation", "sentences", "autoencoding",
    "lines", "verification", "captions", "translation", "detection", "fast_rcnn",
)  # fmt: skip


def run(folder: Path, processes: int) -> None:
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(script), str(ROOT), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes") / "one"
    run(folder, 1)
    return folder


def history(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "EpochDone"]


def compare(one: Path, several: Path) -> None:
    for name in NAMES:
        weights, others = (load_file(each / name / "model.safetensors") for each in (one, several))
        moved = 0.0
        for key, weight in weights.items():
            difference = float((weight.double() - others[key].double()).abs().max()) if weight.numel() else 0.0
            assert difference < 1e-9, f"{name}: {key} differs by {difference:.2g}"
            moved = max(moved, float(weight.double().abs().max()))
        assert moved > 1e-3
        for mine, its in zip(history(one / name), history(several / name), strict=True):
            assert mine["step"] == its["step"]
            figures = [key for key in mine if key.startswith(("train_", "test_"))]
            assert len(figures) >= 2
            for key in figures:
                assert its[key] == pytest.approx(mine[key], rel=1e-9, abs=1e-12), (name, key)


@pytest.mark.long
def test_two_processes(alone: Path, tmp_path: Path) -> None:
    run(tmp_path / "two", 2)
    compare(alone, tmp_path / "two")


@pytest.mark.long
def test_four_processes(alone: Path, tmp_path: Path) -> None:
    run(tmp_path / "four", 4)
    compare(alone, tmp_path / "four")


LOSING = """
import os, signal, sys
from convscope.cli.main import run
from convscope.training.distributed import Processes
from convscope.training.loop import Run

begun = Run._step


def step(self, *arguments):
    if os.environ["RANK"] == sys.argv[2] and self.progress.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    begun(self, *arguments)


def leave(self):  # torchrun's signal to those that are left, when the loop is over and nothing has been said yet
    os.kill(os.getpid(), signal.SIGTERM)
    left(self)


left, Processes.leave = Processes.leave, leave
Run._step = step
run(["train", "lenet5", "--recipe", "none", "--data", "digits", "--engine", "torch", "--precision", "float64",
     "--max-steps", "12", "--run-dir", sys.argv[1], "--checkpoint-batches", "5", "--no-watch", "--no-pictures",
     "--augment", "crop:1", "--threads", "1", "--optimiser", "sgd", "--device", "cpu"])
"""


def torch_run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, str(script), *arguments], capture_output=True, text=True, check=False, timeout=300, env=environment
    )


@pytest.mark.long
@pytest.mark.parametrize("lost", ["0", "1"])
def test_a_killed_process_ends_the_job_with_one_line_and_one_process_goes_on(lost: str, tmp_path: Path) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "run"
    script.write_text(LOSING)
    done = torch_run(script, str(folder), lost)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("convscope:")]
    assert len(said) == 1, done.stderr[-3000:]
    assert "another process of this job has ended or cannot be reached" in said[0]
    assert said[0].endswith(f"Go on, with any number of processes: convscope train --resume {folder}")
    result = fit(run_dir=str(folder), resume=True)
    assert (result.stopped, '"resumed_at": 5' in (folder / "events.jsonl").read_text()) == ("max_steps", True)
    whole = fit(
        "lenet5", "digits", engine="torch", precision="float64", max_steps=12, run_dir=str(tmp_path / "whole"),
        watch=False, augment="crop:1", threads=1, optimiser="sgd", device="cpu",
    )  # fmt: skip
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(result.model.state_dict()[name], weight, rtol=1e-9, atol=1e-12)
