"""Benchmarks verify before they time, and their figures add up."""

from __future__ import annotations

import json
import math
import re
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from convscope import create_model, layers, save
from convscope.cli.commands import bench
from convscope.cli.main import group
from convscope.errors import UnknownNameError
from convscope.native import availability, lower
from convscope.native.benchmarking import (
    CONTESTANTS,
    Machine,
    Report,
    Row,
    Subject,
    WrongGradientsError,
    answering,
    benchmark,
    verify,
)
from convscope.native.cost import training_operations


@pytest.fixture
def subject(reference_engine: types.ModuleType) -> Subject:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(48, 4))
    return Subject("small", model, "cross_entropy", (1, 6, 6), 4)


@pytest.fixture
def told_isa(reference_engine: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_engine, "isa", lambda: "reference", raising=False)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns that measure nothing well, and no machine's own rate."""
    monkeypatch.setattr("convscope.native.benchmarking.measuring.matrix_rate", lambda: 100.0)
    monkeypatch.setattr("convscope.native.benchmarking.measuring._TURN", 0.0005)
    monkeypatch.setattr("convscope.native.benchmarking.inference.TURN", 0.0005)


def test_operations_counted_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3, groups=1), nn.Flatten(), nn.Linear(16, 5))
    first, second, last = 9 * 3 * 16, 27 * 4 * 4, 16 * 5
    plan = lower(model, (1, 6, 6), "cross_entropy")
    assert training_operations(plan) == 2 * (2 * first + 3 * second + 3 * last)
    model[0].requires_grad_(False)
    assert training_operations(lower(model, (1, 6, 6))) == 2 * (first + 2 * second + 3 * last)


@pytest.mark.usefixtures("told_isa")
def test_a_benchmark_of_a_small_network(subject: Subject) -> None:
    told: list[str] = []
    report = benchmark([subject], [5, 17], ["native", "eager", "channels_last"], rounds=3, progress=told.append)
    assert report.differences["small"] < 1e-5
    assert report.cases() == [("small", 5), ("small", 17)]
    for row in report.rows:
        assert row.failure is None
        assert row.low <= row.milliseconds <= row.high
        assert 0 < row.best <= row.high
        assert row.images_per_second == pytest.approx(row.batch_size / row.milliseconds * 1e3)
        assert row.share == pytest.approx(row.gflops / report.machine.matrix_gflops)
    assert told[0] == "small: comparing gradients"
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert len(content["rows"]) == 6


@pytest.mark.usefixtures("told_isa")
def test_an_accelerated_model_moves_by_a_torch_optimiser(subject: Subject) -> None:
    from convscope.native.benchmarking.contestants import CONTESTANTS

    subject.model[2].p = 0.0  # type: ignore[index]
    native, accelerated, eager = (CONTESTANTS[name](subject) for name in ("native", "accelerated", "eager"))
    images, targets = subject.batch(5)
    before = subject.model[0].weight.detach().clone()  # type: ignore[index]
    for _ in range(3):
        losses = [each.step(images, targets) for each in (native, accelerated, eager)]
        assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-5)
    moved = [dict(each.model.named_parameters())["0.weight"] for each in (accelerated, eager)]  # type: ignore[attr-defined]
    torch.testing.assert_close(moved[0], moved[1])
    assert not torch.equal(moved[0], before)


