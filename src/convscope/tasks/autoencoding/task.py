"""Autoencoding: a picture in, the same picture out, by way of a sparse code."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope import spec
from convscope.data import Dataset, Labelled, LabelledOnDisk
from convscope.data.examples import Examples
from convscope.data.feed import fitting
from convscope.errors import ArgumentError
from convscope.rules.sparse_loss import divergence, reconstruction, sparsity
from convscope.spec import Answers, Input, Preprocessing
from convscope.tasks.autoencoding.metrics import Reconstruction, ReconstructionTally
from convscope.tasks.autoencoding.predict import Reconstructed, predict
from convscope.tasks.autoencoding.recipes import RECIPES
from convscope.tasks.registry import register
from convscope.training.config import Config
from convscope.training.figures import Figures
from convscope.training.preparing import description_of, how_to_fit, preprocessing_for
from convscope.training.task import Examined, Objective, Prepared, Scalar, Task, model_inputs
from convscope.training.trying import two_examples


@dataclasses.dataclass(frozen=True)
class AutoencodingSettings:
    rho: float = 0.05  # ρ, the mean activation that every unit is drawn to
    beta: float = 3.0  # β, the weight of Σ KL(ρ‖ρ̂); 0: not sparse


class SparseCost(Objective):
    """J = (1/m)·Σ ½‖y − x‖² + β·Σ_j KL(ρ‖ρ̂_j) with ρ̂ over the batch (Xue 2016, eq. (45)–(51)); the decay λ of (49) is
    the configuration's ``weight_decay``.

    With β > 0 it is no mean over examples: ρ̂ is the batch's, so that batches cannot be put together.
    """

    counts = ("active",)

    def __init__(self, rho: float, beta: float) -> None:
        self.rho, self.beta = rho, beta

    def value(self, outputs: Any, targets: Any) -> Tensor:
        y, code, x = outputs
        value: Tensor = 0.5 * (y - x).square().sum() / len(y)
        return value + self.beta * divergence(code.mean(0), self.rho).sum() if self.beta else value

    def value_and_delta(self, outputs: Any, targets: Any) -> tuple[Tensor, Any]:
        y, code, x = outputs
        value, delta = reconstruction(y, x)
        if not self.beta:
            return value, (delta, torch.zeros_like(code), -delta)
        lost, to_code = sparsity(code, self.rho)
        return value + self.beta * lost, (delta, self.beta * to_code, -delta)

    def count(self, outputs: Any, targets: Any) -> Sequence[Scalar]:
        """The sum of every example's mean activation."""
        return (outputs[1].detach().mean(1).sum(),)


