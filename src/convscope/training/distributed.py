"""Several processes, on one machine or many, that train one model together under ``torchrun``.

Each takes its share of every batch; gradients, loss and counts are added up in one exchange a step. The result
is that of one process with the whole batch, but for the order in which floating-point sums are taken. Batch
normalisation sees a process's own share only, as is usual, unless ``Config.sync_batch_norm`` is set; dropout draws in
each process for itself.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import queue
import threading
from collections.abc import Iterator

import torch
from torch import Tensor, distributed, nn

from convscope.errors import LostProcessError
from convscope.layers.flat import FlatParameters


class Group:
    """One process alone; what ``Processes`` does, done trivially."""

    rank = 0
    world = 1

    def add_up(self, parameters: FlatParameters, own: float, whole: float) -> None:
        """Turn mean gradients over a share of weight ``own`` into those over the batch of weight ``whole``, in every
        process; sum the extra numbers behind them."""

    def gather(self, values: Tensor) -> Tensor:
        """The ``values`` of all processes, each of one shape, stacked: (world, …)."""
        return values.unsqueeze(0)

    def same_start(self, model: nn.Module) -> None:
        """Give every process the first one's weights and buffers."""

    def same_buffers(self, model: nn.Module) -> None:
        """Give every process the first one's buffers (running means of batch normalisation)."""

    def same_bytes(self, content: bytes) -> bytes:
        """The first process's ``content``, in every process."""
        return content

    @property
    def writes(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0


# Seconds that the store may take to answer when a process was lost: it may have been on the machine that vanished.
_ANSWER = 3.0


class Processes(Group):
    """A process of several, through a group of torch.distributed's of its own that waits at most ``timeout`` seconds in
    an exchange. Machines need not be ready at the same time, so that coming together (the default group) has half an
    hour; once together they take the same steps."""

    def __init__(self, device: torch.device, timeout: float) -> None:
        self.rank = distributed.get_rank()
        self.world = distributed.get_world_size()
        self.device = device
        with _told_apart():
            self._group = distributed.new_group(timeout=datetime.timedelta(seconds=timeout))

    def leave(self) -> None:
        """Give the connections back."""
        distributed.destroy_process_group(self._group)

    def add_up(self, parameters: FlatParameters, own: float, whole: float) -> None:
        if own and whole:
            parameters.gradients.mul_(own / whole)
        else:
            parameters.gradients.zero_()  # the mean over nothing is no number, and 0 times that is none either
        with _told_apart():
            distributed.all_reduce(parameters.exchange, group=self._group)

    def gather(self, values: Tensor) -> Tensor:
        found = [torch.empty_like(values) for _ in range(self.world)]
        with _told_apart():
            distributed.all_gather(found, values.contiguous(), group=self._group)
        return torch.stack(found)

    def same_start(self, model: nn.Module) -> None:
        with torch.no_grad(), _told_apart():
            for each in [*model.parameters(), *model.buffers()]:
                distributed.broadcast(each.data, 0, group=self._group)

    def same_buffers(self, model: nn.Module) -> None:
        with _told_apart():
            for each in model.buffers():
                distributed.broadcast(each, 0, group=self._group)

    def same_bytes(self, content: bytes) -> bytes:
        with _told_apart():
            return self._same_bytes(content)

    def _same_bytes(self, content: bytes) -> bytes:
        length = torch.tensor(len(content), device=self.device)
        distributed.broadcast(length, 0, group=self._group)
        if not length:
            return b""
        shared = torch.empty(int(length), dtype=torch.uint8, device=self.device)
        if self.rank == 0:
            shared.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        distributed.broadcast(shared, 0, group=self._group)
        return shared.cpu().numpy().tobytes()


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    """LostProcessError for an exchange that another process did not come to."""
    try:
        yield
    except RuntimeError as problem:
        reason = str(problem).split("\n")[0].rpartition("] ")[2].partition(". ")[0]  # its first sentence
        message = f"another process of this job has ended or cannot be reached ({reason.strip(' .')})"
        raise LostProcessError(message, silent=not _first_to_tell()) from problem


def _first_to_tell() -> bool:
    """Whether this process is the first to say that one was lost; of those that are left one is enough. The store that
    they met at is kept by torchrun itself; where it went with the machine that is lost, everyone speaks."""
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask() -> None:
        try:
            store = distributed.distributed_c10d._get_default_store()
            answers.put(int(store.add("convscope/lost", 1)) == 1)
        except (RuntimeError, ValueError):
            answers.put(True)

    # A machine whose network is gone does not refuse: it never answers, and the store's own patience is a quarter of an
    # hour (that of TCP).
    threading.Thread(target=ask, daemon=True, name="convscope-lost").start()
    try:
        return answers.get(timeout=_ANSWER)
    except queue.Empty:
        return True


def launched() -> bool:
    """Whether torchrun (or the like) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def group(device: torch.device, timeout: float) -> Iterator[Group]:
    """The group this process belongs to: joined here under torchrun (gloo on CPUs, NCCL on GPUs), left at the end.
    Another process that does not come to an exchange within ``timeout`` seconds counts as lost."""
    if not launched():
        yield Group()
        return
    joined_here = not distributed.is_initialized()
    if joined_here:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    processes = Processes(device, timeout)
    try:
        yield processes
    finally:
        processes.leave()
        if joined_here:
            distributed.destroy_process_group()


def own_device(device: str) -> torch.device:
    """``device`` of the configuration as this process's own: "auto" is a GPU where there is one, and "cuda" without a
    number the GPU of this process's place on its machine (LOCAL_RANK)."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % max(torch.cuda.device_count(), 1))
    return torch.device(device)