@pytest.mark.usefixtures("told_isa")
def test_nobody_rests_unless_asked(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("convscope.native.benchmarking.measuring.time.sleep", slept.append)
    benchmark([subject], [2], ["eager"], rounds=2)
    assert set(slept) <= {0.0}
    benchmark([subject], [2], ["eager"], rounds=2, rest=0.03)
    assert slept[-2:] == [0.03, 0.03]


@pytest.mark.usefixtures("told_isa")
def test_an_accelerated_models_ratio() -> None:
    def row(contestant: str, milliseconds: float) -> Row:
        return Row("m", 1, contestant, milliseconds, milliseconds, milliseconds, milliseconds, 1.0, 1.0, 0.5)

    rows = [row("native", 1.0), row("accelerated", 2.0), row("eager", 6.0)]
    report = Report(Machine("p", "avx2", 2, "2", 100.0), rows, {})
    assert report.geometric_mean(["eager"], own="accelerated") == pytest.approx(3.0)
    assert report.geometric_mean(["eager"]) == pytest.approx(6.0)


def test_wrong_gradients_are_not_timed(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.native import reference

    right: Any = reference.LAYERS["relu"]
    monkeypatch.setitem(reference.LAYERS, "relu", lambda i, p, a: right(i, p, a) * 1.001)
    with pytest.raises(WrongGradientsError, match=r"small, 17 images: the .* differs by .*, so nothing is timed"):
        verify(subject)


@pytest.mark.usefixtures("told_isa")
def test_a_contestant_that_fails_says_why(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    from convscope.native.benchmarking.contestants import Compiled

    def fail(self: object, subject: Subject) -> None:
        raise RuntimeError("no compiler here\nat all")

    monkeypatch.setattr(Compiled, "__init__", fail)
    report = benchmark([subject], [2], ["native", "compile"], rounds=2)
    assert report.rows[1].failure == "no compiler here"
    assert report.find("small", 2, "compile") is None
    assert math.isnan(report.ratio("small", 2, ["compile"]))


def test_unknown_contestants(subject: Subject) -> None:
    with pytest.raises(UnknownNameError, match="contestant: got 'nativ'.*Did you mean 'native'"):
        benchmark([subject], [2], ["nativ"])


def test_means_over_cases() -> None:
    def row(batch_size: int, contestant: str, rate: float) -> Row:
        milliseconds = batch_size / rate * 1e3
        spread = (0.9 * milliseconds, 1.2 * milliseconds, 0.5 * milliseconds)
        return Row("m", batch_size, contestant, milliseconds, *spread, rate, 10.0, 0.5)

    rows = [row(1, "native", 40.0), row(1, "eager", 10.0), row(1, "compile", 20.0)]
    rows += [row(2, "native", 90.0), row(2, "eager", 10.0), row(2, "compile", 5.0)]
    report = Report(Machine("p", "avx2", 2, "2", 100.0), rows, {})
    assert report.geometric_mean(["eager"]) == pytest.approx(6.0)
    assert report.geometric_mean(["eager", "compile"]) == pytest.approx(18**0.5)
    assert report.geometric_mean(["eager"], best=True) == pytest.approx(6.0)
    assert (report.mean_share(), report.mean_share(best=True)) == pytest.approx((0.5, 1.0))
    assert rows[0].spread == pytest.approx(0.3)


@pytest.mark.usefixtures("told_isa", "quick")
def test_the_command() -> None:
    arguments = ["bench", "lenet5", "-b", "4", "--only", "native", "--only", "eager", "--rounds", "2", "--json", "-"]
    arguments += ["--what", "training"]
    done = CliRunner().invoke(group, arguments)
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert {row["contestant"] for row in content["rows"]} == {"native", "eager"}


@pytest.mark.usefixtures("told_isa", "quick")
def test_a_saved_model(tmp_path: Path) -> None:
    save(create_model("lenet5_1998"), tmp_path / "own.safetensors")
    arguments = ["bench", str(tmp_path / "own.safetensors"), "-b", "3", "--only", "native", "--rounds", "2"]
    arguments += ["--what", "training"]
    done = CliRunner().invoke(group, [*arguments, "--json", str(tmp_path / "figures.json")])
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "figures.json").read_text())
    assert [row["model"] for row in content["rows"]] == [str(tmp_path / "own.safetensors")]
    assert content["differences"][str(tmp_path / "own.safetensors")] < 1e-4
    assert "gradients verified" in done.output
    done = CliRunner().invoke(group, [*arguments, "-o", "classes=3"])
    assert "a saved one is built already" in done.output


@pytest.mark.usefixtures("quick")
def test_training_and_answers_of_another_size() -> None:
    """Torch alone, so that it runs without the engine; threads are everybody's."""
    arguments = ["bench", "slides_stl10", "--input", "48x40", "-b", "2", "--only", "eager", "--only", "openvino"]
    done = CliRunner().invoke(group, [*arguments, "--rounds", "2", "--threads", "1"])
    assert done.exit_code == 2
    assert "got '48x40', wanted a size that slides_stl10 takes, as its own 96x96" in done.output
    arguments[1:4] = ["resnet18", "-o", "small=true", "-o", "classes=3", "--input", "9x7"]
    done = CliRunner().invoke(group, [*arguments, "--rounds", "2", "--threads", "1", "--json", "-"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert [(row["batch_size"], row["contestant"]) for row in content["rows"]] == [(2, "eager")]
    cases = [(row["pictures"], row["contestant"]) for row in content["inference"]]
    assert cases == [(1, "eager"), (1, "openvino"), (2, "eager"), (2, "openvino")]
    assert all(row["milliseconds"] > 0 for row in content["inference"] if row["failure"] is None)
    assert content["machine"]["threads"] == 1


@pytest.mark.skipif(not availability.available(), reason=f"not built: {availability.problem()}")
@pytest.mark.usefixtures("quick")
def test_answers_alone_are_told_with_the_engines_start() -> None:
    arguments = ["bench", "lenet5", "-b", "3", "--what", "inference", "--only", "native", "--only", "eager"]
    done = CliRunner().invoke(group, [*arguments, "--rounds", "2", "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert "training steps" not in done.output
    assert re.search(r"lenet5 +│ 3 +│ native +│ +\d", done.output)
    assert re.search(r"lenet5, native start on one picture: reading the model \d+ ms", done.output)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--input", "0"], "got '0', wanted a side or HxW"),
        (["--input", "64x"], "got '64x', wanted a side or HxW"),
        (["--what", "training", "--only", "openvino"], "--only openvino: nobody of these takes part in training"),
    ],
)
def test_bad_input_is_refused_by_name(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(group, ["bench", "lenet5", *arguments])
    assert done.exit_code == 2
    assert told in done.output


def test_what_is_no_classifier_is_refused() -> None:
    done = CliRunner().invoke(group, ["bench", "sparse_autoencoder"])
    assert done.exit_code == 2
    assert (
        "models: got 'sparse_autoencoder', wanted a classifier of pictures. This one is for autoencoding" in done.output
    )


def test_the_commands_names_are_the_contestants() -> None:
    assert tuple(CONTESTANTS) == bench.TRAINING
    assert tuple(answering.CONTESTANTS) == bench.INFERENCE


def test_torch_is_timed_where_the_engine_lacks_a_layer() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), layers.LocallySharedConv2d(2, 2, 1, 4, 2), nn.Flatten(), nn.Linear(32, 3))
    report = benchmark([Subject("own", model, "cross_entropy", (1, 6, 6), 3)], [4], ["native", "eager"], rounds=2)
    native, eager = report.rows
    assert native.failure == "layer '1': the engine has no LocallySharedConv2d"
    assert eager.failure is None
    assert eager.milliseconds > 0
    assert report.differences == {}
    assert math.isnan(report.geometric_mean(["eager"]))
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["rows"][1]["gflops"] is None
