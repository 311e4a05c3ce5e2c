"""ReLU against saturating units: Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural
Networks (2012), figure 1, and the comparison on MNIST of Xue (2016)."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import struct
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from convscope import spec
from convscope.data import Dataset
from convscope.errors import CheckpointError
from convscope.experiments.base import Outcomes, Report, Row, Setting, data_set, register, settings, trained
from convscope.experiments.pictures import lines
from convscope.layers import initialise
from convscope.models import create_model
from convscope.tasks import RunPictures
from convscope.tasks.recipes import recipe_for
from convscope.tasks.stages import Here, Stage
from convscope.training.events import BatchDone, Event, RunStarted

LEVEL = 0.25  # the training error at which the paper compares
WINDOW = 391  # descent steps over which the training error is averaged: one epoch of 50,000 pictures in batches of 128

# As in the paper: plain descent with momentum, no regularisation, a constant rate chosen for each unit by itself so
# that it is fastest (the rates tried are in docs/results.md). A run ends at the level, or after these epochs.
_COMMON: dict[str, Any] = {
    "optimiser": "sgd", "momentum": 0.9, "batch_size": 128, "schedule": "constant", "watch": False,
}  # fmt: skip
_CIFAR10: dict[str, dict[str, Any]] = {
    "relu": {"learning_rate": 0.001, "epochs": 15},
    "tanh": {"learning_rate": 0.01, "epochs": 40},
    "sigmoid": {"learning_rate": 0.01, "epochs": 8},
}
_DEVIATION = 0.01  # of the weights drawn
# The biases that begin at 1 with ReLU, to have positive inputs at the start; all others begin at 0.
_BIASES_OF_ONE = ("conv2",)
_COUNTS = struct.Struct("<4d")  # step, batch, right answers and pictures of the epoch so far


class _Reached(Exception):  # noqa: N818 - no error: the run has shown what it should
    """Ends a run at the level."""


@dataclasses.dataclass
class _ErrorCurve:
    """Listens to a run: the training error of the last ``WINDOW`` steps, one point every twentieth of it.

    The counts of every step are also added to the file ``log``, from which a run that is gone on with takes those up to
    its checkpoint. Raises _Reached at the step that reaches the level.
    """

    log: Path | None = None
    steps: list[float] = dataclasses.field(default_factory=list)
    errors: list[float] = dataclasses.field(default_factory=list)
    reached: int | None = None
    _batches: collections.deque[tuple[float, float]] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=WINDOW)
    )
    _correct: float = 0.0
    _images: float = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted) and self.log is not None:
            for counts in self._kept(self.log, event.resumed_at):
                self._add(*counts)
        elif isinstance(event, BatchDone):
            counts = (event.step, event.batch, event.figures["accuracy"] * event.examples, event.examples)
            if self.log is not None:
                with self.log.open("ab") as file:
                    file.write(_COUNTS.pack(*counts))
            self._add(*counts)

    def _add(self, step: float, batch: float, correct: float, images: float) -> None:
        """The counts after a step: right answers and pictures of the epoch so far."""
        if batch == 1:
            self._correct, self._images = 0.0, 0.0
        self._batches.append((correct - self._correct, images - self._images))
        self._correct, self._images = correct, images
        error = 1 - sum(hits for hits, _ in self._batches) / sum(count for _, count in self._batches)
        if step % (WINDOW // 20) == 0:
            self.steps.append(int(step))
            self.errors.append(error)
        if self.reached is None and len(self._batches) == WINDOW and error <= LEVEL:
            self.reached = int(step)
            raise _Reached

    def _kept(self, log: Path, steps: int) -> list[tuple[float, float, float, float]]:
        """The counts of the first ``steps`` steps; those after the checkpoint are cut off."""
        with log.open("ab") as file:
            if file.tell() < steps * _COUNTS.size:
                raise CheckpointError(log, f"it lacks steps that the run has done ({steps})", "Begin the stage anew")
            file.truncate(steps * _COUNTS.size)
        return list(_COUNTS.iter_unpack(log.read_bytes()))


def stages(setting: Setting) -> list[Stage]:
    """Descent until 25 % training error on CIFAR-10, and LeNet-5 on MNIST, for three units each."""
    found = []
    for activation, own in _CIFAR10.items():
        recipe = settings({**_COMMON, **own}, setting)
        work = partial(_until_level, activation, recipe, setting)
        said = {"model": activation, "data": "cifar10", "level": LEVEL, "window": WINDOW}
        found.append(Stage(f"cifar10-{activation}", work, {**said, **recipe}, threads=setting.threads or 1))
    for activation in _CIFAR10:
        options: dict[str, Any] = {"activation": activation, "pool": "max" if activation == "relu" else "mean"}
        recipe = recipe_for("lenet5", "mnist", **options)
        found.append(
            trained(f"mnist-{activation}", "lenet5", "mnist", recipe, setting, threads=1, model_options=options)
        )
    return found


def _until_level(activation: str, recipe: dict[str, Any], setting: Setting, here: Here) -> dict[str, Any]:
    data = data_set("cifar10", setting)
    curve = _ErrorCurve(here.folder / "counts")
    with contextlib.suppress(_Reached):
        here.fit(network(activation, data, setting.seed), data, listeners=[RunPictures(), curve], **recipe)
    return {"steps": curve.steps, "errors": curve.errors, "reached": curve.reached}


@register(
    "relu_against_sigmoid",
    title="ReLU against tanh and sigmoid",
    published="a four-layer network reaches 25 % training error on CIFAR-10 about 6 times sooner with ReLU than with "
    "tanh (Krizhevsky et al. 2012, figure 1)",
    stages=stages,
)
def report(setting: Setting, outcomes: Outcomes) -> Report:
    curves = {activation: outcomes[f"cifar10-{activation}"] for activation in _CIFAR10}
    fastest = curves["relu"]["reached"]
    rows = []
    for activation, curve in curves.items():
        steps, note = curve["reached"], ""
        if steps is None:
            best = 100 * min(curve["errors"], default=1.0)
            rows.append(Row(f"CIFAR-10, {activation}: least training error", best, None, "%", "25 % not reached"))
            steps, note = curve["steps"][-1] if curve["steps"] else 0, "at least: 25 % not reached"
        else:
            rows.append(Row(f"CIFAR-10, {activation}: steps to 25 % training error", steps, None, "steps"))
        if activation != "relu" and fastest:
            published = 6.0 if activation == "tanh" else None
            rows.append(Row(f"CIFAR-10, {activation} against ReLU", steps / fastest, published, "times", note))
    lines(
        setting.out / "training_error.png",
        {name: (curve["steps"], [100 * error for error in curve["errors"]]) for name, curve in curves.items()},
        labels=("descent steps of 128 pictures", "training error, %"),
        title="CIFAR-10: ReLU, tanh and sigmoid",
        level=(100 * LEVEL, "25 %"),
    )
    for activation in _CIFAR10:
        error = 100 * (1 - outcomes[f"mnist-{activation}"].metrics["accuracy"])
        rows.append(Row(f"MNIST, lenet5 with {activation}: test error", error, None, "%"))
    return Report(rows, ["training_error.png"], {"common": _COMMON, **_CIFAR10})


def network(activation: str, data: Dataset, seed: int) -> nn.Module:
    """The four-layer network as the paper begins: weights from N(0, 0.01²), and as its input pixel values of 0 … 255,
    of which only the mean is subtracted ("the (centered) raw RGB values of the pixels")."""
    model = initialise(create_model("krizhevsky_cifar10", activation=activation), "normal", seed, _DEVIATION)
    if activation == "relu":
        for name in _BIASES_OF_ONE:
            nn.init.ones_(model.get_parameter(f"{name}.bias"))
    described = spec.spec_of(model)
    assert described is not None
    channels, height, width = data.shape
    raw = spec.Preprocessing(channels, (height, width), data.mean, (1 / 255,) * channels)
    return spec.attach(model, described.replace(preprocessing=raw))
