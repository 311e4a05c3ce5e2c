"""The pictures of a run folder: a listener that draws while the run goes on, and the same from the folder afterwards.

curves.png            loss and figures after every epoch
kernels.png           first-layer kernels of the finished model
kernels-film.png      … after every epoch
histograms.png        activations and sensitivities of every layer on a few test examples
dead.png              units that never fire, by epoch (networks with rectifiers)

and what the task draws itself, a classifier's confusion.png.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope.errors import ConvscopeError, DataError
from convscope.graph.calls import walk
from convscope.graph.examples import needed_inputs
from convscope.inspect.statistics import Histogram
from convscope.spec import spec_of
from convscope.tasks.registry import TASKS
from convscope.tensorfile import read_tensors
from convscope.training import events
from convscope.training.watching import EXAMPLES

# Drawing is imported where it is done: matplotlib takes 0.3 s, which who only predicts need not wait for.
_REDRAW_SECONDS = 15.0  # curves take 0.2 s to draw; an epoch of a small data set may take less than that
_FILM_ROWS = 16


@dataclasses.dataclass
class RunPictures:
    """Give this to ``fit`` as a listener: ``curves.png`` is redrawn while training, everything at the end.

    A picture that cannot be drawn never stops a run: what went wrong is kept in ``problems``.
    """

    problems: list[str] = dataclasses.field(default_factory=list)
    _run_dir: Path | None = None
    _title: str = ""
    _task: str = ""
    _history: list[events.EpochDone] = dataclasses.field(default_factory=list)
    _drawn_at: float = 0.0

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self._run_dir, self._title = event.run_dir, f"{event.model} on {event.data}"
            self._task = event.task
            if event.resumed_at:
                self._try(lambda: self._history.extend(_read_history(event.run_dir)))
            self._drawn_at = time.monotonic()
        elif isinstance(event, events.EpochDone):
            self._history = [row for row in self._history if row.epoch < event.epoch] + [event]
            if time.monotonic() - self._drawn_at > _REDRAW_SECONDS:
                self._try(self._curves)
                self._drawn_at = time.monotonic()
        elif isinstance(event, events.RunFinished) and self._run_dir is not None:
            result = event.result
            folder, title = self._run_dir, self._title
            self._try(self._curves)
            self._try(lambda: TASKS[result.task]().draw(folder, title, result.metrics.to_json()))
            self._try(lambda: _kernels(folder, result.model))
            self._try(lambda: _watched(folder, title))

    def _curves(self) -> None:
        assert self._run_dir is not None
        _curves(self._run_dir, self._title, self._task, self._history)

    def _try(self, draw: Any) -> None:
        try:
            draw()
        except (ConvscopeError, OSError) as problem:
            self.problems.append(str(problem))


def draw_run(run_dir: str | Path, model: nn.Module) -> list[Path]:
    """Draw all pictures of a finished run anew from its folder and its ``model``; returns their paths.

    Raises DataError for a folder that holds no finished run.
    """
    folder = Path(run_dir)
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise DataError(folder, f"not the folder of a finished run ({problem})") from problem
    model_name = (described.get("model") or {}).get("architecture") or type(model).__name__
    title = f"{model_name} on {described['data']['name']}"
    task = described.get("task", "classification")
    _curves(folder, title, task, _read_history(folder))
    TASKS[task]().draw(folder, title, metrics)
    _kernels(folder, model)
    _watched(folder, title)
    return sorted(folder.glob("*.png"))


def _curves(folder: Path, title: str, task: str, history: Sequence[events.EpochDone]) -> None:
    from convscope.inspect.pictures import curves_figure, save_picture

    panels = TASKS[task]().curves([row.row() for row in history])
    save_picture(curves_figure(panels, [float(row.epoch) for row in history], title), folder / "curves.png")


def _kernels(folder: Path, model: nn.Module) -> None:
    from convscope.inspect.pictures import kernels_figure, kernels_of, kernels_of_model, save_picture

    # How the shapes of several inputs hang together only the task knows, as what a model takes whose input's shape is
    # not the same for all; such models begin with a body.
    described = spec_of(model)
    varies = described is not None and any(not each.shape for each in described.inputs)
    if varies or len(needed_inputs(model)) > 1:
        sheets = (kernels_of(name, module, colour=True) for name, module in model.named_modules())
        found = [sheet for sheet in sheets if sheet is not None]
    else:
        found = kernels_of_model(walk(model))
    first = next((item for item in found if item.values.shape[2] * item.values.shape[3] > 1), None)
    if first is not None:
        save_picture(kernels_figure(first), folder / "kernels.png")


def _watched(folder: Path, title: str) -> None:
    """From ``watch/``: the film of the kernels, the last epoch's histograms, dead units by epoch."""
    files = sorted((folder / "watch").glob("epoch-*.safetensors"))
    if not files:
        return
    moments = [read_tensors(path) for path in files]
    _histograms(folder, title, *moments[-1])
    _film(folder, moments)
    _dead(folder, title, [described for _, described in moments])


