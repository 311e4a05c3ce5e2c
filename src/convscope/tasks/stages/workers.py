"""Stages side by side: one worker process each, which rebuilds the job from the name of its function.

A worker leads a session of its own, so that Ctrl-C reaches the calling process alone, which asks the workers to stop.
It inherits the job's lock, and notices by the end of a pipe when the calling process is gone: then it saves and stops.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convscope.tasks.stages import events
from convscope.tasks.stages.folder import StageError

OUTPUT = "output.txt"  # what a worker printed, in its stage's folder
_TAIL = 2000  # characters of it in the error of a worker that died
_SELECT_SECONDS = 0.2  # how long a signal may go unnoticed


@dataclasses.dataclass
class _Worker:
    stage: str
    process: subprocess.Popen[bytes]
    told: int  # the end of its pipe that is read
    output: Path
    rest: bytes = b""
    error: dict[str, Any] | None = None


class Crew:
    """The workers of a job in ``folder``. ``lock`` is the lock's descriptor, ``tell`` hears their events."""

    def __init__(
        self, function: str, arguments: dict[str, Any], folder: Path, lock: int, tell: Callable[[events.JobEvent], None]
    ) -> None:
        self.function, self.arguments, self.folder, self.lock, self.tell = function, arguments, folder, lock, tell
        self.running: dict[str, _Worker] = {}
        self._selector = selectors.DefaultSelector()
        self._life = os.pipe()  # (the workers' end, ours)

    def start(self, stage: str, threads: int) -> None:
        """A process for ``stage``, with ``threads`` should it begin now."""
        told, tells = os.pipe()
        output = self.folder / stage / OUTPUT
        output.parent.mkdir(parents=True, exist_ok=True)
        asked = {
            "function": self.function, "arguments": self.arguments, "folder": str(self.folder), "stage": stage,
            "threads": threads, "tells": tells, "life": self._life[0],
        }  # fmt: skip
        path = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
        with output.open("wb") as printed:
            process = subprocess.Popen(
                [sys.executable, "-m", "convscope.tasks.stages.worker"],
                stdin=subprocess.PIPE, stdout=printed, stderr=printed, pass_fds=(tells, self._life[0], self.lock),
                start_new_session=True, env={**os.environ, "PYTHONPATH": path},
            )  # fmt: skip
        os.close(tells)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(asked).encode())
        worker = _Worker(stage, process, told, output)
        self.running[stage] = worker
        self._selector.register(told, selectors.EVENT_READ, worker)

    def wait(self) -> list[str]:
        """Hear the workers for a moment; the stages that were finished in it. StageError for one that failed."""
        finished = []
        for key, _ in self._selector.select(_SELECT_SECONDS):
            worker: _Worker = key.data
            content = os.read(worker.told, 1 << 16)
            *lines, worker.rest = (worker.rest + content).split(b"\n")
            for line in lines:
                self._heard(worker, json.loads(line))
            if not content:
                self._ended(worker)
                finished.append(worker.stage)
        return finished

    def stop(self) -> None:
        """Ask all to stop, and wait: trainings save a checkpoint first. Interrupted meanwhile, it kills them."""
        try:
            for worker in self.running.values():
                worker.process.terminate()
            for worker in self.running.values():
                worker.process.wait()
        except BaseException:
            for worker in self.running.values():
                worker.process.kill()
                worker.process.wait()
            raise
        finally:
            for worker in [*self.running.values()]:
                self._forget(worker)

    def close(self) -> None:
        self.stop()
        self._selector.close()
        for end in self._life:
            os.close(end)

    def _heard(self, worker: _Worker, message: dict[str, Any]) -> None:
        kind = message.pop("type")
        if kind == "error":
            worker.error = message
        else:
            self.tell(getattr(events, kind)(**message))

    def _ended(self, worker: _Worker) -> None:
        code = worker.process.wait()
        self._forget(worker)
        if code == 0:
            return
        if worker.error is not None and not worker.error["ours"]:
            raise RuntimeError(f"stage {worker.stage!r} failed:\n{worker.error['text']}")
        if worker.error is not None:
            raise StageError(worker.stage, worker.error["text"])
        reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        printed = worker.output.read_text(errors="replace")[-_TAIL:].strip() if worker.output.is_file() else ""
        killed = (
            "It may have been killed for want of memory: fewer workers need less" if code == -signal.SIGKILL else ""
        )
        raise StageError(worker.stage, f"its process ended by {reason}" + (f": {printed}" if printed else ""), killed)

    def _forget(self, worker: _Worker) -> None:
        self._selector.unregister(worker.told)
        os.close(worker.told)
        del self.running[worker.stage]
        with contextlib.suppress(OSError):
            if worker.output.stat().st_size == 0:
                worker.output.unlink()
