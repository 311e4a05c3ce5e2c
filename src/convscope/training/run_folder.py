"""The folder of a run: what was asked for, how it went, checkpoints on the way, the finished model.

config.json           model, data and configuration
history.csv           a row an epoch, written as the epochs end
events.jsonl          what happened, a JSON object a line (single batches left out)
checkpoints/          the newest few states of the run
watch/                activations, deltas and first-layer kernels after every epoch
model.safetensors     the finished model; metrics.json its figures on the test examples
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convscope.errors import ArgumentError, CheckpointError
from convscope.files import append_line, clear_unfinished
from convscope.tensorfile import explain, read_bytes, read_json, write_text
from convscope.training import checkpoints, events

_LOCK = "lock"


class RunFolder:
    """One process's hold on a run folder; a second one, of this or another process, is refused until ``close``.

    Raises ArgumentError for a folder that is in use, or that holds a run already (or none, to resume), and
    CheckpointError when it cannot be written.
    """

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        self.path = Path(path).expanduser().absolute()
        if resume and not (self.path / "config.json").is_file():
            raise ArgumentError("run_dir", str(path), "the folder of a run that was begun (it has no config.json)")
        try:
            self.states_dir.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as problem:
            raise CheckpointError(self.path, explain(problem), "Choose another run_dir") from problem
        try:
            # The lock goes with the process, even with one that is killed.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._lock, 32, 0).decode() or "another process"
            os.close(self._lock)
            raise ArgumentError("run_dir", str(path), f"a folder that no run is using (process {holder} is)") from None
        if not resume and (self.path / "config.json").exists():
            self.close()
            hint = "resume=True goes on with it; another run_dir starts afresh"
            raise ArgumentError("run_dir", str(path), "a folder without a run", hint)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        for folder in (self.path, self.states_dir):
            clear_unfinished(folder)

    @property
    def states_dir(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    def close(self) -> None:
        """Let others use the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def write_config(self, described: dict[str, Any]) -> None:
        write_text(self.path / "config.json", json.dumps(described, indent=2, ensure_ascii=False) + "\n")

    def read_config(self) -> dict[str, Any]:
        return read_config(self.path)

    def write_history(self, history: list[events.EpochDone]) -> None:
        """The whole table anew, so that rows after a resumed epoch's checkpoint are not there twice."""
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        rows = [each.row() for each in history]
        if rows:
            writer.writerow(rows[-1])
        writer.writerows(["" if row[name] is None else row[name] for name in rows[-1]] for row in rows)
        write_text(self.path / "history.csv", table.getvalue())

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        write_text(self.path / "metrics.json", json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")

    def note(self, event: events.Event) -> None:
        """Add an event to events.jsonl."""
        try:
            text = json.dumps(events.to_json(event), ensure_ascii=False, allow_nan=False)
            append_line(self.path / "events.jsonl", text)
        except OSError as problem:
            raise CheckpointError(self.path / "events.jsonl", explain(problem)) from problem

    def save_state(self, state: checkpoints.State, keep: int, epochs: int = 1) -> Path:
        """Write a checkpoint; the ``keep`` newest stay, and with more than one those of the last ``epochs``' ends."""
        path = self.state_at(state.position["step"])
        checkpoints.save_state(path, state)
        ends = {self.state_at(row["step"]) for row in state.history[-epochs:]} if epochs > 1 else set()
        for old in self.states()[keep:]:
            if old not in ends:
                old.unlink(missing_ok=True)
        return path

    def state_at(self, step: int) -> Path:
        """The checkpoint after so many steps, whether it is there or not."""
        return self.states_dir / f"step-{step:09d}.safetensors"

    def states(self) -> list[Path]:
        """The checkpoints, newest first."""
        return sorted(self.states_dir.glob("step-*.safetensors"), reverse=True)

    def newest_state(self) -> Iterator[events.CheckpointRefused | tuple[Path, bytes]]:
        """First the damaged checkpoints that had to be passed over, then path and content of the newest whole one.

        Nothing comes from a folder whose checkpoints were taken away before an epoch was done; CheckpointError when all
        are damaged, or gone although the run had got further.
        """
        if not self.states() and (self.model.exists() or (self.path / "history.csv").exists()):
            remedy = f"Start the run anew in another folder, or train on from {self.model.name} if it is there"
            raise CheckpointError(self.states_dir, "no checkpoint is left of a run that had made some", remedy)
        refused: CheckpointError | None = None
        for path in self.states():
            try:
                content = read_bytes(path)
                checkpoints.load_state(path, content)
                yield path, content
                return
            except CheckpointError as problem:
                refused = problem
                yield events.CheckpointRefused(path, problem.problem)
        if refused is not None:
            raise CheckpointError(
                self.states_dir, f"no whole checkpoint is left; the oldest: {refused.problem}", "Start the run anew"
            )


def read_config(path: Path) -> dict[str, Any]:
    """The config.json of run folder ``path``; CheckpointError when it is missing or damaged."""
    file = path / "config.json"
    described = read_json(file)
    match described:
        case {"model": None | dict(), "data": {"source": str()}, "config": dict()}:
            frozen, task = described.get("frozen", []), described.get("task", "")
            if isinstance(task, str) and isinstance(frozen, list) and all(isinstance(name, str) for name in frozen):
                return dict(described)
    raise CheckpointError(file, "not the configuration of a run, or damaged", "Start the run anew")


def new_run_dir(model: str, data: str, below: Path = Path("runs")) -> Path:
    """runs/<model>-<data>-<number>, the first number that is free; the folder is not made yet."""
    stem = "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in f"{model}-{data}")
    number = 1
    while (below / f"{stem}-{number:03d}").exists():
        number += 1
    return below / f"{stem}-{number:03d}"
