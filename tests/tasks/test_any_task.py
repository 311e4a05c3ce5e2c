"""Nothing in the loop, the steppers, the distributed sum, the run folder or the checkpoint knows what a label is: a
task with two inputs, a structured target, a weight that is not the number of examples and two counts trains as well."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from tests.tasks import measuring
from tests.tasks.measuring import AloneNet, Measuring, Net, dataset
from torch import nn

from convscope import evaluate, fit, load, native, predict
from convscope.errors import ArgumentError, LoweringError, UnknownNameError
from convscope.spec import spec_of
from convscope.tasks import TASKS
from convscope.training import Result, events
from convscope.training.task import NoSettings

SETTINGS: dict[str, Any] = {
    "epochs": 3, "batch_size": 16, "optimiser": "sgd", "learning_rate": 0.02, "momentum": 0.9, "engine": "torch",
    "device": "cpu",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def trained(folder: Path, model: nn.Module | None = None, **options: Any) -> Result:
    model = Net() if model is None else model
    data = dataset(alone=isinstance(model, AloneNet))
    return fit(model, data, task=Measuring(), run_dir=str(folder), **{**SETTINGS, **options})


def history(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def by_hand(model: nn.Module, epochs: int = 3) -> tuple[list[float], list[list[float]]]:
    """Mean losses and counts of the epochs of a plain loop in the order of the feed; the model learns."""
    from convscope.data.order import Order

    data, objective = dataset(alone=isinstance(model, AloneNet)).train, measuring.MaskedSquares()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses, counts = [], []
    for epoch in range(1, epochs + 1):
        total = weight = known = close = 0.0
        order = Order(len(data), 16, 0, epoch)
        for index in range(order.count):
            batch = data.batch(order.whole(index))
            pictures, *numbers = batch.inputs
            outputs = model(measuring.PIXELS.normalise(pictures), *numbers)
            optimiser.zero_grad()
            value = objective.value(outputs, batch.targets)
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            found = objective.count(outputs.detach(), batch.targets)
            total, weight = total + float(value.detach()) * batch.weight, weight + batch.weight
            known, close = known + float(found[0]), close + float(found[1])
        losses.append(total / weight)
        counts.append([known / len(data), close / len(data)])
    return losses, counts


def test_the_figures_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    model = Net()
    model.drop.p = 0.0
    result = trained(tmp_path / "run", model, schedule="constant", watch=False)
    other = Net()
    other.drop.p = 0.0
    losses, counts = by_hand(other)
    for row, loss, (known, close) in zip(result.history, losses, counts, strict=True):
        assert row.train["loss"] == pytest.approx(loss, rel=1e-4)
        assert [row.train["known"], row.train["close"]] == pytest.approx([known, close])
    for name, weight in result.model.state_dict().items():
        torch.testing.assert_close(weight, other.state_dict()[name], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(result.model.get_parameter("out.weight"), Net().out.weight, rtol=1e-2), "it has learned"


@pytest.mark.parametrize("engine", ["rules", "torch"])
def test_engines_take_the_same_steps(engine: str, tmp_path: Path) -> None:
    found = trained(tmp_path / engine, engine=engine, precision="float64", watch=False)
    reference = trained(tmp_path / "torch64", engine="torch", precision="float64", watch=False)
    for name, weight in found.model.state_dict().items():
        torch.testing.assert_close(weight, reference.model.state_dict()[name], rtol=1e-10, atol=1e-12)
    assert found.history[-1].train == pytest.approx(dict(reference.history[-1].train))


def test_native_says_what_it_cannot_take(tmp_path: Path) -> None:
    if not native.available():
        pytest.skip("the native engine is not built here")
    with pytest.raises(LoweringError, match="the model takes 2 inputs, the engine one picture"):
        trained(tmp_path / "run", engine="native")
    started: list[events.Event] = []
    trained(tmp_path / "auto", engine="auto", listeners=[started.append], epochs=1)
    assert isinstance(started[0], events.RunStarted)
    assert (started[0].engine, started[0].reason) == ("torch", "the native engine has no MaskedSquares")


def test_native_trains_an_objective_that_it_does_not_have(tmp_path: Path) -> None:
    """The engine's own layers with J and ∂J/∂outputs by torch; dropout off, as the engines draw other masks."""
    if not native.available():
        pytest.skip("the native engine is not built here")
    results = []
    for engine in ("native", "torch"):
        model = AloneNet()
        model.drop.p = 0.0
        results.append(trained(tmp_path / engine, model, engine=engine, watch=False))
    for name, weight in results[0].model.state_dict().items():
        torch.testing.assert_close(weight, results[1].model.state_dict()[name], rtol=1e-4, atol=1e-5)
    assert results[0].metrics.error == pytest.approx(results[1].metrics.error, rel=1e-4)


def test_a_run_folder_of_any_task(tmp_path: Path) -> None:
    result = trained(tmp_path / "run")
    rows = history(tmp_path / "run")
    assert list(rows[0]) == [
        "epoch", "step", "learning_rate", "train_loss", "train_known", "train_close", "test_loss", "test_error",
        "measurements_per_second", "seconds",
    ]  # fmt: skip
    assert float(rows[-1]["test_error"]) == result.metrics.error == result.history[-1].test_error
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == result.metrics.to_json()
    described = json.loads((tmp_path / "run" / "config.json").read_text())
    assert described["task"] == "measuring"
    assert described["data"]["train_measurements"] == 47
    assert [each["kind"] for each in described["model"]["inputs"]] == ["pictures", "numbers"]
    assert (tmp_path / "run" / "watch" / "epoch-0003.safetensors").is_file()


