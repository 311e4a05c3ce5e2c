"""A worker's process: one stage of a job. ``python -m convscope.tasks.stages.worker``, asked by JSON on its input."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from convscope.errors import ConvscopeError
from convscope.tasks.stages.events import JobEvent
from convscope.tasks.stages.folder import StageFolder
from convscope.tasks.stages.job import Job
from convscope.tasks.stages.work import outcome_of, perform

_AGAIN_SECONDS = 2.0
_SAVING_SECONDS = 10.0  # for the batch under way and a checkpoint, once the calling process is gone


def main() -> None:
    asked: dict[str, Any] = json.load(sys.stdin)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_watch, args=(asked["life"],), daemon=True).start()

    def send(kind: str, **content: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(asked["tells"], json.dumps({"type": kind, **content}).encode() + b"\n")

    def tell(event: JobEvent) -> None:
        send(type(event).__name__, **dataclasses.asdict(event))

    try:
        stages = {stage.name: stage for stage in Job(asked["function"], asked["arguments"]).stages()}
        stage, job = stages[asked["stage"]], Path(asked["folder"])
        earlier = {name: outcome_of(StageFolder(job, name)) for name in stage.after}
        perform(stage, job, earlier, asked["threads"], tell, os.getpid())
    except ConvscopeError as problem:
        send("error", ours=True, text=getattr(problem, "problem", str(problem)))
        sys.exit(3)
    except Exception:
        send("error", ours=False, text=traceback.format_exc())
        sys.exit(1)


def _stop(number: int, frame: FrameType | None) -> None:
    """SIGTERM outside of a training: there is nothing to save. Should foreign code swallow the exception, it comes
    again every ``_AGAIN_SECONDS``."""
    signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
    raise SystemExit(128 + signal.SIGTERM)


def _watch(life: int) -> None:
    """When the calling process is gone, its end of the pipe is closed: stop as for SIGTERM, at once if that lasts."""
    os.read(life, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SAVING_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
