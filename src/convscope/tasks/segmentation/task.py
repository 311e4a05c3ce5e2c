"""Semantic segmentation: one picture in, a class for each of its pixels out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from convscope import spec
from convscope.data import Dataset, Maps
from convscope.data.examples import Examples
from convscope.data.kinds.maps import IGNORED
from convscope.errors import ArgumentError, UnknownNameError
from convscope.layers import PixelCrossEntropy
from convscope.spec import Preprocessing
from convscope.tasks.registry import register
from convscope.tasks.segmentation import preparing, report
from convscope.tasks.segmentation.metrics import SegmentationFigures, Tally, answers
from convscope.tasks.segmentation.predict import Segmentation, predict
from convscope.tasks.segmentation.recipes import RECIPES
from convscope.training.config import Config
from convscope.training.figures import Figures
from convscope.training.task import Examined, Objective, Prepared, Scalar, Task


@dataclasses.dataclass(frozen=True)
class SegmentationSettings:
    """``balance``: what pixels of rare classes count more by: "none", "median" or "frequency" (see
    ``preparing.class_weights``)."""

    balance: str = "none"


class SegmentationObjective(Objective):
    """Cross-entropy of every pixel that has a class; how many there are and how many are answered right.

    The classes' weights are those of the model's description, where it has any.
    """

    counts = ("right_pixels", "pixels")

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def loss(self) -> PixelCrossEntropy:
        described = spec.spec_of(self.model)
        weights = None if described is None else described.answers.more.get("weights")
        return PixelCrossEntropy(IGNORED, None if weights is None else tuple(weights))

    def value(self, outputs: Any, targets: Tensor) -> Tensor:
        return self.loss.value(outputs, targets)

    def value_and_delta(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Any]:
        return self.loss.value_and_delta(outputs, targets)

    def count(self, outputs: Any, targets: Tensor) -> Sequence[Scalar]:
        return (answers(outputs) == targets).sum(), (targets != IGNORED).sum()


@register
class SegmentationTask(Task):
    """A class for every pixel of a picture."""

    name = "segmentation"
    kinds = ("maps",)
    unit = "images"
    noun = "pictures"
    history = ("loss", "mean_iou", "pixel_accuracy")
    shares = ("mean_iou", "pixel_accuracy")
    uses = frozenset({"augment"})
    most_at_a_time = (
        16  # scores of 11 classes for so many pictures of 480×360 are 120 MB, the maps before ten times that
    )
    answer_header = ("picture", "class", "pixels", "share")
    Settings = SegmentationSettings
    recipes = RECIPES

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        if self.settings.balance not in preparing.BALANCES:
            raise UnknownNameError("balance", self.settings.balance, preparing.BALANCES)

    def options(self, dataset: Dataset[Any]) -> dict[str, Any]:
        return {"classes": len(dataset.classes), "in_channels": dataset.train.channels}

    def prepare(self, model: nn.Module, dataset: Dataset[Any], config: Config) -> Prepared:
        return preparing.prepare_data(model, dataset, config, self.settings.balance)

    def ready(self, model: nn.Module, prepared: Prepared, objective: Objective, dataset: Dataset[Any]) -> None:
        preparing.try_out(model, prepared, dataset)

    def objective(self, model: nn.Module, loss: Any = None) -> Objective:
        if loss is not None:
            raise ArgumentError("loss", loss, "nothing: segmentation has the cross-entropy of every pixel")
        return SegmentationObjective(model)

    def tally(self, model: nn.Module, examples: Examples, objective: Objective) -> Tally:
        assert isinstance(examples, Maps)
        return Tally(objective, examples.classes)

    def training_figures(
        self, loss: float, weight: float, examples: int, counts: Mapping[str, float]
    ) -> dict[str, float]:
        pixels = counts.get("pixels", 0.0)
        accuracy = counts.get("right_pixels", 0.0) / pixels if pixels else 0.0
        return {"loss": loss / weight if weight else 0.0, "pixel_accuracy": accuracy}

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
    ) -> Iterator[Segmentation]:
        return predict(model, inputs, batch_size, preprocessing, engine, told)

    def summary(self, figures: Figures) -> str:
        assert isinstance(figures, SegmentationFigures)
        return report.summary(figures)

    def report(self, figures: Figures) -> str:
        assert isinstance(figures, SegmentationFigures)
        return report.report(figures)

    def draw(self, folder: Path, title: str, figures: Mapping[str, Any]) -> None:
        report.draw(folder, title, figures)
