"""What a task must say so that the one loop can train it: the loop knows a batch, a step and events, and the task knows
the rest."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from convscope.data import Dataset
from convscope.data.examples import Batch, Examples
from convscope.data.feed import FixedStage, Stage
from convscope.errors import ArgumentError, UnknownNameError
from convscope.lowering.objective import Objective as LoweredObjective
from convscope.spec import Input, Preprocessing
from convscope.training.config import Config
from convscope.training.figures import Figures
from convscope.training.recipes import Recipe

Scalar = Tensor | float
AnyStage = Stage | FixedStage


class Objective(ABC):
    """What is minimised, J, and what is counted beside it.

    J is a mean over a batch's ``weight`` (its examples, tokens, RoIs), so that batches of several processes can be put
    together. ``counts`` names what ``count`` adds up, sums over the batch.
    """

    counts: tuple[str, ...] = ()

    @abstractmethod
    def value(self, outputs: Any, targets: Any) -> Tensor:
        """J as a scalar tensor, made of torch operations, for autograd."""

    def value_and_delta(self, outputs: Any, targets: Any) -> tuple[Tensor, Any] | None:
        """(J, ∂J/∂outputs in the outputs' own structure), written out without autograd; None where that is not written
        out, and the rules engine then says so."""
        return None

    def count(self, outputs: Any, targets: Any) -> Sequence[Scalar]:
        """One sum for each of ``counts``; on a GPU tensors, so that nothing waits."""
        return ()

    def lowered(self, model: nn.Module) -> LoweredObjective | None:
        """The objective as the native engine has it. None: it does not, and ``engine="auto"`` takes torch."""
        return None


class Tally(Protocol):
    """Adds up what a model answers batch by batch, and reads it out as figures at the end."""

    def add(self, outputs: Any, batch: Batch) -> None: ...

    def figures(self) -> Figures:
        """ArgumentError when nothing was added."""
        ...


class Answer(Protocol):
    """One answer of ``predict``. ``source`` names the file, or the place in what was given."""

    @property
    def source(self) -> str: ...

    def line(self, most: int) -> str:
        """In words, on one line; ``most``: how many alternatives."""
        ...

    def to_json(self) -> dict[str, Any]: ...

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        """As rows of the table whose header the task gives (``Task.answer_header``)."""
        ...

    def save(self, folder: Path) -> list[Path]:
        """Write what a person would rather look at; the files written, none where there is nothing to see."""
        ...


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set ready for a model: examples, what is done to their batches (``stages`` while training, ``test_stages``
    while evaluating), and how a batch's inputs become the model's (one ``Input`` each). ``tokens``: batches are not of
    ``batch_size`` examples but of as many of similar length as have so many tokens together, padding counted."""

    train: Examples
    test: Examples
    stages: tuple[AnyStage, ...]
    test_stages: tuple[AnyStage, ...]
    inputs: tuple[Input, ...]
    tokens: int | None = None

    def batch_size(self, config: Config) -> int | None:
        """Of training, in examples; None where it is measured in tokens."""
        return config.batch_size if self.tokens is None else None


@dataclasses.dataclass(frozen=True)
class Examined:
    """Examples ready to be evaluated; the fields are those of ``Prepared``."""

    examples: Examples
    stages: tuple[AnyStage, ...]
    inputs: tuple[Input, ...]


@dataclasses.dataclass(frozen=True)
class NoSettings:
    """The page of settings of a task that has none."""


class Task(ABC):
    """A kind of job. ``settings`` are KEY=VALUE of the task's own page, the dataclass ``Settings``.

    ``name`` is the task's, ``kinds`` are the kinds of data sets it takes. ``unit`` counts its examples in tables
    ("images" gives the column images_per_second), ``noun`` in sentences. ``history`` names the figures of ``Figures``
    that go into the history beside the training ones; ``shares`` those that are read as per cent. ``recipes`` are
    settings that were measured. ``uses`` names the
    settings of ``Config`` that not every task has a meaning for and this one does. ``most_at_a_time``: no more examples
    are evaluated together, whatever was asked for, since their answers would not fit into memory.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    unit: ClassVar[str] = "examples"
    noun: ClassVar[str] = "examples"
    history: ClassVar[tuple[str, ...]] = ("loss",)
    shares: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[frozenset[str]] = frozenset()
    most_at_a_time: ClassVar[int] = 256
    answer_header: ClassVar[tuple[str, ...]] = ("source", "answer")
    Settings: ClassVar[type[Any]] = NoSettings
    recipes: ClassVar[tuple[Recipe, ...]] = ()

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.settings: Any = checked_settings(self.name, self.Settings, settings or {})

    # ── training ──

    @abstractmethod
    def options(self, dataset: Dataset[Any]) -> dict[str, Any]:
        """What a catalogue model's builder must be told to fit the data set: classes, channels, vocabulary size."""

    @abstractmethod
    def prepare(self, model: nn.Module, dataset: Dataset[Any], config: Config) -> Prepared:
        """Make the data fit the model, and attach what was decided to the model's description.

        Raises ArgumentError when they cannot go together.
        """

    @abstractmethod
    def ready(self, model: nn.Module, prepared: Prepared, objective: Objective, dataset: Dataset[Any]) -> None:
        """Try model and objective on two examples, before anything is written; ArgumentError where they do not fit."""

    @abstractmethod
    def objective(self, model: nn.Module, loss: Any = None) -> Objective:
        """What is minimised; ``loss`` as the user named it, None: the task's or the architecture's own."""

    @abstractmethod
    def tally(self, model: nn.Module, examples: Examples, objective: Objective) -> Tally:
        """A fresh tally for these examples."""

    def training_figures(
        self, loss: float, weight: float, examples: int, counts: Mapping[str, float]
    ) -> dict[str, float]:
        """The figures of a stretch of training from its sums: the mean loss first, then each count an example."""
        found = {"loss": loss / weight if weight else 0.0}
        return found | {name: value / max(examples, 1) for name, value in counts.items()}

    def curves(self, history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
        """The panels of curves.png by name, each with its series by name, one value an epoch (nan: not measured)."""
        return figure_panels(history, self.shares)

    # ── using a trained model ──

    @abstractmethod
    def examine(
        self,
        model: nn.Module,
        examples: Examples,
        dataset: Dataset[Any] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> Examined:
        """Make examples fit a trained model, for evaluation. Raises ArgumentError when they cannot."""

    @abstractmethod
    def predict(
        self,
        model: nn.Module,
        inputs: Any,
        batch_size: int = 64,
        preprocessing: Preprocessing | None = None,
        engine: str = "auto",
        told: Callable[[Any], object] = lambda inference: None,
    ) -> Iterator[Answer]:
        """The model's answers to whatever of its kind a user has (files, arrays, sentences), one by one."""

    # ── for people ──

    @abstractmethod
    def summary(self, figures: Figures) -> str:
        """The figures in one line, what matters most first."""

    @abstractmethod
    def report(self, figures: Figures) -> str:
        """The figures as a page of text."""

    def draw(self, folder: Path, title: str, figures: Mapping[str, Any]) -> None:  # noqa: B027 (many have none)
        """Draw the task's own pictures of a finished run into its folder; ``figures`` as metrics.json holds them."""


def checked_settings(task: str, page: type[Any], given: Mapping[str, Any]) -> Any:
    """The page filled in; UnknownNameError with the nearest name for a key it does not have, ArgumentError for a value
    of another type."""
    fields = {field.name: field for field in dataclasses.fields(page)}
    for name, value in given.items():
        if not fields:
            raise ArgumentError(name, value, f"nothing: {task} has no settings of its own")
        if name not in fields:
            raise UnknownNameError(f"setting of {task}", name, fields)
    filled = page(**given)
    for name in given:
        usual, value = fields[name].default, getattr(filled, name)
        if isinstance(usual, bool | int | float | str) and not _of_kind(value, usual):
            raise ArgumentError(name, value, f"a value like {usual!r}")
    return filled


def _of_kind(value: Any, usual: Any) -> bool:
    if isinstance(usual, bool):
        return isinstance(value, bool)
    if isinstance(usual, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, type(usual)) and not (isinstance(value, bool) and not isinstance(usual, bool))


def figure_panels(history: Sequence[Mapping[str, Any]], shares: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """One panel for each figure that the rows have as train_… or test_…; shares in per cent."""
    names = list(
        dict.fromkeys(key.partition("_")[2] for row in history for key in row if key.startswith(("train_", "test_")))
    )
    panels: dict[str, dict[str, list[float]]] = {}
    for name in names:
        factor = 100.0 if name in shares else 1.0
        series = {
            label: [float("nan") if row.get(key) in (None, "") else factor * float(row[key]) for row in history]
            for label, key in (("training", f"train_{name}"), ("test", f"test_{name}"))
            if any(row.get(key) not in (None, "") for row in history)
        }
        panels["loss J" if name == "loss" else f"{name} in %" if name in shares else name] = series
    return panels


def model_inputs(inputs: Sequence[Input], given: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """A batch's inputs as the model takes them; inputs that the description does not know stay, floats cast."""
    known = [*inputs, *[Input("numbers")] * (len(given) - len(inputs))]
    return tuple(each.ready(x, dtype) for each, x in zip(known, given, strict=True))
