"""Peak memory of training steps: the growth of a fresh process over its idle state, torch loaded and warm."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from convscope.errors import ConvscopeError
from convscope.native.benchmarking.contestants import CONTESTANTS, Subject

STEPS = 3


def growth(subject: Subject, contestant: str, batch_size: int, threads: int) -> int:
    """Bytes that the process grows by at its peak during some steps; parameters and their gradients are part of it."""
    context = multiprocessing.get_context("spawn")  # a process that has computed nothing yet
    here, there = context.Pipe()
    process = context.Process(target=_measure, args=(there, subject, contestant, batch_size, threads))
    process.start()
    there.close()
    try:
        return int(here.recv())
    except EOFError:
        raise ConvscopeError(f"measuring the memory of {contestant!r} ended with code {process.exitcode}") from None
    finally:
        process.join()


def _measure(results: Connection, subject: Subject, contestant: str, batch_size: int, threads: int) -> None:
    torch.set_num_threads(threads)
    images, targets = subject.batch(batch_size)
    # Torch's first steps load what stays loaded: libraries, thread pools. They belong to the idle process.
    warm_images, warm_targets = subject.batch(2)
    warm = CONTESTANTS[contestant](subject)
    warm.step(warm_images, warm_targets)
    idle = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    fresh = CONTESTANTS[contestant](subject)
    for _ in range(STEPS):
        fresh.step(images, targets)
    results.send(_status("VmHWM") - idle)
    results.close()


def _status(field: str) -> int:
    """A figure of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise ConvscopeError(f"this system does not tell {field}")