@register
class Autoencoding(Task):
    """Pictures made again from a sparse code of them; their classes are not looked at."""

    name = "autoencoding"
    kinds = ("labelled",)
    unit = "images"
    noun = "pictures"
    history = ("loss", "error", "activation")
    uses = frozenset({"fit"})
    answer_header = ("picture", "error", "active_units")
    Settings = AutoencodingSettings
    recipes = RECIPES

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if not 0 < self.settings.rho < 1:
            raise ArgumentError("rho", self.settings.rho, "a mean activation between 0 and 1, for example 0.05")
        if self.settings.beta < 0:
            raise ArgumentError("beta", self.settings.beta, "a weight ≥ 0")

    def options(self, dataset: Dataset[Any]) -> dict[str, Any]:
        return {"in_channels": dataset.shape[0]}

    def prepare(self, model: nn.Module, dataset: Dataset[Any], config: Config) -> Prepared:
        if len(dataset.test) == 0:
            raise ArgumentError("data", f"{dataset.name!r} without test pictures", "at least one to evaluate on")
        if self.settings.beta and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            hint = "beta=0 leaves the sparsity out"
            raise ArgumentError("WORLD_SIZE", os.environ["WORLD_SIZE"], "one process: ρ̂ is of the whole batch", hint)
        described = description_of(model, dataset.shape)
        preprocessing = described.preprocessing if described is not None else None
        if preprocessing is None:
            shape = described.input_shape if described is not None else dataset.shape
            fit = how_to_fit(dataset.shape, shape, config)
            # 0 … 1, what a sigmoid can give back
            preprocessing = Preprocessing(shape[0], (shape[1], shape[2]), (0.0,) * shape[0], (1.0,) * shape[0], fit)
        pictures = Input("pictures", (preprocessing.channels, *preprocessing.size), preprocessing)
        if described is not None:
            answers = Answers("pictures", (), dataclasses.asdict(self.settings))
            spec.attach(model, described.replace(task=self.name, inputs=(pictures,), answers=answers))
        stages = (fitting(preprocessing),)
        return Prepared(dataset.train, dataset.test, stages, stages, (pictures,))

    def ready(self, model: nn.Module, prepared: Prepared, objective: Objective, dataset: Dataset[Any]) -> None:
        first = next(model.parameters(), torch.empty(0))
        batch = two_examples(prepared, first.device)
        try:
            with torch.no_grad():
                outputs = model(*model_inputs(prepared.inputs, batch.inputs, first.dtype))
        except RuntimeError as problem:
            raise ArgumentError(
                "data", dataset.name, "pictures that the model can take", str(problem).split("\n")[0]
            ) from problem
        if not isinstance(outputs, tuple) or len(outputs) != 3 or outputs[0].shape != outputs[2].shape:
            got = type(outputs).__name__ if not isinstance(outputs, tuple) else f"{len(outputs)} outputs"
            raise ArgumentError("model", got, "three outputs: reconstruction, code, and what was to be reconstructed")

    def objective(self, model: nn.Module, loss: Any = None) -> Objective:
        if loss is not None and not isinstance(loss, SparseCost):
            raise ArgumentError("loss", loss, "nothing: autoencoding has its own")
        if loss is not None:
            return loss
        settings = self._settings_of(model)
        return SparseCost(settings["rho"], settings["beta"])

    def tally(self, model: nn.Module, examples: Examples, objective: Objective) -> ReconstructionTally:
        assert isinstance(objective, SparseCost)
        return ReconstructionTally(objective.rho, objective.beta)

    def _settings_of(self, model: nn.Module) -> dict[str, float]:
        """Those given, else those that the model was trained with."""
        own = dataclasses.asdict(self.settings)
        described = spec.spec_of(model)
        if (
            described is not None
            and described.answers.kind == "pictures"
            and own == dataclasses.asdict(self.Settings())
        ):
            return {**own, **described.answers.more}
        return own

    def examine(
        self,
        model: nn.Module,
        examples: Examples,
        dataset: Dataset[Any] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> Examined:
        assert isinstance(examples, Labelled | LabelledOnDisk)
        chosen = preprocessing or preprocessing_for(model)
        return Examined(examples, (fitting(chosen),), (Input("pictures", preprocessing=chosen),))

    def predict(
        self,
        model: nn.Module,
        inputs: Any,
        batch_size: int = 64,
        preprocessing: Preprocessing | None = None,
        engine: str = "auto",
        told: Callable[[Any], object] = lambda inference: None,
    ) -> Iterator[Reconstructed]:
        return predict(model, inputs, batch_size, preprocessing, engine, told)

    def summary(self, figures: Figures) -> str:
        assert isinstance(figures, Reconstruction)
        told = f"½‖y − x‖² {figures.error:.3f} ({figures.per_value:.4f} a value), mean activation "
        return told + f"{figures.activation:.4f}, {figures.silent} of {figures.units} units silent"

    def report(self, figures: Figures) -> str:
        assert isinstance(figures, Reconstruction)
        return "\n".join(
            [
                f"pictures             {figures.images:,}",
                f"½‖y − x‖²            {figures.error:.4f}",
                f"root mean square     {figures.per_value:.5f} a value",
                f"mean activation      {figures.activation:.5f}",
                f"Σ KL(ρ‖ρ̂)            {figures.divergence:.4f}",
                f"silent units         {figures.silent} of {figures.units}",
                f"J without decay      {figures.loss:.4f}",
            ]
        )

    def draw(self, folder: Path, title: str, figures: Any) -> None:
        """filters.png: the pictures that the units answer most to."""
        from convscope.tasks.autoencoding.pictures import draw_filters

        draw_filters(folder, title)
