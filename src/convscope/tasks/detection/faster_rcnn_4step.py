"""Faster R-CNN in four steps: its two halves trained in turn, until they share one body.

Ren, He, Girshick, Sun: Faster R-CNN, NIPS 2015, section 3.2: (1) a network that proposes regions; (2) Fast R-CNN by
itself on these regions; (3) a proposing network on the body of that, which is held; (4) on the same body, still held,
the layers that classify regions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convscope.columns import share
from convscope.data import Dataset
from convscope.data.feed import Feed
from convscope.data.kinds.boxes import Boxes
from convscope.data.order import Order
from convscope.data.ragged import Ragged
from convscope.errors import ArgumentError
from convscope.graph.training_modes import looking
from convscope.models.faster_rcnn import FasterRCNN
from convscope.models.modelfile import save
from convscope.spec import attach, spec_of
from convscope.tasks.detection import report
from convscope.tasks.detection.proposed import Proposed
from convscope.tasks.detection.recipes import RECIPES
from convscope.tasks.detection.task import DetectionTask
from convscope.tasks.jobs import Asked, Finished, Outcomes, TrainingJob, register
from convscope.tasks.run_pictures import RunPictures
from convscope.tasks.stages import Stage, training
from convscope.tasks.stages.folder import MODEL
from convscope.tasks.stages.stage import Here
from convscope.training.config import Config
from convscope.training.preparing import build_model
from convscope.training.task import model_inputs

_TOGETHER = 8
_ONCE: dict[str, Any] = {"evaluate_every": 100_000, "watch": False}  # a half by itself finds nothing
_ANCHORS = ("anchor_sizes", "anchor_ratios", "proposals")  # options that Fast R-CNN does not have


@dataclasses.dataclass(frozen=True)
class Step:
    """One of the four: what is trained, and which steps before it give the regions and the weights it begins with."""

    name: str
    model: str
    options: Mapping[str, Any]
    regions: int | None = None
    weights: int | None = None


STEPS = (
    Step("1-proposals", "faster_rcnn", {"learned": "proposals", "freeze": ["roi_heads"]}),
    Step("2-regions", "fast_rcnn", {}, regions=0),
    Step("3-proposals", "faster_rcnn", {"learned": "proposals", "freeze": ["backbone", "roi_heads"]}, weights=1),
    Step("4-regions", "faster_rcnn", {"learned": "regions", "freeze": ["backbone", "rpn"]}, weights=2),
)


@torch.inference_mode()
def regions_of(model: FasterRCNN, examples: Boxes) -> list[Tensor]:
    """float32 (k, 4) for each picture, best first, in its own pixels: what the network proposes."""
    examined = DetectionTask().examine(model, examples)
    rows: list[Tensor] = []
    with looking(model):
        order = Order(len(examples), _TOGETHER, shuffle=False)
        for batch in Feed(examined.examples, order, examined.stages):
            pictures, sizes = model_inputs(examined.inputs, batch.inputs, torch.float32)
            *_, rois = model.rpn(model.backbone(pictures), sizes)
            for place, size in enumerate(sizes):
                own = examples.pictures.sizes[len(rows)]
                factors = (own / size).flip(0).repeat(2).to(rois)
                rows.append(rois[rois[:, 0] == place, 1:] * factors)
    return rows


def with_regions_of(model: FasterRCNN, data: Dataset[Boxes]) -> Dataset[Any]:
    """The data set with these regions beside its pictures."""
    train, test = (
        Proposed(each, Ragged.of(regions_of(model, each), torch.float32)) for each in (data.train, data.test)
    )
    return Dataset(data.name, train, test)


def four_steps(
    data: Callable[[], Dataset[Any]],
    said: Mapping[str, Any],
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    name: str,
    **more: Any,
) -> list[Stage]:
    """The four trainings, ``name``/1-proposals and so on, and ``name``/whole, which puts the whole network together.

    ``options`` are those of ``faster_rcnn`` but for what the data set decides, ``settings`` those of each training,
    ``said`` names the data in words; ``more`` goes to every training as it is.
    """
    names = [f"{name}/{step.name}" for step in STEPS]
    found: list[Stage] = []
    for place, step in enumerate(STEPS):
        known = options if step.model == "faster_rcnn" else {k: options[k] for k in options if k not in _ANCHORS}
        own = {**known, **step.options}
        regions, weights = (None if each is None else names[each] for each in (step.regions, step.weights))
        described = {"data": {**said, "regions": regions}, "model_options": {**own, "weights": weights}}
        found.append(
            training(
                names[place], step.model, functools.partial(_data, data, regions),
                model_options=functools.partial(_options, data, own, weights), described=described,
                after=[each for each in (regions, weights) if each is not None],
                **{**settings, **({} if place == len(STEPS) - 1 else _ONCE)}, **more,
            )
        )  # fmt: skip
    whole = Stage(f"{name}/whole", functools.partial(_whole, names[-1]), {}, [names[-1]], more.get("threads"))
    return [*found, whole]


def _options(
    data: Callable[[], Dataset[Any]], options: Mapping[str, Any], weights: str | None, earlier: Outcomes
) -> dict[str, Any]:
    found = {**DetectionTask().options(data()), **options}
    return found if weights is None else {**found, "weights": str(earlier[weights].weights)}


def _data(data: Callable[[], Dataset[Any]], regions: str | None, earlier: Outcomes) -> Dataset[Any]:
    if regions is None:
        return data()
    model = earlier[regions].model()
    assert isinstance(model, FasterRCNN)
    return with_regions_of(model, data())


def _whole(last: str, here: Here) -> None:
    """The network of the last step as one that learns jointly, saved."""
    trained = here.earlier[last].model()
    described = spec_of(trained)
    assert described is not None
    options = {name: value for name, value in described.options.items() if name != "learned"}
    whole = build_model("faster_rcnn", options, Config())
    whole.load_state_dict(trained.state_dict())
    save(attach(whole, described.replace(options=options)), here.folder / MODEL, metrics=here.earlier[last].metrics)


@dataclasses.dataclass(frozen=True)
class FourStepSettings:
    epochs: int = 0  # of each step; 0: as the recipe for Faster R-CNN has it
    shorter: int = 0  # pixels of the pictures' shorter side; 0: as the recipe has it
    longest: int = 0  # … and at most of the longer one
    anchor_sizes: str = ""  # pixels, for example 20,48,96; "": as the recipe has it
    small: bool = True  # the network for a computer without a GPU
    pictures: bool = True  # curves of every step


@register
class FourSteps(TrainingJob):
    """Faster R-CNN's alternating training; each step a stage."""

    name = "faster_rcnn_4step"
    Settings = FourStepSettings

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        for name in ("epochs", "shorter", "longest"):
            if getattr(self.settings, name) < 0:
                raise ArgumentError(name, getattr(self.settings, name), "a number ≥ 0; 0 is the recipe's")
        recipes = {each.data: each for each in RECIPES if each.model == "faster_rcnn"}
        self.recipe = recipes.get(asked.data, recipes["*"])
        self.options = {**self.recipe.options, "small": self.settings.small}
        if self.settings.anchor_sizes:
            try:
                self.options["anchor_sizes"] = [float(each) for each in self.settings.anchor_sizes.split(",")]
            except ValueError:
                wanted = "numbers of pixels separated by commas, for example 20,48,96"
                raise ArgumentError("anchor_sizes", self.settings.anchor_sizes, wanted) from None

    def stages(self) -> list[Stage]:
        named = {name: getattr(self.settings, name) for name in ("shorter", "longest")}
        page = {**self.recipe.settings["settings"], **{name: value for name, value in named.items() if value}}
        epochs = {"epochs": self.settings.epochs} if self.settings.epochs else {}
        said = {"name": self.asked.data, "options": dict(self.asked.data_options)}
        settings = {**self.recipe.settings, **epochs, **self.asked.changes, "settings": page}
        settings |= {"seed": self.asked.seed, "engine": self.asked.engine}
        listeners = [RunPictures()] if self.settings.pictures else []
        return four_steps(
            self.asked.dataset, said, self.options, settings, "steps",
            threads=self.asked.threads, listeners=listeners,
        )  # fmt: skip

    def finish(self, folder: Path, outcomes: Outcomes) -> Finished:
        metrics = outcomes["steps/" + STEPS[-1].name].metrics
        data = {"source": self.asked.data, "name": self.asked.data}
        path = save(outcomes["steps/whole"].model(), folder / MODEL, metrics=metrics, data=data)
        line = f"mAP@0.5 {share(metrics['mean_ap'])} (11-point {share(metrics['mean_ap_11point'])})"
        if self.settings.pictures:
            report.draw(folder, self.name, metrics)
        return Finished(path, metrics, [line, f"model {path}"])