def _histograms(folder: Path, title: str, tensors: Mapping[str, torch.Tensor], described: Mapping[str, Any]) -> None:
    from convscope.inspect.pictures import histograms_figure, save_picture

    rows = []
    for layer in described["layers"]:
        name = layer["name"]
        note = "" if layer["dead"] is None else f"{layer['dead']:.0%} of {layer['units']} units dead"
        rows.append((name, _histogram(tensors, name, "activation"), _histogram(tensors, name, "delta"), note))
    text = f"{title} · epoch {described['epoch']}"
    save_picture(histograms_figure(rows, text, EXAMPLES), folder / "histograms.png")


def _film(folder: Path, moments: Sequence[tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]]) -> None:
    from convscope.inspect.pictures import film_figure, save_picture

    kernels = next((name for name in moments[-1][0] if name.endswith("/kernels")), None)
    if kernels is None or len(moments) < 2:
        return
    chosen = _spread(len(moments), _FILM_ROWS)
    strip = [(str(moments[index][1]["epoch"]), moments[index][0][kernels]) for index in chosen]
    colour = strip[0][1].shape[1] == 3
    save_picture(film_figure(kernels.removesuffix("/kernels"), strip, colour), folder / "kernels-film.png")


def _dead(folder: Path, title: str, moments: Sequence[Mapping[str, Any]]) -> None:
    from convscope.inspect.pictures import curves_figure, save_picture

    rectifiers = [layer["name"] for layer in moments[-1]["layers"] if layer["dead"] is not None]
    if not rectifiers:
        return
    by_epoch = [{layer["name"]: layer["dead"] for layer in each["layers"]} for each in moments]
    series = {name: [100 * float(row.get(name) or 0.0) for row in by_epoch] for name in rectifiers[:6]}
    epochs = [float(each["epoch"]) for each in moments]
    save_picture(curves_figure({"dead units in %": series}, epochs, title), folder / "dead.png")


def _histogram(tensors: Mapping[str, torch.Tensor], name: str, what: str) -> Histogram | None:
    counts = tensors.get(f"{name}/{what}_counts")
    if counts is None:
        return None
    low, high = tensors[f"{name}/{what}_range"].tolist()
    return Histogram(counts.double().numpy(), low, high if high > low else low + 1.0)


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` indices, evenly spread, first and last among them."""
    if count <= most:
        return list(range(count))
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def _read_history(folder: Path) -> list[events.EpochDone]:
    """The rows of history.csv; DataError for a damaged one."""
    path = folder / "history.csv"
    if not path.is_file():
        return []
    whole = ("epoch", "step")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                events.EpochDone.of(
                    {
                        name: (None if value == "" else int(value) if name in whole else float(value))
                        for name, value in row.items()
                    }
                )
                for row in csv.DictReader(file)
            ]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        StopIteration,
        RuntimeError,
        csv.Error,
    ) as problem:
        raise DataError(
            path, f"damaged ({type(problem).__name__}: {problem})", "It is written anew by training"
        ) from problem
