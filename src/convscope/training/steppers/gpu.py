"""Training with torch on an NVIDIA GPU: channels-last, mixed precision, and the whole step as one CUDA graph."""

from __future__ import annotations

from typing import Any

import torch

from convscope.training.steppers.base import Task, reseed
from convscope.training.steppers.torch import TorchStepper

# Eager steps before the capture: optimisers make their memory and cuDNN chooses its kernels in the first ones.
_WARM_UP = 3
# torch.compile takes about a minute, which a short run does not win back.
_COMPILE_FROM = 2_000  # descent steps


class GpuStepper(TorchStepper):
    """A full batch's step, from uint8 pictures to moved parameters, is captured once and then replayed by one launch.

    Batches of another size (an epoch's last) run eagerly, and so does everything where capturing fails; ``fallback``
    then says why. Sums are kept on the GPU and read every ``reads_every`` steps. Whole runs repeat bit for bit only as
    far as cuDNN's kernels do.
    """

    reads_every = 20

    def __init__(self, task: Task) -> None:
        alone = task.group.world == 1
        self.capturable = alone and task.config.compile is not False
        super().__init__(task)
        self.fallback: str | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream(task.device)  # type: ignore[no-untyped-call]
        self._full = task.config.batch_size
        self._images: torch.Tensor | None = None
        self._targets: torch.Tensor | None = None
        self._warm = 0
        compiles = task.config.compile or (task.config.compile is None and task.steps >= _COMPILE_FROM)
        self._compiled = torch.compile(self.model) if compiles else self.model

    def step(self, images: torch.Tensor, targets: torch.Tensor, seed: int, rate: float, whole: int) -> None:
        if not self.capturable or len(targets) != self._full:
            super().step(images, targets, seed, rate, whole)
            return
        self.descent.set_rate(rate)
        reseed(seed, self.task.device)
        self._now.images += whole
        if self._images is None or self._targets is None:
            self._images, self._targets = images.clone(), targets.clone()
        self._images.copy_(images, non_blocking=True)
        self._targets.copy_(targets, non_blocking=True)
        if self._graph is None and self._warm >= _WARM_UP and self.fallback is None:
            self._capture()
        if self._graph is not None:
            self._graph.replay()
            return
        self._warm += 1
        self._stream.wait_stream(torch.cuda.current_stream(self.task.device))
        with torch.cuda.stream(self._stream):
            self._whole_step()
        torch.cuda.current_stream(self.task.device).wait_stream(self._stream)

    def _whole_step(self) -> None:
        """One step on the fixed buffers, made of GPU work alone."""
        assert self._images is not None
        assert self._targets is not None
        loss, correct = self._forward_backward(self._images, self._targets)
        self._count_and_descend(loss, correct, self._full, self._full)

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._whole_step()
            self._graph = graph
        except RuntimeError as problem:  # a layer or optimiser that waits for the GPU in its step
            self.fallback = str(problem).split("\n")[0]
            torch.cuda.synchronize(self.task.device)

    def forward(self, x: torch.Tensor) -> Any:
        return self._compiled(x) if len(x) == self._full else self.model(x)

    def close(self) -> None:
        self._graph = None
        torch.cuda.synchronize(self.task.device)
