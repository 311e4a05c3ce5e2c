"""Showing a run while it goes on: a live bar at a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from convscope.cli.terminal import Unread
from convscope.columns import figure, shown
from convscope.training import events

if TYPE_CHECKING:
    from convscope.training import Result

_REFRESH_SECONDS = 0.1  # ten times a second: a batch may take less than a millisecond


class TrainingDisplay:
    """A listener for ``fit``: a bar with loss, figures, examples/s and the time left in the whole run, and one line an
    epoch that stays. Where ``console`` is no terminal there is no bar; with ``quiet`` nothing but warnings.

    When nobody reads any more (``| head``) the run is asked to stop as by SIGHUP, so that it saves; ``unread`` then
    says so. Under ``nohup`` it goes on in silence.
    """

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self.console, self.quiet = console, quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started: events.RunStarted | None = None
        self._shown_at = 0.0
        self._begun = time.monotonic()
        self._first_step = 0
        self.unread = False

    def __enter__(self) -> TrainingDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def __call__(self, event: events.Event) -> None:
        if self.unread:
            return
        try:
            self._show(event)
        except Unread:
            self.unread = True
            if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # no run listens that could still save
                raise
            signal.raise_signal(signal.SIGHUP)

    def _show(self, event: events.Event) -> None:
        match event:
            case events.RunStarted():
                self._run_started(event)
            case events.EpochStarted(epoch=1, first_batch=0):
                self._begun = time.monotonic()
            case events.BatchDone():
                self._batch_done(event)
            case events.EpochDone():
                self._epoch_done(event)
            case events.CheckpointRefused():
                self._warn(f"{event.path} is passed over: {event.problem}")
            case events.RateLeaps():
                spans = f"the {event.schedule} schedule now spans {event.steps:,} steps, not {event.planned:,}"
                self._warn(f"the learning rate goes from {event.before:.3g} to {event.after:.3g}: {spans}")
            case events.Averaged():
                self._averaged(event)
            case events.Converged() if not self.quiet:
                self._line(f"stopped: the loss changes by {event.change:.2g}, less than {event.tolerance:g}")
            case events.Interrupted():
                self._stop()
                self._warn(f"interrupted at step {event.step:,}; the state is saved in {event.path}")
                self._warn(f"to go on: {event.resume}")
            case events.RunFinished():
                self._stop()

    def _run_started(self, event: events.RunStarted) -> None:
        self._started, self._first_step = event, event.resumed_at
        if self.quiet:
            return
        again = f", going on after step {event.resumed_at:,}" if event.resumed_at else ""
        self._line(
            f"[bold]{escape(shown(event.model))}[/bold] on {escape(shown(event.data))}: "
            f"{event.parameters:,} parameters, "
            f"{event.train_examples:,} training and {event.test_examples:,} test {event.noun}{again}"
        )
        self._line(escape(f"engine {event.engine} on {event.device}: {event.reason}"), style="dim")
        self._line(escape(f"run folder {event.run_dir}"), style="dim")
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[figures]}"),
                console=self.console, transient=True, auto_refresh=False, expand=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(f"epoch 1/{event.epochs}", total=event.steps, figures="")
            self._bar.update(self._task, completed=event.resumed_at)

    def _batch_done(self, event: events.BatchDone) -> None:
        now = time.monotonic()
        if self._bar is None or self._task is None or now - self._shown_at < _REFRESH_SECONDS:
            return
        assert self._started is not None
        self._shown_at = now
        done, left = event.step - self._first_step, self._started.steps - event.step
        remaining = (now - self._begun) / max(done, 1) * left
        speed = f"{event.per_second:,.0f} {self._started.unit}/s"
        figures = f"{self._figures(event.figures)}  {speed}  {in_words(remaining)} left"
        description = f"epoch {event.epoch}/{self._started.epochs}"
        self._bar.update(self._task, completed=event.step, description=description, figures=figures, refresh=True)

    def _epoch_done(self, event: events.EpochDone) -> None:
        if self.quiet:
            return
        assert self._started is not None
        text = f"epoch {event.epoch:>3}/{self._started.epochs}  {self._figures(event.train)}"
        if known := {name: value for name, value in event.test.items() if value is not None}:
            text += "  " + self._figures(known, "test ")
        self._line(f"{text}  {event.per_second:,.0f} {event.unit}/s  {event.seconds:.1f} s")

    def _averaged(self, event: events.Averaged) -> None:
        if len(event.epochs) < event.wanted:
            self._warn(f"the model is the mean of {len(event.epochs)} epochs' weights, not of {event.wanted}")
        elif not self.quiet:
            self._line(f"the model is the mean of its weights after epochs {', '.join(map(str, event.epochs))}")

    def _figures(self, figures: Mapping[str, float], prefix: str = "") -> str:
        assert self._started is not None
        shares = self._started.shares
        return "  ".join(f"{prefix}{name} {figure(name, value, shares)}" for name, value in figures.items())

    def _line(self, text: str, style: str | None = None) -> None:
        self.console.print(text, style=style, highlight=False, soft_wrap=True)

    def _warn(self, text: str) -> None:
        self.console.print(text, style="yellow", highlight=False, soft_wrap=True, markup=False)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def summary(result: Result) -> list[str]:
    """What a finished run has come to."""
    from convscope.tasks import TASKS

    figures = TASKS[result.task]().summary(result.metrics)
    return [
        f"{figures}, {len(result.history)} {'epoch' if len(result.history) == 1 else 'epochs'} in "
        f"{in_words(result.seconds)}",
        f"model {result.run_dir / 'model.safetensors'}",
    ]


def in_words(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
