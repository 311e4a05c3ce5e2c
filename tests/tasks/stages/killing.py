"""``python killing.py FOLDER [POINT …]``: the digits job killed at points, called again, compared with one left alone.

Points are counted in calls that change the file system: the process is gone before or after the n-th of them. Every
try is a fork of this one process, which has imported everything and works on one thread. Prints, as JSON, the number of
points and for every tried one how the first call ended and what differs after the second.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.tasks.stages.jobs import differing, digits, result

from convscope.tasks.stages import run_job

CHANGING = (
    (pathlib.Path, "replace"), (pathlib.Path, "rename"), (pathlib.Path, "unlink"), (pathlib.Path, "mkdir"),
    (pathlib.Path, "write_text"), (os, "ftruncate"), (os, "fsync"),
)  # fmt: skip


def counting(kill_at: float) -> Callable[[], int]:
    """Count the calls; ``kill_at`` n is before the n-th, n + 0.5 after it."""
    count = 0

    def wrap(plain: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            mine = count
            if mine == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            done = plain(*arguments, **named)
            if mine + 0.5 == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return called

    for place, name in CHANGING:
        setattr(place, name, wrap(getattr(place, name)))
    return lambda: count


def forked(work: Callable[[], object]) -> int:
    """The exit status of ``work`` in a process of its own."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    os._exit(0)


def main() -> None:
    folder, points = Path(sys.argv[1]), [float(each) for each in sys.argv[2:]]
    torch.set_num_threads(1)
    before = [getattr(place, name) for place, name in CHANGING]

    def undisturbed() -> None:
        calls = counting(-1)
        run_job(digits(), folder / "whole")
        (folder / "calls").write_text(str(calls()))

    undisturbed()  # in this process: what it imports, the forks need not
    for (place, name), plain in zip(CHANGING, before, strict=True):
        setattr(place, name, plain)
    whole = result(folder / "whole")
    total = int((folder / "calls").read_text())
    tried = []
    for share in points:
        point, job = round(2 * share * total) / 2, folder / f"killed-{share}"

        def killed(job: Path = job, point: float = point) -> None:
            counting(point)
            run_job(digits(), job)

        first = forked(killed)
        second = forked(lambda job=job: run_job(digits(), job))  # type: ignore[misc]
        tried.append({"point": point, "first": first, "second": second, "differing": differing(whole, result(job))})
    print(json.dumps({"points": total, "names": len(whole), "tried": tried}))


if __name__ == "__main__":
    main()
