"""Results, histories and figures as a notebook shows them, and a progress bar for one."""

from __future__ import annotations

import importlib
import importlib.util
import math
import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from convscope.displays import html, picture, table
from convscope.errors import ArgumentError
from convscope.tasks.registry import TASKS
from convscope.training import events
from convscope.training.events import History
from convscope.training.figures import Figures

_LAST_ROWS = 20
_REFRESH_SECONDS = 0.25
_LARGEST_MATRIX = 40  # classes


@html.register
def _figures(figures: Figures) -> str:
    rows = [("figure", "value"), *((name, _number(value)) for name, value in figures.items() if _is_number(value))]
    confusion, classes = figures.get("confusion"), figures.get("classes")
    drawn = ""
    if confusion and classes and len(classes) <= _LARGEST_MATRIX:
        from convscope.inspect.pictures import as_png, confusion_figure

        drawn = picture(as_png(confusion_figure(confusion, classes, "")), "confusion matrix")
    return table(rows) + drawn


@html.register
def _history(history: History) -> str:
    return _curves(history, "", "") + _rows(history)


@html.register
def _result(result: events.Result) -> str:
    name = escape(result.run_dir.name)
    summary = escape(TASKS[result.task]().summary(result.metrics))
    ended = f"<p><b>{name}</b>: {summary}; {len(result.history)} epochs, {result.seconds:.1f} s<br>"
    place = f"<code>{escape(str(result.run_dir))}</code></p>"
    return ended + place + _curves(result.history, result.run_dir.name, result.task) + _figures(result.metrics)


def _curves(history: Sequence[events.EpochDone], title: str, task: str) -> str:
    from convscope.inspect.pictures import as_png, curves_figure
    from convscope.training.task import figure_panels

    if not history:
        return ""
    rows = [row.row() for row in history]
    panels = TASKS[task]().curves(rows) if task else figure_panels(rows, ())
    return picture(as_png(curves_figure(panels, [float(row.epoch) for row in history], title)), "curves")


def _rows(history: Sequence[events.EpochDone]) -> str:
    if not history:
        return "<p>no epoch yet</p>"
    names = list(history[-1].row())
    rows = [[_number(row.row().get(name)) for name in names] for row in history[-_LAST_ROWS:]]
    left_out = len(history) - len(rows)
    note = f"<p>the last {len(rows)} of {len(history)} epochs</p>" if left_out else ""
    return note + table([names, *rows], left=0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> str:
    if not _is_number(value) or not math.isfinite(value):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


class NotebookProgress:
    """Give this to ``fit`` as a listener in a notebook: one bar with figures, speed and the time left, drawn anew in
    its place, and the result when the run has ended. Raises ArgumentError where there is no IPython."""

    def __init__(self) -> None:
        if importlib.util.find_spec("IPython") is None:
            raise ArgumentError("listeners", "NotebookProgress", "a notebook: there is no package IPython")
        self._display: Any = importlib.import_module("IPython.display")
        self._handle: Any = None
        self._started: events.RunStarted | None = None
        self._begun = self._shown_at = 0.0

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self._started, self._begun = event, time.monotonic()
            self._handle = self._display.display(self._display.HTML(self._bar(event.resumed_at, "")), display_id=True)
        elif isinstance(event, events.BatchDone):
            now = time.monotonic()
            if now - self._shown_at >= _REFRESH_SECONDS:
                self._shown_at = now
                self._update(
                    self._bar(event.step, self._told(event.epoch, event.figures, event.step, event.per_second))
                )
        elif isinstance(event, events.RunFinished):
            self._update(_result(event.result))
        elif isinstance(event, events.Diverged):
            self._update(f"<p>{escape(event.message)}</p>")

    def _update(self, content: str) -> None:
        if self._handle is not None:
            self._handle.update(self._display.HTML(content))

    def _bar(self, step: int, told: str) -> str:
        assert self._started is not None
        started = self._started
        heading = f"{escape(started.model)} on {escape(started.data)}, engine {escape(started.engine)}"
        return f'<p>{heading}<br><progress value="{step}" max="{started.steps}"></progress> {told}</p>'

    def _told(self, epoch: int, figures: Mapping[str, float], step: int, per_second: float) -> str:
        assert self._started is not None
        started = self._started
        share = " ".join(f"{name} {value:.4g}" for name, value in figures.items())
        left = (time.monotonic() - self._begun) / max(step - started.resumed_at, 1) * (started.steps - step)
        told = f"epoch {epoch}/{started.epochs}, {share}, {per_second:,.0f} {started.unit}/s, {left:,.0f} s left"
        return escape(told)
