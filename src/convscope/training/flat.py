"""All trained parameters of a model as views of one buffer, and their gradients as views of a second one.

One call then zeroes, clips, averages over processes or steps everything: for LeNet-5's ten tensors Adam takes one pass
over 61,706 numbers instead of ten.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import nn

from convscope.errors import ArgumentError

EXTRA = 4  # loss sum, right answers, wish to stop, one to spare


@dataclasses.dataclass(frozen=True)
class Slice:
    """Where parameter ``name`` lies in the flat buffer."""

    name: str
    parameter: nn.Parameter
    start: int
    stop: int


class FlatParameters:
    """``values`` and ``gradients``, both (numbers,), whose memory the model's parameters and their ``.grad`` share.

    Parameters keep the order that they have in the model. Frozen ones (``requires_grad`` False) stay where they are.
    Raises ArgumentError when nothing is trained, or when types or devices are mixed.
    """

    def __init__(self, model: nn.Module) -> None:
        named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
        if not named:
            raise ArgumentError("model", type(model).__name__, "a model with at least one parameter that is trained")
        kinds = {(each.dtype, each.device) for _, each in named}
        if len(kinds) > 1:
            raise ArgumentError("model", sorted(map(str, kinds)), "parameters of one type on one device")
        self.slices: list[Slice] = []
        total = 0
        for name, parameter in named:
            self.slices.append(Slice(name, parameter, total, total + parameter.numel()))
            total += parameter.numel()
        first = named[0][1]
        self.values = torch.empty(total, dtype=first.dtype, device=first.device)
        # A few numbers behind the gradients travel with them when several processes add theirs up: one exchange a step.
        self.exchange = torch.zeros(total + EXTRA, dtype=first.dtype, device=first.device)
        self.gradients, self.extra = self.exchange[:total], self.exchange[total:]
        for each in self.slices:
            # A channels-last weight keeps its order in memory: the buffer's slice is viewed with the same strides.
            value = torch.as_strided(self.values, each.parameter.shape, _dense_strides(each.parameter), each.start)
            value.copy_(each.parameter.detach())
            each.parameter.data = value
        self.attach_gradients()

    def attach_gradients(self) -> None:
        """Point every parameter's ``.grad`` into ``gradients`` (again, where a layer has put its own there)."""
        for each in self.slices:
            strides = each.parameter.stride()
            each.parameter.grad = torch.as_strided(self.gradients, each.parameter.shape, strides, each.start)

    def intact(self) -> bool:
        """Whether parameters and gradients are still views of the buffers; ``model.to(…)``, for one, parts them."""
        value, gradient = self.values.data_ptr(), self.gradients.data_ptr()
        size = self.values.element_size()
        return all(
            each.parameter.data_ptr() == value + each.start * size
            and each.parameter.grad is not None
            and each.parameter.grad.data_ptr() == gradient + each.start * size
            for each in self.slices
        )

    def __iter__(self) -> Iterator[Slice]:
        return iter(self.slices)

    def view(self, flat: torch.Tensor, place: Slice) -> torch.Tensor:
        """The part of ``flat`` (numbers,) that belongs to a parameter, in its shape."""
        return torch.as_strided(
            flat, place.parameter.shape, place.parameter.stride(), flat.storage_offset() + place.start
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


def _dense_strides(parameter: nn.Parameter) -> tuple[int, ...]:
    """The parameter's strides where they leave no gaps (contiguous, channels-last), else contiguous ones."""
    dense = 1
    for size, stride in sorted(zip(parameter.shape, parameter.stride(), strict=True), key=lambda each: each[1]):
        if size == 1:
            continue
        if stride != dense:
            return torch.empty(parameter.shape, device="meta").stride()
        dense *= size
    return parameter.stride()
