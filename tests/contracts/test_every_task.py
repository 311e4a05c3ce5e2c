"""What every task must keep; a task is enrolled by ``register`` in ``convscope.tasks``.

By itself a task is tried with the smallest catalogue model that is for it, on a few examples of its kind
(``tests/data/kinds/some.py``). One that needs more says so in ``tests/tasks/<name>/example.py``, by a function
``example(folder) → Example``. The tests' own task, unlike all others, goes through the same contract.
"""

from __future__ import annotations

import copy
import csv
import dataclasses
import importlib
import importlib.util
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.data.kinds.some import KINDS
from tests.oracles import worst
from tests.tasks import measuring
from torch import Tensor, nn
from torch.utils import _pytree

from convscope import evaluate, fit, load, predict
from convscope.data import Batch, Dataset, Feed, Order
from convscope.errors import ArgumentError, UnknownNameError
from convscope.lowering.objective import Objective as LoweredObjective
from convscope.models import MODELS, create_model
from convscope.tasks.registry import TASKS
from convscope.training import Config, Result
from convscope.training.task import Objective, Prepared, Task, model_inputs


@dataclasses.dataclass(frozen=True)
class Example:
    """``inputs`` are what ``predict`` takes, ``answers`` how many it must give."""

    task: Task
    model: nn.Module
    dataset: Dataset[Any]
    inputs: Any
    answers: int


def examples_of(name: str, folder: Path) -> Example:
    if name == measuring.Measuring.name:
        measured = measuring.dataset()
        inputs = (measured.test.pictures, measured.test.numbers)
        return Example(measuring.Measuring(), measuring.Net(), measured, inputs, len(measured.test))
    if importlib.util.find_spec(f"tests.tasks.{name}.example") is not None:
        found: Example = importlib.import_module(f"tests.tasks.{name}.example").example(folder)
        return found
    task = TASKS[name]()
    models = [each for each in MODELS if MODELS[each].card.task == name]
    assert models, f"no catalogue model is for {name}: write tests/tasks/{name}/example.py"
    whole = KINDS[task.kinds[0]](folder)
    places = torch.arange(len(whole))
    data: Dataset[Any] = Dataset("few", whole.select(places[:8]), whole.select(places[8:]))
    torch.manual_seed(0)
    smallest = min(models, key=lambda each: MODELS[each].card.parameters)
    first, *_ = data.test.batch(torch.arange(len(data.test))).inputs
    return Example(task, create_model(smallest, **task.options(data)), data, first, len(data.test))


