"""Showing a job of several stages while it goes on: a live bar a stage at a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from convscope.cli.progress import in_words
from convscope.columns import figure
from convscope.tasks.stages import events


class JobDisplay:
    """A listener for ``run_job``: a bar for every stage under way, a line for whatever a stage has come to. Where
    ``console`` is no terminal there are no bars; with ``quiet`` nothing but warnings."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self.console, self.quiet = console, quiet
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._runs: dict[str, Mapping[str, Any]] = {}  # what each training said of itself when it began
        self._begun: dict[str, float] = {}
        self._stages, self._done, self._loaded = 0, 0, 0

    def __enter__(self) -> JobDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def __call__(self, event: events.JobEvent) -> None:
        match event:
            case events.JobStarted():
                self._stages = len(event.stages)
                side = f", up to {event.workers} side by side ({event.reason})" if event.workers > 1 else ""
                self._line(f"{self._stages} stages in {event.folder}{side}", style="dim")
            case events.StageLoaded():
                self._done += 1
                self._loaded += 1
            case events.StageRedone():
                self._warn(f"{event.stage} is made anew: {event.reason}")
            case events.StageStarted():
                self._started(event)
            case events.StageProgress():
                self._show(event.stage, event.share, event.text)
            case events.StageTold():
                self._told(event.stage, event.event)
            case events.StageFinished():
                self._done += 1
                self._end(event.stage)
                self._line(
                    f"[bold]{event.stage}[/bold] done in {in_words(event.seconds)} ({self._done}/{self._stages})"
                )
            case events.JobInterrupted():
                self._stop()
                self._warn(f"interrupted; to go on: {event.resume}")
            case events.JobFinished():
                self._stop()

    def _started(self, event: events.StageStarted) -> None:
        if self._loaded:
            self._line(f"{self._loaded} of {self._stages} stages were done before")
            self._loaded = 0
        self._begun[event.stage] = time.monotonic()
        self._line(f"[bold]{event.stage}[/bold] {'goes on' if event.resumed else 'begins'}")
        if self.quiet or not self.console.is_terminal:
            return
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[figures]}"),
                console=self.console, transient=True, expand=True,
            )  # fmt: skip
            self._bars.start()
        self._tasks[event.stage] = self._bars.add_task(event.stage, total=1.0, figures="")

    def _told(self, stage: str, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "RunStarted":
                self._runs[stage] = event
                self._line(f"{stage}: {event['model']} on {event['data']}, engine {event['engine']}", style="dim")
            case "BatchDone":
                run = self._runs[stage]
                done, left = event["step"] - run["resumed_at"], run["steps"] - event["step"]
                remaining = (time.monotonic() - self._begun[stage]) / max(done, 1) * left
                text = f"epoch {event['epoch']}/{run['epochs']}  loss {event['loss']:.4f}  {in_words(remaining)} left"
                self._show(stage, event["step"] / run["steps"], text)
            case "EpochDone":
                run = self._runs[stage]
                figures = [
                    self._figure(name.removeprefix("train_").replace("_", " "), value, run["shares"])
                    for name, value in event.items()
                    if name.startswith(("train_", "test_")) and value is not None
                ]
                text = "  ".join([f"{stage}: epoch {event['epoch']:>3}/{run['epochs']}", *figures])
                self._line(f"{text}  {event['seconds']:.1f} s")
            case "CheckpointRefused":
                self._warn(f"{stage}: {event['path']} is passed over: {event['problem']}")
            case "Interrupted":
                self._warn(f"{stage}: interrupted at step {event['step']:,}; the state is saved in {event['path']}")

    def _figure(self, name: str, value: float, shares: Sequence[str]) -> str:
        return f"{name} {figure(name.removeprefix('test ').replace(' ', '_'), value, shares)}"

    def _show(self, stage: str, share: float, text: str) -> None:
        if self._bars is not None and stage in self._tasks:
            self._bars.update(self._tasks[stage], completed=share, figures=text)

    def _end(self, stage: str) -> None:
        if self._bars is not None and stage in self._tasks:
            self._bars.remove_task(self._tasks.pop(stage))

    def _line(self, text: str, style: str | None = None) -> None:
        if not self.quiet:
            self.console.print(text, style=style, highlight=False, soft_wrap=True)

    def _warn(self, text: str) -> None:
        self.console.print(text, style="yellow", highlight=False, soft_wrap=True, markup=False)

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        self._tasks.clear()
