"""All parameters of a model as views of one buffer, and their gradients as views of a second one.

One call then zeroes, clips, averages over processes or steps everything: for LeNet-5's ten tensors Adam takes one pass
over 61,706 numbers instead of ten. The native engine reads and writes the same two buffers.
"""

from __future__ import annotations

import dataclasses
import math
import mmap
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from convscope.errors import ArgumentError

EXTRA = 32  # the loss, the wish to stop, two for each number that the objective counts; two whole lines of the cache


@dataclasses.dataclass(frozen=True)
class Slice:
    """Where parameter ``name`` lies in the flat buffer, and how: of the shape and strides that it had when it was laid
    there. A parameter that has others by now no longer fits."""

    name: str
    parameter: nn.Parameter
    start: int
    stop: int
    shape: torch.Size
    strides: tuple[int, ...]


class FlatParameters:
    """``values`` and ``gradients``, both (numbers,), whose memory the trained parameters and their ``.grad`` share.

    Parameters keep the order that they have in the model. Frozen ones (``requires_grad`` False) stay where they are,
    unless ``whole``: then ``memory`` holds, behind the trained ones and ``EXTRA`` numbers, the frozen ones and
    ``reserve`` numbers for its user, ``gradient_memory`` is as long, and no ``.grad`` is touched. ``contiguous`` gives
    every parameter torch's plain order; else a channels-last weight keeps its own. Without ``move`` places are laid
    out, but every parameter stays where it is until ``take``. On a CPU each parameter has a storage of its own over its
    part of the buffer: saving one layer saves one layer. Raises ArgumentError when nothing is trained (unless
    ``whole``), or when types or devices are mixed.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        whole: bool = False,
        contiguous: bool = False,
        reserve: int = 0,
        move: bool = True,
    ) -> None:
        everything = list(model.named_parameters())
        named = [each for each in everything if each[1].requires_grad]
        frozen = [each for each in everything if not each[1].requires_grad] if whole else []
        if not named and not whole:
            raise ArgumentError("model", type(model).__name__, "a model with at least one parameter that is trained")
        kinds = {(each.dtype, each.device) for _, each in named + frozen}
        if len(kinds) > 1:
            raise ArgumentError("model", sorted(map(str, kinds)), "parameters of one type on one device")
        dtype, device = kinds.pop() if kinds else (torch.float32, torch.device("cpu"))
        self.slices, total = _places(named, 0, contiguous)
        self.frozen, length = _places(frozen, total + EXTRA, contiguous)
        self.reserved = slice(length, length + reserve)
        with torch.inference_mode(False):  # what is made here outlives any inference mode
            self.memory = _zeros(length + reserve, dtype, device)
            # A few numbers behind the gradients travel with them when several processes add theirs up: one exchange a
            # step. The rest is never written where nothing is trained, so the system never lends memory for it.
            self.gradient_memory = _zeros(length + reserve, dtype, device)
            self.values, self.gradients = self.memory[:total], self.gradient_memory[:total]
            self.exchange = self.gradient_memory[: total + EXTRA]
            self.extra = self.exchange[total:]
        if move:
            for each in (*self.slices, *self.frozen):
                self.take(each)
        if not whole:
            self.attach_gradients()

    def take(self, place: Slice) -> torch.Tensor:
        """Move a parameter's numbers into the buffer, make it a view of them, and return that view."""
        old = place.parameter.detach()
        if old.shape != place.shape:
            wanted = f"the shape it was laid out with, {tuple(place.shape)}"
            raise ArgumentError("model", f"{place.name} of shape {tuple(old.shape)}", wanted)
        slot = self.slot(self.memory, place)
        slot.copy_(old)
        place.parameter.data = slot
        return slot

    def attach_gradients(self) -> None:
        """Point every trained parameter's ``.grad`` into ``gradients`` (again, where a layer has put its own there)."""
        for each in self.slices:
            each.parameter.grad = self.slot(self.gradient_memory, each)

    def intact(self) -> bool:
        """Whether parameters and gradients are still views of the buffers; ``model.to(…)``, for one, parts them."""
        gradient, size = self.gradients.data_ptr(), self.values.element_size()
        return self.values_intact() and all(
            each.parameter.grad is not None
            and (each.start == each.stop or each.parameter.grad.data_ptr() == gradient + each.start * size)
            for each in self.slices
        )

    def values_intact(self) -> bool:
        """Whether all parameters are still views of the buffer."""
        return all(map(self.at_home, (*self.slices, *self.frozen)))

    def at_home(self, place: Slice) -> bool:
        """Whether the parameter is the buffer's part that was laid out for it: place, shape, order and type."""
        parameter = place.parameter
        if parameter.dtype != self.memory.dtype or parameter.shape != place.shape:
            return False
        address = self.memory.data_ptr() + place.start * self.memory.element_size()
        at = parameter.data_ptr() == address or place.start == place.stop
        return at and parameter.stride() == place.strides

    def __iter__(self) -> Iterator[Slice]:
        return iter(self.slices)

    def view(self, flat: torch.Tensor, place: Slice) -> torch.Tensor:
        """The part of ``flat`` (numbers,) that belongs to a parameter, in its shape."""
        return torch.as_strided(flat, place.shape, place.strides, flat.storage_offset() + place.start)

    def slot(self, flat: torch.Tensor, place: Slice) -> torch.Tensor:
        """``view``, with a storage of its own where that is possible: it cannot be resized, and what is saved, counted
        or freed by storages is this part alone."""
        with torch.inference_mode(False):
            if flat.device.type != "cpu" or flat.dtype not in (torch.float32, torch.float64):
                return self.view(flat, place)
            part = torch.from_numpy(flat.numpy()[place.start : place.stop])
            # not as_strided, whose result keeps ``part`` and so counts as two users of the storage
            return torch.empty(0, dtype=flat.dtype, device="cpu").set_(
                part.untyped_storage(), 0, place.shape, place.strides
            )

    def segments(self, factors: list[float]) -> list[tuple[float, int, int]]:
        """Neighbouring slices with the same factor (one a slice) joined: (factor, start, stop) each."""
        joined: list[tuple[float, int, int]] = []
        for factor, each in zip(factors, self.slices, strict=True):
            if joined and joined[-1][0] == factor:
                joined[-1] = (factor, joined[-1][1], each.stop)
            else:
                joined.append((factor, each.start, each.stop))
        return joined


