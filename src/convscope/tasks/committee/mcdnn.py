"""MCDNN: columns trained one by one, each on figures of its own width, and put together.

Cireşan, Meier, Schmidhuber: Multi-column Deep Neural Networks for Image Classification, CVPR 2012.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope import seeding
from convscope.errors import ArgumentError
from convscope.files import write_text
from convscope.models.catalog import MODELS
from convscope.models.committee import committee
from convscope.models.modelfile import save
from convscope.tasks.committee.agreement import Agreement, agreement, votes
from convscope.tasks.jobs import Asked, Finished, Outcomes, TrainingJob, register
from convscope.tasks.recipes import find_recipe
from convscope.tasks.run_pictures import RunPictures
from convscope.tasks.stages import Here, Stage, training

TOGETHER = "committee"


@dataclasses.dataclass(frozen=True)
class ColumnsSettings:
    columns: int = 35
    column: str = "mcdnn_column"  # the architecture of each, a catalogue name
    # Widths in pixels that the figures are brought to, column by column in turn; 0 leaves them as they are. The paper's
    # for digits; photographs have no figure on a black ground: "0".
    widths: str = "0,20,18,16,14,12,10"
    pictures: bool = True  # curves, kernels … of every column


@register
class Columns(TrainingJob):
    """N columns, each a training of its own, side by side where there are cores; then their common answers."""

    name = "mcdnn"
    Settings = ColumnsSettings

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        if self.settings.columns < 1:
            raise ArgumentError("columns", self.settings.columns, "at least 1")
        if MODELS[self.settings.column].card.task != "classification":
            raise ArgumentError("column", self.settings.column, "a classifier of the catalogue")
        try:
            self.widths = [int(width) for width in str(self.settings.widths).split(",")]
        except ValueError:
            wanted = "widths in pixels separated by commas, 0 for as it is, for example 0,20,16"
            raise ArgumentError("widths", self.settings.widths, wanted) from None

    def stages(self) -> list[Stage]:
        places = range(self.settings.columns)
        names = [self._stage_name(place) for place in places]
        columns = [self._column(place) for place in places]
        together = Stage(
            TOGETHER, functools.partial(_together, self.asked), {"seed": self.asked.seed}, names, threads=1
        )
        return [*columns, together]

    def _width(self, place: int) -> int:
        return self.widths[place % len(self.widths)]

    def _stage_name(self, place: int) -> str:
        width = self._width(place)
        return f"columns/{place + 1:02}-" + (f"w{width}" if width else "original")

    def _column(self, place: int) -> Stage:
        asked, settings = self.asked, self.settings
        recipe = find_recipe(settings.column, asked.data)
        width = self._width(place)
        options = {**(recipe.settings if recipe is not None else {}), **asked.changes}
        return training(
            self._stage_name(place),
            settings.column,
            lambda _: asked.dataset(),
            model_options=dict(recipe.options) if recipe is not None else None,
            described={"data": {"name": asked.data, "options": dict(asked.data_options)}},
            threads=asked.threads or 1,
            listeners=[RunPictures()] if settings.pictures else [],
            settings={"width": width} if width else {},
            seed=seeding.derive(asked.seed, "column", place) % 2**31,
            engine=asked.engine,
            **options,
        )

    def finish(self, folder: Path, outcomes: Outcomes) -> Finished:
        names = [self._stage_name(place) for place in range(self.settings.columns)]
        found = Agreement.from_json(outcomes[TOGETHER]["agreement"])
        model = committee([outcomes[name].model() for name in names])
        data = {"source": self.asked.data, "name": self.asked.data}
        path = save(model, folder / "model.safetensors", metrics={"accuracy": 1 - found.error}, data=data)
        return report(folder, path, found, f"{len(names)} columns on {self.asked.data}")


def report(folder: Path, model: Path, found: Agreement, title: str) -> Finished:
    """Write the agreement beside the committee's file, as JSON, as text and as a picture."""
    write_text(folder / "agreement.json", json.dumps(found.to_json(), indent=1) + "\n")
    write_text(folder / "agreement.txt", found.table() + "\n")
    found.draw(folder / "agreement.png", title)
    single = found.together[0]
    told = f"committee of {len(found.names)}: error {found.error:.2%}; single members {single.mean:.2%} on average, "
    told += f"{single.least:.2%} to {single.most:.2%}"
    return Finished(model, {"error": found.error, **found.to_json()}, [found.table(), "", told, f"model {model}"])


def _together(asked: Asked, here: Here) -> Mapping[str, Any]:
    """The columns' probabilities on the test examples, column by column, and what comes of them."""
    test = asked.dataset().test
    names = list(here.earlier)
    found: list[Tensor] = []
    for place, name in enumerate(names):
        part: Callable[[], Mapping[str, Any]] = functools.partial(_votes, here.earlier[name].model(), test)
        found.append(here.part(name, part)["votes"])
        here.tell((place + 1) / len(names), name)
    short = tuple(name.removeprefix("columns/") for name in names)
    return {"agreement": agreement(torch.stack(found), test.labels, short, asked.seed).to_json()}


def _votes(member: nn.Module, test: Any) -> Mapping[str, Any]:
    return {"votes": votes(member, test)}