def test_a_model_of_two_inputs_comes_back_from_its_file(tmp_path: Path) -> None:
    result = trained(tmp_path / "run")
    model = load(tmp_path / "run" / "model.safetensors")
    described = spec_of(model)
    assert described is not None
    assert described == spec_of(result.model)
    assert (described.task, described.answers.kind) == ("measuring", "measurements")
    test = dataset().test
    assert evaluate(model, test, task=Measuring()) == evaluate(result.model, test, task=Measuring())
    answers = predict(model, (test.pictures, test.numbers), task=Measuring())
    with torch.no_grad():
        expected = result.model.eval()(measuring.PIXELS.normalise(test.pictures), test.numbers)
    torch.testing.assert_close(torch.tensor([each.values for each in answers]), expected)


@pytest.mark.parametrize("step", [2, 3, 7])
def test_an_interrupted_run_goes_on_exactly(step: int, tmp_path: Path) -> None:
    import os
    import signal

    def interrupt(event: events.Event) -> None:
        if isinstance(event, events.BatchDone) and event.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", listeners=[interrupt])
    parts = fit(Net(), dataset(), task=Measuring(), run_dir=str(tmp_path / "parts"), resume=True)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, parts.model.state_dict()[name]), name
    for mine, its in zip(whole.history, parts.history, strict=True):
        assert (mine.train, mine.test) == (its.train, its.test)


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Their shares weigh differently: a mean of means would be wrong, and the canary shows it."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import torch; torch.set_num_threads(1)\n"
        "from convscope import fit\n"
        "from tests.tasks.measuring import Measuring, Net, dataset\n"
        "model = Net(); model.drop.p = 0.0\n"
        f"fit(model, dataset(), task=Measuring(), run_dir=sys.argv[2], watch=False, **{SETTINGS!r})\n"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    root = str(Path(__file__).parents[2])
    done = subprocess.run([*launcher, root, str(tmp_path / "two")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    model = Net()
    model.drop.p = 0.0
    alone = trained(tmp_path / "one", model, watch=False)
    together = load_file(tmp_path / "two" / "model.safetensors")
    for name, weight in alone.model.state_dict().items():
        torch.testing.assert_close(weight, together[name], rtol=1e-4, atol=1e-6)
    one, two = (history(tmp_path / each) for each in ("one", "two"))
    for mine, its in zip(one, two, strict=True):
        for name in ("train_loss", "train_known", "train_close", "test_loss", "test_error"):
            assert float(mine[name]) == pytest.approx(float(its[name]), rel=1e-4), name
    shares = [dataset().train.weight(torch.arange(start, start + 8)) for start in (0, 8)]
    assert shares[0] != shares[1], "the canary: shares of unlike weight"


class Unset(Measuring):
    Settings: ClassVar[type[Any]] = NoSettings


def test_settings_of_a_task() -> None:
    assert Measuring({"passes": 3, "blur": 1}).settings == measuring.MeasuringSettings(1, False, 3)
    with pytest.raises(UnknownNameError, match="setting of measuring: got 'bluur'.*Did you mean 'blur'"):
        Measuring({"bluur": 1})
    with pytest.raises(ArgumentError, match="blur: got 1, wanted nothing: measuring has no settings of its own"):
        Unset({"blur": 1})
    with pytest.raises(UnknownNameError, match="setting of classification: got 'blur', wanted one of width"):
        TASKS["classification"]({"blur": 1})
    for name, value in (("careful", 1), ("passes", 1.5), ("blur", "much"), ("passes", True)):
        with pytest.raises(ArgumentError, match=f"{name}: got {value!r}, wanted a value like"):
            Measuring({name: value})


def test_data_and_model_of_different_tasks_are_refused_naming_both(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="'measured', a data set of kind 'measured'.*kind labelled.*classification"):
        fit("lenet5", dataset(), run_dir=str(tmp_path / "run"))
    with pytest.raises(ArgumentError, match="'digits', a data set of kind 'labelled'.*kind measured.*measuring"):
        fit(Net(), "digits", task=Measuring(), run_dir=str(tmp_path / "run"))
    with pytest.raises(UnknownNameError, match="task: got 'clasification'.*Did you mean 'classification'"):
        fit("lenet5", "digits", task="clasification", run_dir=str(tmp_path / "run"))
    with pytest.raises(ArgumentError, match="augment: got 'flip', wanted nothing: measuring has no use for it"):
        trained(tmp_path / "run", augment="flip")


def test_figures_know_which_way_is_better() -> None:
    good, bad = measuring.MeasuringFigures(5, 0.1, 0.2), measuring.MeasuringFigures(5, 0.1, 0.3)
    assert good.better_than(bad)
    assert not bad.better_than(good)
    assert dict(good) == {"measurements": 5, "loss": 0.1, "error": 0.2}
    assert measuring.MeasuringFigures(1, float("nan"), 0.5).to_json()["loss"] is None
