"""What the training loop asks of examples, whatever they are: their number, a batch of some, what a batch weighs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from convscope.errors import ArgumentError


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Some examples, put together.

    ``inputs`` are what the model is called with once its task has made them ready: uint8 pictures (n, c, h, w), int64
    tokens (n, t), numbers. ``targets`` are tensors in any structure of tuples, lists, dicts and dataclasses, or None.
    ``examples`` is how many there are here; ``weight`` what the loss J is a mean over (examples, tokens, regions), a
    function of the examples' indices alone, so that every process knows that of the others' shares.
    """

    inputs: tuple[Tensor, ...]
    targets: Any
    examples: int
    weight: float

    def map(self, f: Callable[[Tensor], Tensor]) -> Batch:
        """``f`` of every tensor among inputs and targets, in their order: moves, pins, fills buffers."""
        return Batch(tuple(map(f, self.inputs)), map_tensors(self.targets, f), self.examples, self.weight)

    def tensors(self) -> list[Tensor]:
        """Every tensor among inputs and targets, in the order of ``map``."""
        return [*self.inputs, *each_tensor(self.targets)]


@runtime_checkable
class Examples(Protocol):
    """Examples of one kind, in memory or on disk.

    ``kind`` is the kind's name: "labelled", "boxes", "maps", "pairs", "sentences", "captions", "parallel".
    """

    kind: ClassVar[str]

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> Batch:
        """The examples at ``indices``, int64 (n,), in that order."""
        ...

    def select(self, indices: Tensor) -> Self:
        """Only the examples at ``indices``, in that order."""
        ...

    def weight(self, indices: Tensor) -> float:
        """The weight of the batch at ``indices``, without reading the examples."""
        ...

    def fingerprint(self, checksum: int = 0) -> int:
        """A CRC-32 that goes on from ``checksum`` and tells these examples from others; looks at some of them only."""
        ...

    @property
    def lengths(self) -> Tensor | None:
        """How long each example is, int64 (n,), for batches of similar length; None where they have no length."""
        ...

    @property
    def on_disk(self) -> bool:
        """Whether examples are read while training, so that it pays to read ahead."""
        ...

    def describe(self) -> dict[str, Any]:
        """For the run's folder, as JSON: first their number, under what they are called ("images"), then classes and
        whatever else must agree with another set's."""
        ...


def map_tensors(structure: Any, f: Callable[[Tensor], Tensor]) -> Any:
    """``structure`` with ``f`` applied to every tensor; numbers, texts and None stay. ArgumentError for anything that
    could hide a tensor."""
    if isinstance(structure, Tensor):
        return f(structure)
    if structure is None or isinstance(structure, int | float | str):
        return structure
    if isinstance(structure, tuple):
        parts = [map_tensors(part, f) for part in structure]
        return type(structure)(*parts) if hasattr(structure, "_fields") else tuple(parts)
    if isinstance(structure, list):
        return [map_tensors(part, f) for part in structure]
    if isinstance(structure, Mapping):
        return {name: map_tensors(part, f) for name, part in structure.items()}
    if dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        names = [field.name for field in dataclasses.fields(structure) if field.init]
        return dataclasses.replace(structure, **{name: map_tensors(getattr(structure, name), f) for name in names})
    raise ArgumentError("targets", type(structure).__name__, "tensors in tuples, lists, dicts or dataclasses")


def each_tensor(structure: Any) -> Iterator[Tensor]:
    """Every tensor of ``structure``, in the order of ``map_tensors``."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(structure, note)
    return iter(found)


def device_of(examples: Examples) -> torch.device:
    """Where the examples are kept: a GPU where they were moved to one, else the CPU."""
    home = getattr(examples, "device", None)
    return home if isinstance(home, torch.device) else torch.device("cpu")