def _zeros(length: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros, on a CPU in pages that the system lends when they are first written: torch.zeros writes all of them."""
    kind = {torch.float32: np.float32, torch.float64: np.float64}.get(dtype)
    if device.type != "cpu" or kind is None or not length or not hasattr(mmap, "MAP_PRIVATE"):
        return torch.zeros(length, dtype=dtype, device=device)
    pages = mmap.mmap(-1, length * np.dtype(kind).itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.from_numpy(np.frombuffer(pages, kind))


def _places(named: list[tuple[str, nn.Parameter]], start: int, contiguous: bool) -> tuple[list[Slice], int]:
    found = []
    for name, parameter in named:
        # A channels-last weight keeps its order in memory: the buffer's slice is viewed with the same strides.
        strides = _plain_strides(parameter) if contiguous else _dense_strides(parameter)
        found.append(Slice(name, parameter, start, start + parameter.numel(), parameter.shape, strides))
        start += parameter.numel()
    return found, start


def _plain_strides(tensor: torch.Tensor) -> tuple[int, ...]:
    return tuple(math.prod(max(size, 1) for size in tensor.shape[axis + 1 :]) for axis in range(tensor.ndim))


def _dense_strides(tensor: torch.Tensor) -> tuple[int, ...]:
    """The tensor's strides where they leave no gaps (contiguous, channels-last), else contiguous ones."""
    dense = 1
    for size, stride in sorted(zip(tensor.shape, tensor.stride(), strict=True), key=lambda each: each[1]):
        if size == 1:
            continue
        if stride != dense:
            return _plain_strides(tensor)
        dense *= size
    return tensor.stride()
