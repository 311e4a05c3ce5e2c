"""How many threads are worth having: as many as torch has, and no more than the control group lets run at once.

torch and OpenMP count the processors that the process may run on, but not a quota of processor time (Docker's
``--cpus``, a Kubernetes limit). A process of 32 threads with a quota of two is stopped for most of each period, in the
middle of a region whose threads wait for each other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch

CONTROL_GROUPS = Path("/sys/fs/cgroup")


def threads() -> int:
    """``torch.get_num_threads()``, as the user has set it, or the quota of processors rounded up where that is less."""
    limit = _quota()
    return torch.get_num_threads() if limit is None else min(torch.get_num_threads(), limit)


@functools.cache
def _quota() -> int | None:
    try:
        return quota(Path("/proc/self/cgroup").read_text(), CONTROL_GROUPS)
    except OSError:  # not Linux, or not for us to see
        return None


def quota(membership: str, root: Path) -> int | None:
    """The fewest processors that any of a process's control groups allows, rounded up; None where none limits them.

    ``membership`` is the content of /proc/self/cgroup, lines "number:controllers:/path"; ``root`` is where the groups
    are mounted. Reads both versions: ``cpu.max`` ("quota period", or "max period"), and ``cpu.cfs_quota_us`` (-1: no
    limit) beside ``cpu.cfs_period_us``.
    """
    found: list[float] = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += (_of_version_2(group) for group in _up(root, path))
        elif "cpu" in controllers.split(","):
            found += (_of_version_1(group) for group in _up(root / controllers, path))
    least = min(found, default=math.inf)
    return None if math.isinf(least) else max(1, math.ceil(least))


def _up(root: Path, path: str) -> Iterator[Path]:
    """The group and those it lies in; inside a container the path may name folders that only the host has."""
    inner = PurePosixPath(path.lstrip("/"))
    yield from (root / each for each in (inner, *inner.parents))


def _of_version_2(group: Path) -> float:
    numbers = _words(group / "cpu.max")
    return int(numbers[0]) / int(numbers[1]) if len(numbers) == 2 and numbers[0] != "max" else math.inf


def _of_version_1(group: Path) -> float:
    allowed, period = _words(group / "cpu.cfs_quota_us"), _words(group / "cpu.cfs_period_us")
    return int(allowed[0]) / int(period[0]) if allowed and period and int(allowed[0]) > 0 else math.inf


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
