"""Classification: one picture in, one of several classes out."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from convscope.data import Dataset, Labelled, LabelledOnDisk
from convscope.data.examples import Examples
from convscope.errors import LoweringError
from convscope.layers import Loss, loss_for
from convscope.lowering.objective import Objective as LoweredObjective
from convscope.lowering.objective import objective as lowered_objective
from convscope.models.catalog import default_loss
from convscope.spec import Preprocessing
from convscope.tasks.classification import preparing, report
from convscope.tasks.classification.metrics import Metrics, Tally
from convscope.tasks.classification.predict import Prediction, predict
from convscope.tasks.classification.recipes import RECIPES
from convscope.tasks.registry import register
from convscope.training.config import Config
from convscope.training.figures import Figures
from convscope.training.task import Examined, Objective, Prepared, Scalar, Task


class ClassificationObjective(Objective):
    """A loss of class scores and class numbers, and how many answers were right."""

    counts = ("correct",)

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def value(self, outputs: Any, targets: Tensor) -> Tensor:
        return self.loss.value(outputs, targets)

    def value_and_delta(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Any]:
        return self.loss.value_and_delta(outputs, targets)

    def scores(self, outputs: Any) -> Tensor:
        """(n, classes); the largest is the predicted class."""
        return self.loss.predictions(outputs)

    def count(self, outputs: Any, targets: Tensor) -> Sequence[Scalar]:
        predicted = self.scores(outputs).detach().argmax(1)
        if predicted.device.type == "cpu":
            # In a training step, whose caches hold other things, lists take 50 µs, one more tensor operation 20 more,
            # numpy 115; of a LeNet-5 step's 7,500.
            return (sum(map(operator.eq, predicted.tolist(), targets.tolist())),)
        return ((predicted == targets).sum(),)

    def lowered(self, model: nn.Module) -> LoweredObjective | None:
        try:
            return lowered_objective(self.loss, model)
        except LoweringError:
            return None


@register
class Classification(Task):
    """Which of several classes a picture shows."""

    name = "classification"
    kinds = ("labelled",)
    unit = "images"
    noun = "pictures"
    history = ("loss", "accuracy")
    shares = ("accuracy",)
    uses = frozenset({"loss", "augment", "fit"})
    answer_header = ("picture", "rank", "class", "probability")
    Settings = preparing.ClassificationSettings
    recipes = RECIPES

    def options(self, dataset: Dataset[Any]) -> dict[str, Any]:
        return {"classes": len(dataset.classes), "in_channels": dataset.shape[0]}

    def prepare(self, model: nn.Module, dataset: Dataset[Any], config: Config) -> Prepared:
        return preparing.prepare_data(model, dataset, config, self.settings)

    def ready(self, model: nn.Module, prepared: Prepared, objective: Objective, dataset: Dataset[Any]) -> None:
        preparing.try_out(model, prepared, objective, dataset)

    def objective(self, model: nn.Module, loss: Any = None) -> Objective:
        found = loss if isinstance(loss, Loss) else loss_for(loss or default_loss(model), model)
        return ClassificationObjective(found)

    def tally(self, model: nn.Module, examples: Examples, objective: Objective) -> Tally:
        assert isinstance(objective, ClassificationObjective)
        assert isinstance(examples, Labelled | LabelledOnDisk)
        return Tally(objective.loss, examples.classes)

    def training_figures(
        self, loss: float, weight: float, examples: int, counts: Mapping[str, float]
    ) -> dict[str, float]:
        done = max(examples, 1)
        return {"loss": loss / done, "accuracy": counts.get("correct", 0.0) / done}

    def curves(self, history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
        panels = super().curves(history)
        accuracy = panels.pop("accuracy in %", {})
        return {**panels, "error in %": {name: [100 - value for value in values] for name, values in accuracy.items()}}

    def examine(
        self,
        model: nn.Module,
        examples: Examples,
        dataset: Dataset[Any] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> Examined:
        return preparing.examine(model, examples, dataset, preprocessing)

    def predict(
        self,
        model: nn.Module,
        inputs: Any,
        batch_size: int = 64,
        preprocessing: Preprocessing | None = None,
        engine: str = "auto",
        told: Callable[[Any], object] = lambda inference: None,
    ) -> Iterator[Prediction]:
        return predict(model, inputs, batch_size, preprocessing, engine, told)

    def summary(self, figures: Figures) -> str:
        assert isinstance(figures, Metrics)
        return report.summary(figures)

    def report(self, figures: Figures) -> str:
        assert isinstance(figures, Metrics)
        return report.report(figures)

    def draw(self, folder: Path, title: str, figures: Mapping[str, Any]) -> None:
        report.draw_confusion(folder / "confusion.png", title, figures["confusion"], figures["classes"])
