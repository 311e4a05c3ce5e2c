"""The task of reading lines of text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from convscope import spec
from convscope.data import Dataset
from convscope.data.examples import Examples
from convscope.data.kinds.lines import Lines
from convscope.errors import ArgumentError
from convscope.spec import Preprocessing
from convscope.tasks.lines import preparing
from convscope.tasks.lines.metrics import LineFigures, LineTally
from convscope.tasks.lines.objective import LineObjective
from convscope.tasks.lines.predict import LinePrediction, predict
from convscope.tasks.lines.recipes import RECIPES
from convscope.tasks.registry import register
from convscope.training.config import Config
from convscope.training.figures import Figures
from convscope.training.task import Examined, Objective, Prepared, Task


@dataclasses.dataclass(frozen=True)
class LineSettings:
    beam: int = 1  # beginnings kept while reading; 1: the likeliest path alone


@register
class LineReading(Task):
    """What a picture of a line of text says."""

    name = "lines"
    kinds = ("lines",)
    unit = "lines"
    noun = "lines"
    history = ("loss", "line_error", "character_error")
    shares = ("line_error", "character_error")
    answer_header = ("picture", "text", "probability")
    Settings = LineSettings
    recipes = RECIPES

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        if self.settings.beam < 1:
            raise ArgumentError("beam", self.settings.beam, "a number of beginnings ≥ 1")

    def options(self, dataset: Dataset[Any]) -> dict[str, Any]:
        return {"classes": len(dataset.train.alphabet) + 1, "in_channels": 1}

    def prepare(self, model: nn.Module, dataset: Dataset[Any], config: Config) -> Prepared:
        return preparing.prepare_data(model, dataset, self.settings.beam)

    def ready(self, model: nn.Module, prepared: Prepared, objective: Objective, dataset: Dataset[Any]) -> None:
        preparing.try_out(model, prepared, dataset)

    def objective(self, model: nn.Module, loss: Any = None) -> LineObjective:
        if loss not in (None, "ctc"):
            raise ArgumentError("loss", loss, "none: lines are learned by CTC")
        return LineObjective(self.settings.beam)

    def tally(self, model: nn.Module, examples: Examples, objective: Objective) -> LineTally:
        assert isinstance(objective, LineObjective)
        return LineTally(objective)

    def training_figures(
        self, loss: float, weight: float, examples: int, counts: Mapping[str, float]
    ) -> dict[str, float]:
        done = max(examples, 1)
        return {"loss": loss / done, "line_error": 1 - counts.get("right", 0.0) / done}

    def examine(
        self,
        model: nn.Module,
        examples: Examples,
        dataset: Dataset[Any] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> Examined:
        described = spec.spec_of(model)
        if described is None or not described.classes:
            raise ArgumentError("model", type(model).__name__, "a model that was trained on lines, with its alphabet")
        assert isinstance(examples, Lines)
        return Examined(preparing.fitted(examples, described.classes), (), described.inputs)

    def predict(
        self,
        model: nn.Module,
        inputs: Any,
        batch_size: int = 64,
        preprocessing: Preprocessing | None = None,
        engine: str = "auto",
        told: Callable[[Any], object] = lambda inference: None,
    ) -> Iterator[LinePrediction]:
        return predict(model, inputs, batch_size, engine, told, self.settings.beam if self.settings.beam > 1 else None)

    def summary(self, figures: Figures) -> str:
        assert isinstance(figures, LineFigures)
        wrong = round(figures.line_error * figures.lines)
        lines = f"line error {figures.line_error:.2%} ({wrong:,} of {figures.lines:,})"
        return f"{lines}, character error {figures.character_error:.2%}, loss {figures.loss:.4f}"

    def report(self, figures: Figures) -> str:
        assert isinstance(figures, LineFigures)
        rows = [
            self.summary(figures),
            f"characters  {figures.characters:,}",
            f"lines too narrow for their text  {figures.impossible:,}",
        ]
        return "\n".join(rows)
