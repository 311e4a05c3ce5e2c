"""Greedy layer-wise training: one autoencoder on the code of the one below, a softmax on top, then all together.

Xue: Convolutional Neural Networks (2016), the chapter on autoencoders, equations (45)–(53).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.data.transforms import prepare
from convscope.errors import ArgumentError
from convscope.models.modelfile import save
from convscope.spec import Answers, Input
from convscope.tasks.autoencoding.pictures import draw_filters, draw_reconstructions
from convscope.tasks.autoencoding.predict import predict
from convscope.tasks.autoencoding.recipes import SETTINGS
from convscope.tasks.jobs import Asked, Finished, Outcomes, TrainingJob, register
from convscope.tasks.run_pictures import RunPictures
from convscope.tasks.stages import Stage, training
from convscope.training.config import Config
from convscope.training.preparing import build_model

_SHOWN = 12  # pictures beside their reconstructions
_TOP: dict[str, Any] = {"optimiser": "adam", "learning_rate": 1.0, "schedule": "cosine", "batch_size": 100}
_FINE: dict[str, Any] = {"optimiser": "adam", "learning_rate": 1e-3, "schedule": "cosine", "batch_size": 100}


@dataclasses.dataclass(frozen=True)
class StackedSettings:
    units: str = "784,784"  # of the hidden layers, from the pictures upwards
    rho: float = 0.05  # ρ of every autoencoder
    beta: float = 1.0  # β of every autoencoder; 0: not sparse
    tied: bool = False  # decoders are the encoders transposed
    layer_epochs: int = 20  # of each autoencoder
    top_epochs: int = 20  # of the softmax alone
    fine_epochs: int = 20  # of all together; 0: no fine-tuning
    pictures: bool = True  # curves, filters … of every stage


@register
class Stacked(TrainingJob):
    """Layers trained one by one without classes, a softmax on top of them, and fine-tuning; each a stage."""

    name = "stacked_autoencoder"
    Settings = StackedSettings

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        wanted = "numbers of units separated by commas, for example 784,784"
        try:
            self.units = [int(each) for each in str(self.settings.units).split(",")]
        except ValueError:
            raise ArgumentError("units", self.settings.units, wanted) from None
        if min(self.units) < 1:
            raise ArgumentError("units", self.settings.units, wanted)

    def stages(self) -> list[Stage]:
        layers = [self._layer(place) for place in range(len(self.units))]
        names = [stage.name for stage in layers]
        found = [*layers, self._classifying("softmax", _TOP, self.settings.top_epochs, names)]
        if self.settings.fine_epochs:
            found.append(self._classifying("fine", _FINE, self.settings.fine_epochs, ["softmax"]))
        return found

    def _layer(self, place: int) -> Stage:
        """The autoencoder that codes what the ``place`` layers below give."""
        settings = self.settings
        options = {"units": self.units[place], "below": self.units[:place], "tied": settings.tied}
        return training(
            f"layer{place + 1}",
            functools.partial(self._autoencoder, options),
            lambda _: self.asked.dataset(),
            described={"model": {"architecture": "sparse_autoencoder", **options}, "data": self._data()},
            after=[f"layer{below + 1}" for below in range(place)],
            settings={"rho": settings.rho, "beta": settings.beta},
            **self._settings(SETTINGS, settings.layer_epochs),
        )

    def _classifying(self, name: str, recipe: Mapping[str, Any], epochs: int, after: list[str]) -> Stage:
        build = self._softmax if name == "softmax" else self._all
        return training(
            name,
            build,
            lambda _: self.asked.dataset(),
            described={"model": {"architecture": "stacked_autoencoder", "units": self.units}, "data": self._data()},
            after=after,
            **self._settings(recipe, epochs),
        )

    def _settings(self, recipe: Mapping[str, Any], epochs: int) -> dict[str, Any]:
        return {
            **recipe, "epochs": epochs, **self.asked.changes, "seed": self.asked.seed, "engine": self.asked.engine,
            "threads": self.asked.threads, "listeners": [RunPictures()] if self.settings.pictures else [],
        }  # fmt: skip

    def _data(self) -> dict[str, Any]:
        return {"name": self.asked.data, "options": dict(self.asked.data_options)}

    def _autoencoder(self, options: Mapping[str, Any], earlier: Outcomes) -> nn.Module:
        channels, *size = self.asked.dataset().shape
        model = self._built("sparse_autoencoder", {**options, "in_channels": channels, "input_size": size})
        for place, outcome in enumerate(earlier.values(), 1):
            _copy(_encoder(outcome.model()), model.get_submodule(f"below.encoder{place}"))
        return model

    def _softmax(self, earlier: Outcomes) -> nn.Module:
        """The encoders, held as they are, below a fresh last layer; pixels go in as 0 … 1, as they know them."""
        data = self.asked.dataset()
        channels, *size = data.shape
        options = {"units": self.units, "classes": len(data.classes), "in_channels": channels, "input_size": size}
        model = self._built("stacked_autoencoder", options)
        for place, outcome in enumerate(earlier.values(), 1):
            trained = outcome.model()
            encoder = model.get_submodule(f"encoder{place}")
            _copy(_encoder(trained), encoder)
            encoder.requires_grad_(False)
        below, own = spec.spec_of(trained), spec.spec_of(model)
        assert below is not None
        assert own is not None
        pictures = Input("pictures", below.input_shape, below.preprocessing)
        return spec.attach(model, own.replace(inputs=(pictures,), answers=Answers("classes", data.classes)))

    def _all(self, earlier: Outcomes) -> nn.Module:
        return earlier["softmax"].model().requires_grad_()

    def _built(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        return build_model(name, dict(options), Config(seed=self.asked.seed))

    def finish(self, folder: Path, outcomes: Outcomes) -> Finished:
        last = "fine" if "fine" in outcomes else "softmax"
        model, metrics = outcomes[last].model(), outcomes[last].metrics
        data = {"source": self.asked.data, "name": self.asked.data}
        path = save(model, folder / "model.safetensors", metrics=metrics, data=data)
        figures = {name: outcome.metrics for name, outcome in outcomes.items()}
        lines = [
            f"{name}: ½‖y − x‖² {found['error']:.3f}, mean activation {found['activation']:.4f}"
            if "activation" in found
            else f"{name}: accuracy {found['accuracy']:.2%}"
            for name, found in figures.items()
        ]
        if self.settings.pictures:
            self._draw(folder, outcomes)
        return Finished(path, figures, [*lines, f"model {path}"])

    def _draw(self, folder: Path, outcomes: Outcomes) -> None:
        draw_filters(folder, "stacked_autoencoder")
        model = outcomes["layer1"].model()
        described = spec.spec_of(model)
        assert described is not None
        assert described.preprocessing is not None
        first = next(iter(self.asked.dataset().test.some_pictures(_SHOWN)))[:_SHOWN]
        originals = prepare(first, described.preprocessing)
        again = torch.stack([each.picture for each in predict(model, originals) if each.picture is not None])
        title = "pictures, and what layer 1 makes of them"
        draw_reconstructions(folder / "reconstructions.png", originals, again, title)


def _encoder(model: nn.Module) -> nn.Module:
    return model.get_submodule("encoder")


def _copy(source: nn.Module, target: nn.Module) -> None:
    target.load_state_dict(source.state_dict())
