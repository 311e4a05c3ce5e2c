"""Training by the command line, on real digits."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.cli.conftest import Call

import convscope
from convscope.cli.progress import in_words
from convscope.training import load

PICTURES = ["confusion.png", "curves.png", "dead.png", "histograms.png", "kernels-film.png", "kernels.png"]


def test_a_run_leaves_history_model_and_pictures(trained: Path) -> None:
    rows = list(csv.DictReader((trained / "history.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert float(rows[-1]["test_accuracy"]) > 0.9
    assert sorted(path.name for path in trained.glob("*.png")) == PICTURES
    for name in PICTURES:
        with Image.open(trained / name) as picture:
            assert min(picture.size) > 100
    assert json.loads((trained / "data.json").read_text()) == {"data": "digits", "root": None, "options": []}
    assert load(trained / "model.safetensors").training is False


def test_the_recipe_is_printed_and_can_be_overridden(call: Call, tmp_path: Path) -> None:
    text = call(
        "train", "lenet5", "-d", "digits", "-e", "1", "--lr", "0.01", "-o", "activation=tanh", "-r", tmp_path / "run",
        "--engine", "torch", "--no-pictures",
    ).stdout  # fmt: skip
    first = text.splitlines()[0]
    assert first.startswith("recipe lenet5-relu-digits: activation=tanh, pool=max")
    assert "epochs=1" in first
    assert "learning_rate=0.01" in first
    assert re.search(r"^lenet5 on digits: 61,706 parameters, 1,438 training and 359 test pictures$", text, re.M)
    assert re.search(r"^epoch +1/1  loss \d\.\d+  accuracy \d+\.\d+%  test loss .*images/s", text, re.M)
    assert re.search(r"^test error \d+\.\d+% \(\d+ of 359\)", text, re.M)
    assert not list((tmp_path / "run").glob("*.png"))
    options = json.loads((tmp_path / "run" / "config.json").read_text())["model"]["options"]
    assert (options["activation"], options["pool"]) == ("tanh", "max")


def test_without_a_recipe_the_defaults_hold(call: Call, tmp_path: Path) -> None:
    text = call(
        "train", "--recipe", "none", "-e", "1", "-r", tmp_path / "run", "--engine", "torch", "--no-pictures"
    ).stdout  # fmt: skip
    assert text.startswith("settings: epochs=1, engine=torch\n")
    content = json.loads((tmp_path / "run" / "config.json").read_text())
    assert content["config"]["optimiser"] == "adam"
    assert "activation" not in content["model"]["options"]


def test_quiet_prints_the_result_only(call: Call, tmp_path: Path) -> None:
    text = call("train", "-q", "-e", "1", "-r", tmp_path / "run", "--engine", "torch", "--no-pictures").stdout
    assert [line.split()[0] for line in text.splitlines()] == ["test", "model"]


def test_training_on_from_a_saved_model(call: Call, model: Path, tmp_path: Path) -> None:
    before = load(model)
    text = call(
        "train", model, "-d", "digits", "-e", "1", "--lr", "1e-4", "-r", tmp_path / "on", "--no-pictures"
    ).stdout
    after = load(tmp_path / "on" / "model.safetensors")
    assert "(lenet5)" in text.splitlines()[0]
    change = torch.nn.utils.parameters_to_vector(after.parameters()) - torch.nn.utils.parameters_to_vector(
        before.parameters()
    )
    assert 0 < float(change.detach().abs().max()) < 0.1


def test_a_folder_of_pictures_is_a_data_set(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, level in (("dark", 40), ("light", 200)):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for index in range(20):
            noise = torch.randint(-30, 30, (20, 20), generator=generator) + level
            Image.fromarray(noise.to(torch.uint8).numpy()).save(tmp_path / "mine" / name / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    text = call("train", "-d", "mine", "-e", "8", "-r", "run", "--lr", "0.003", "--data-option", "size=16").stdout
    assert "test error 0.00%" in text
    monkeypatch.chdir(tmp_path / "mine")  # run folder and model remember their data from anywhere
    assert "error                0.00%" in call("evaluate", tmp_path / "run" / "model.safetensors").stdout
    assert "going on after step" in call("train", "--resume", tmp_path / "run", "-e", "9").stdout


def test_transfer_with_frozen_layers_and_a_new_head(call: Call, model: Path, tmp_path: Path) -> None:
    """Weights of ten classes, pictures of three: the convolutions stay bit for bit, also in a resumed run."""
    from convscope import load_dataset

    split = load_dataset("digits").train
    for name in "035":
        (tmp_path / "three" / name).mkdir(parents=True)
        for index in (split.labels == int(name)).nonzero().flatten()[:20].tolist():
            Image.fromarray(split.images[index, 0].numpy()).save(tmp_path / "three" / name / f"{index}.png")
    run = tmp_path / "run"
    common = ["--engine", "torch", "--no-pictures", "--watch"]
    text = call(
        "train", "lenet5", "--weights", model, "--freeze", "c", "-d", tmp_path / "three", "-e", "1", "-r", run, *common
    ).stdout  # fmt: skip
    assert "frozen=4 parameters" in text.splitlines()[0]
    call("train", "--resume", run, "-e", "3", "-q")
    before, after = load(model).state_dict(), load(run / "model.safetensors").state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("c"))
    assert not torch.equal(after["f5.weight"], before["f5.weight"])
    assert after["output.weight"].shape == (3, 84)


def test_resuming_a_finished_run_for_more_epochs(call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    call("train", "-e", "2", "-r", run, "--engine", "torch", "-q", "--no-pictures")
    text = call("train", "--resume", run, "-e", "3").stdout
    assert "going on after step" in text
    assert len((run / "history.csv").read_text().splitlines()) == 1 + 3
    assert (run / "curves.png").is_file()


def test_interrupted_by_ctrl_c_and_resumed_exactly(call: Call, tmp_path: Path) -> None:
    """A real process, a real signal: exit code 130, how to go on is said, and the end is bit for bit the same."""
    common = ["-e", "12", "--engine", "torch", "--threads", "1", "--no-pictures", "--seed", "5", "-q"]
    call("train", "-r", tmp_path / "whole", *common)
    environment = {**os.environ, "PYTHONPATH": str(Path(convscope.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "convscope", "train", "-r", str(tmp_path / "broken"), *common],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    history = tmp_path / "broken" / "history.csv"
    deadline = time.monotonic() + 90
    while not history.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert f"convscope train --resume {tmp_path / 'broken'}" in out + err
    assert "Traceback" not in err
    assert not (tmp_path / "broken" / "model.safetensors").exists()
    call("train", "--resume", tmp_path / "broken", "-q", "--no-pictures")
    one, other = (load(tmp_path / name / "model.safetensors").state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lenet6"], r"model: got 'lenet6'.*Did you mean 'lenet5'"),
        (["-d", "mnits"], r"data: got 'mnits'.*Did you mean 'mnist'"),
        (["-d", "no/such/folder"], r"no/such/folder: no such file or folder"),
        (["-o", "activaton=relu"], r"option of lenet5: got 'activaton'.*Did you mean 'activation'"),
        (["-o", "activation=rleu"], r"activation: got 'rleu'.*Did you mean 'relu'"),
        (["-o", "relu"], r"wanted key=value"),
        (["--recipe", "lenet5-rleu"], r"recipe: got 'lenet5-rleu'.*Did you mean 'lenet5-relu'"),
        (["--lr", "-0.1"], r"learning_rate: got -0.1, wanted a number > 0"),
        (["--epochs", "0"], r"epochs: got 0, wanted an integer ≥ 1"),
        (["--epochs", "many"], r"'many' is not a valid integer"),
        (["--batch-size", "0"], r"batch_size: got 0, wanted an integer ≥ 1"),
        (["--momentum", "1.5"], r"momentum: got 1.5, wanted a number ≥ 0 and < 1"),
        (["--engine", "nativ"], r"engine: got 'nativ'.*Did you mean 'native'"),
        (["--schedule", "cosin"], r"schedule: got 'cosin'.*Did you mean 'cosine'"),
        (["--optimiser", "sdg"], r"optimiser: got 'sdg'.*'sgd'"),
        (["--loss", "cross_entrpy"], r"loss: got 'cross_entrpy'.*Did you mean 'cross_entropy'"),
        (["--init", "glorot"], r"init.*got 'glorot'"),
        (["--device", "tpu"], r"device: got 'tpu', wanted auto, cpu, cuda"),
        (["--augment", "flop"], r"augment.*flop"),
        (["--data-option", "clases=3"], r"clases"),
        (["--seed", "-1"], r"seed: got -1, wanted an integer ≥ 0"),
        (["--freeze", "c9"], r"freeze: got 'c9'"),
        (["--freeze", "99"], r"freeze: got 99, wanted a number of layers"),
        (["--weights", "nothing.pt"], r"nothing.pt: .*[Nn]o such file"),
        (["--resume", "nowhere", "--freeze", "c"], r"give no --weights or --freeze"),
        (["nothing.safetensors"], r"nothing.safetensors: no such file"),
        (["--resume", "nowhere"], r"run_dir: got 'nowhere', wanted the folder of a run that was begun"),
        (["lenet5", "--resume", "nowhere"], r"--resume goes on with the folder's own model"),
    ],
)
def test_what_cannot_be_is_refused(
    error: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.search(said, " ".join(error("train", *arguments).stderr.split())), error("train", *arguments).stderr
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_a_folder_with_a_run_is_not_overwritten(error: Call, trained: Path) -> None:
    before = (trained / "history.csv").read_bytes()
    text = error("train", "-r", trained, "-e", "1").stderr
    assert "run_dir: got" in text
    assert "a folder without a run" in text
    assert (trained / "history.csv").read_bytes() == before


def test_a_folder_that_cannot_be_written(error: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    text = error("train", "-r", tmp_path / "file" / "run", "-e", "1").stderr
    assert "a part of the path is a file, not a folder" in text


def test_more_classes_than_the_model_has_outputs_are_refused(error: Call, tmp_path: Path, model: Path) -> None:
    for name in range(12):
        (tmp_path / "mine" / f"class {name}").mkdir(parents=True)
        for index in range(3):
            Image.new("L", (8, 8), index * 20 + name).save(tmp_path / "mine" / f"class {name}" / f"{index}.png")
    text = error("train", model, "-d", tmp_path / "mine", "-r", tmp_path / "run").stderr
    assert "model: got '10 outputs', wanted one for each of the 12 classes of 'mine'. Build it with classes=12" in text
    assert not (tmp_path / "run").exists()


def test_times_in_words() -> None:
    assert [in_words(value) for value in (0.52, 45.4, 200, 7500)] == ["0.5 s", "45 s", "3 min 20 s", "2 h 5 min"]