@pytest.fixture(scope="module", params=[*TASKS, measuring.Measuring.name])
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def example(name: str, tmp_path_factory: pytest.TempPathFactory) -> Example:
    return examples_of(name, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def result(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("runs") / "run"
    return train(example, folder, "torch")


def train(example: Example, folder: Path, engine: str, **options: Any) -> Result:
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 4, "device": "cpu", "precision": "float32", "seed": 3}
    model = copy.deepcopy(example.model)
    settings |= {"engine": engine, "watch": False, "run_dir": str(folder), **options}
    return fit(model, example.dataset, task=example.task, **settings)


@dataclasses.dataclass(frozen=True)
class Ready:
    """A model in float64 without chance, and what its task made of the data."""

    model: nn.Module
    prepared: Prepared
    objective: Objective

    def answer(self, batch: Batch) -> Any:
        return self.model(*model_inputs(self.prepared.inputs, batch.inputs, torch.float64))

    def batches(self, size: int) -> Iterator[Batch]:
        """Of the test examples, in their order."""
        order = Order(len(self.prepared.test), size, shuffle=False)
        for batch in Feed(self.prepared.test, order, self.prepared.test_stages):
            yield batch.map(lambda each: each.double() if each.is_floating_point() else each)


@pytest.fixture(scope="module")
def ready(example: Example) -> Ready:
    model = copy.deepcopy(example.model)
    prepared = example.task.prepare(model, example.dataset, Config())
    objective = example.task.objective(model)
    example.task.ready(model, prepared, objective, example.dataset)
    return Ready(model.double().eval(), prepared, objective)


class TestEveryTask:
    def test_its_page_is_complete(self, name: str, example: Example) -> None:
        task = type(example.task)
        assert task.name == name
        assert name not in TASKS or TASKS[name] is task
        assert (inspect.getdoc(task) or name) != inspect.getdoc(Task)
        assert example.dataset.kind in task.kinds
        assert re.fullmatch("[a-z]+", task.unit)
        assert task.noun
        assert task.history[0] == "loss"
        assert set(task.shares) <= set(task.history)
        assert set(task.uses) <= {field.name for field in dataclasses.fields(Config)}
        assert dataclasses.is_dataclass(task.Settings)
        for field in dataclasses.fields(task.Settings):
            assert field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING

    def test_wrong_settings_are_refused_by_name(self, name: str, example: Example) -> None:
        task = type(example.task)
        settings = dataclasses.fields(task.Settings)
        said = f"setting of {name}: got 'no_such'" if settings else f"no_such: got 1, wanted nothing: {name} has no"
        with pytest.raises(UnknownNameError if settings else ArgumentError, match=said):
            task({"no_such": 1})
        for field in settings:
            if isinstance(field.default, bool | int | float):
                with pytest.raises(ArgumentError, match=f"{field.name}: got 'much', wanted a value like"):
                    task({field.name: "much"})

    def test_other_data_are_refused_naming_both(self, name: str, example: Example, tmp_path: Path) -> None:
        other = next(kind for kind in ("labelled", "boxes", "sentences") if kind not in example.task.kinds)
        stranger: Dataset[Any] = Dataset("stranger", KINDS[other](tmp_path), KINDS[other](tmp_path))
        with pytest.raises(ArgumentError, match=f"'stranger', a data set of kind '{other}'.*{name}"):
            fit(copy.deepcopy(example.model), stranger, task=example.task, run_dir=str(tmp_path / "run"))
        assert not (tmp_path / "run").exists()

    def test_its_recipes_are_its_own(self, name: str, example: Example) -> None:
        for recipe in type(example.task).recipes:
            assert MODELS[recipe.model].card.task == name
            Config.of(**recipe.settings)


class TestEveryObjective:
    def test_j_is_a_mean_over_the_weight(self, ready: Ready) -> None:
        """Batches of any sizes put together give the whole: what makes several processes one."""

        def total(size: int) -> tuple[Tensor, float]:
            batches = list(ready.batches(size))
            values = [ready.objective.value(ready.answer(each), each.targets) * each.weight for each in batches]
            weight = sum(each.weight for each in batches)
            return torch.stack(values).sum() / weight, weight

        whole, weight = total(1000)
        parts, same = total(2)
        assert same == pytest.approx(weight)
        assert whole.ndim == 0
        assert torch.isfinite(whole)
        assert worst(parts.detach(), whole.detach()) < 1e-9

    def test_its_delta_is_autograds(self, ready: Ready) -> None:
        (batch,) = ready.batches(1000)
        outputs = ready.answer(batch)
        leaves, structure = _pytree.tree_flatten(outputs)
        leaves = [each.detach().requires_grad_() for each in leaves]
        value = ready.objective.value(_pytree.tree_unflatten(leaves, structure), batch.targets)
        expected = torch.autograd.grad(value, leaves, allow_unused=True)
        written = ready.objective.value_and_delta(_pytree.tree_unflatten(leaves, structure), batch.targets)
        assert any(each is not None and each.any() for each in expected)
        if written is None:
            return  # the rules engine says so
        found, deltas = written
        assert worst(torch.as_tensor(found).detach(), value.detach()) < 1e-12
        for one, other in zip(_pytree.tree_leaves(deltas), expected, strict=True):
            assert worst(one.detach(), torch.zeros_like(one) if other is None else other) < 1e-9
        assert worst(1.001 * one.detach(), torch.zeros_like(one) if other is None else other) > 1e-9

    def test_it_counts_what_it_says(self, ready: Ready) -> None:
        def counted(size: int) -> list[float]:
            sums = [
                [float(each) for each in ready.objective.count(ready.answer(batch), batch.targets)]
                for batch in ready.batches(size)
            ]
            assert all(len(each) == len(ready.objective.counts) for each in sums)
            return [sum(column) for column in zip(*sums, strict=True)]

        assert counted(2) == pytest.approx(counted(1000))
        lowered = ready.objective.lowered(ready.model.float())
        ready.model.double()
        assert lowered is None or isinstance(lowered, LoweredObjective)


class TestEveryTally:
    def tallied(self, example: Example, ready: Ready, size: int) -> Any:
        tally = example.task.tally(ready.model, ready.prepared.test, ready.objective)
        with torch.no_grad():
            for batch in ready.batches(size):
                tally.add(ready.answer(batch), batch)
        return tally.figures()

    def test_its_figures_do_not_depend_on_batches(self, example: Example, ready: Ready) -> None:
        whole, parts = (json.loads(json.dumps(self.tallied(example, ready, size).to_json())) for size in (1000, 2))
        assert whole.keys() == parts.keys()
        for figure, value in whole.items():
            assert parts[figure] == pytest.approx(value) if isinstance(value, float) else parts[figure] == value

    def test_its_figures_have_a_headline_and_words(self, example: Example, ready: Ready) -> None:
        figures = self.tallied(example, ready, 1000)
        assert figures.headline in figures
        assert figures.counted in figures
        assert set(example.task.history) <= set(figures)
        assert not figures.better_than(figures)
        assert example.task.summary(figures).count("\n") == 0
        assert example.task.summary(figures)
        assert example.task.report(figures)


class TestEveryRun:
    def test_the_file_alone_evaluates_as_the_run_did(self, example: Example, result: Result) -> None:
        model = load(Path(result.run_dir) / "model.safetensors")
        found = evaluate(model, example.dataset, task=example.task, engine="torch")
        for figure, value in result.metrics.to_json().items():
            assert found.to_json()[figure] == pytest.approx(value, rel=1e-5) if isinstance(value, float) else True
        assert json.loads((Path(result.run_dir) / "metrics.json").read_text()) == result.metrics.to_json()

    def test_its_history_has_the_columns_it_says(self, example: Example, result: Result) -> None:
        rows = list(csv.DictReader((Path(result.run_dir) / "history.csv").read_text().splitlines()))
        assert [row["epoch"] for row in rows] == ["1", "2"]
        assert set(rows[0]) >= {"epoch", "step", "learning_rate", "train_loss", f"{example.task.unit}_per_second"}
        assert set(rows[0]) >= {f"test_{figure}" for figure in example.task.history}
        for curves in example.task.curves(rows).values():
            assert all(len(series) == 2 for series in curves.values())

    def test_it_draws_itself(self, example: Example, result: Result, tmp_path: Path) -> None:
        example.task.draw(tmp_path, "title", json.loads(json.dumps(result.metrics.to_json())))
        for path in tmp_path.iterdir():  # pictures, and tables of what is drawn in them
            assert path.stat().st_size > (500 if path.suffix == ".png" else 20)

    def test_auto_trains_whatever_engine_it_takes(self, example: Example, result: Result, tmp_path: Path) -> None:
        other = train(example, tmp_path / "run", "auto")
        assert other.history[0].train["loss"] == pytest.approx(result.history[0].train["loss"], rel=0.5)

    def test_it_answers(self, example: Example, result: Result, tmp_path: Path) -> None:
        answers = predict(result.model, example.inputs, task=example.task)
        assert len(answers) == example.answers
        for each in answers:
            assert isinstance(each.source, str)
            assert each.line(3).count("\n") == 0
            assert json.loads(json.dumps(each.to_json()))
            assert all(path.is_file() for path in each.save(tmp_path))
            if example.task.answer_header != Task.answer_header:
                assert all(len(row) == len(example.task.answer_header) for row in each.rows(3))
