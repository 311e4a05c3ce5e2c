"""Training with torch on an NVIDIA GPU: channels-last, mixed precision, and the whole step as one CUDA graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from convscope.data.examples import Batch
from convscope.training.optimisers import capturable
from convscope.training.steppers.base import Assignment, Share, reseed
from convscope.training.steppers.torch import TorchStepper

# Eager steps before the capture: optimisers make their memory and cuDNN chooses its kernels in the first ones.
_WARM_UP = 3
# torch.compile takes about a minute, which a short run does not win back.
_COMPILE_FROM = 2_000  # descent steps


class GpuStepper(TorchStepper):
    """A full batch's step, from what the feed gives to moved parameters, is captured once and replayed by one launch.

    Batches of another size or shape (an epoch's last, sentences of another length) run eagerly, and so does everything
    where capturing fails; ``fallback`` then says why. Sums are kept on the GPU and read every ``reads_every`` steps.
    Whole runs repeat bit for bit only as far as cuDNN's kernels do.
    """

    reads_every = 20

    def __init__(self, assignment: Assignment) -> None:
        config = assignment.config
        self.capturable = assignment.group.world == 1 and config.compile is not False and capturable(config.optimiser)
        super().__init__(assignment)
        self.fallback: str | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream(assignment.device)  # type: ignore[no-untyped-call]
        self._full = assignment.config.batch_size
        self._buffers: Batch | None = None
        self._weight = torch.zeros((), dtype=torch.float64, device=assignment.device)  # of the batch in the buffers
        self._warm = 0
        compile_ = assignment.config.compile
        compiles = not self.scaled and (compile_ or (compile_ is None and assignment.steps >= _COMPILE_FROM))
        self._compiled = torch.compile(self.model) if compiles else self.model

    def step(self, batch: Batch, seed: int, rate: float, whole: Share) -> None:
        if not self.capturable or batch.examples != self._full:
            super().step(batch, seed, rate, whole)
            return
        if self._buffers is None:
            self._buffers = batch.map(torch.clone)
        pairs = list(zip(_tensors(self._buffers), _tensors(batch), strict=True))
        if any(mine.shape != given.shape or mine.dtype != given.dtype for mine, given in pairs):
            super().step(batch, seed, rate, whole)
            return
        self.descent.set_rate(rate)
        reseed(seed, self.device)
        self._now.examples += whole.examples
        self._now.weight += whole.weight
        self._weight.fill_(batch.weight)
        for mine, given in pairs:
            mine.copy_(given, non_blocking=True)
        if self._graph is None and self._warm >= _WARM_UP and self.fallback is None:
            self._capture()
        if self._graph is not None:
            self._graph.replay()
            return
        self._warm += 1
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            self._whole_step()
        torch.cuda.current_stream(self.device).wait_stream(self._stream)

    def _whole_step(self) -> None:
        """One step on the fixed buffers, made of GPU work alone."""
        assert self._buffers is not None
        loss, counts = self._forward_backward(self._buffers)
        self._add_on_device(loss, counts, self._weight)
        self.descent.apply()

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._whole_step()
            self._graph = graph
        except RuntimeError as problem:  # a layer or optimiser that waits for the GPU in its step
            self.fallback = str(problem).split("\n")[0]
            torch.cuda.synchronize(self.device)
            self._leave_capture()

    def _leave_capture(self) -> None:
        """A capture that failed leaves torch's generator waiting for its end: every later draw on the GPU would raise
        "Offset increment outside graph capture". A capture that ends well lets it go."""
        with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=self._stream):
            self._weight.zero_()

    def forward(self, inputs: tuple[Tensor, ...], examples: int) -> Any:
        return self._compiled(*inputs) if examples == self._full else self.model(*inputs)

    def close(self) -> None:
        self._graph = None
        torch.cuda.synchronize(self.device)


def _tensors(batch: Batch) -> list[Tensor]:
    leaves = pytree.tree_leaves((batch.inputs, batch.targets))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]
