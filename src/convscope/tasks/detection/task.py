"""Detection: a picture in, the things that are in it out, each with its class and the box around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from convscope import spec
from convscope.data import Dataset
from convscope.data.examples import Examples
from convscope.data.kinds.boxes import Boxes
from convscope.errors import ArgumentError
from convscope.spec import Preprocessing
from convscope.tasks.detection import preparing, report
from convscope.tasks.detection.metrics import DetectionFigures, Tally
from convscope.tasks.detection.objective import DetectionObjective
from convscope.tasks.detection.predict import Detection, predict
from convscope.tasks.detection.proposed import Proposed
from convscope.tasks.detection.recipes import RECIPES
from convscope.tasks.detection.settings import DetectionSettings, of_model
from convscope.tasks.registry import register
from convscope.training.config import Config
from convscope.training.figures import Figures
from convscope.training.task import Examined, Objective, Prepared, Task


@register
class DetectionTask(Task):
    """The things in a picture, each with its class and a box around it."""

    name = "detection"
    kinds = ("boxes",)
    unit = "images"
    noun = "pictures"
    history = ("loss", "mean_ap")
    shares = ("mean_ap",)
    uses = frozenset({"augment"})
    most_at_a_time = 8  # pictures come in their own size: eight of 8,000×6,000 pixels are 1.2 GB
    answer_header = ("picture", "class", "score", "x1", "y1", "x2", "y2")
    Settings = DetectionSettings
    recipes = RECIPES

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        self.settings.check()
        self._named = frozenset(settings or {})

    def options(self, dataset: Dataset[Any]) -> dict[str, Any]:
        return {"classes": len(dataset.classes), "in_channels": dataset.train.channels}

    def prepare(self, model: nn.Module, dataset: Dataset[Any], config: Config) -> Prepared:
        return preparing.prepare_data(model, dataset, config, self.settings_for(model))

    def ready(self, model: nn.Module, prepared: Prepared, objective: Objective, dataset: Dataset[Any]) -> None:
        preparing.try_out(model, prepared, dataset)

    def objective(self, model: nn.Module, loss: Any = None) -> DetectionObjective:
        if loss is not None:
            raise ArgumentError("loss", loss, "nothing: a detector has the losses of class and place")
        return DetectionObjective(model)

    def tally(self, model: nn.Module, examples: Examples, objective: Objective) -> Tally:
        assert isinstance(examples, Boxes | Proposed)
        assert isinstance(objective, DetectionObjective)
        return Tally(objective, examples.classes, self.settings_for(model))

    def settings_for(self, model: nn.Module) -> DetectionSettings:
        """This task's settings, but for what was not named what a trained model carries."""
        described = spec.spec_of(model)
        trained = described is not None and described.task == self.name and described.classes
        more = described.answers.more if described is not None and trained else {}
        return of_model(more, self.settings, self._named)

    def examine(
        self,
        model: nn.Module,
        examples: Examples,
        dataset: Dataset[Any] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> Examined:
        return preparing.examine(model, examples, preprocessing, self.settings_for(model))

    def predict(
        self,
        model: nn.Module,
        inputs: Any,
        batch_size: int = 64,
        preprocessing: Preprocessing | None = None,
        engine: str = "auto",
        told: Callable[[Any], object] = lambda inference: None,
    ) -> Iterator[Detection]:
        return predict(model, inputs, self.settings_for(model), batch_size, preprocessing, engine, told)

    def summary(self, figures: Figures) -> str:
        assert isinstance(figures, DetectionFigures)
        return report.summary(figures)

    def report(self, figures: Figures) -> str:
        assert isinstance(figures, DetectionFigures)
        return report.report(figures)

    def draw(self, folder: Path, title: str, figures: Mapping[str, Any]) -> None:
        report.draw(folder, title, figures)
