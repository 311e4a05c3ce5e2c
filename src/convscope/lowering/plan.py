"""The description of a network that the engine is built from: records in topological order, parameters by name.

A plan names parameters as the model does ("c1.weight"); ``Plan.bind`` turns names into places in the flat buffers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch

Shape = tuple[int, int, int]
Attribute = int | float | list[int] | list[float] | list[list[int]]


@dataclasses.dataclass(frozen=True)
class Record:
    """One layer. ``inputs`` and ``output`` are value numbers (0 is the image; losses have no output).

    ``parameters`` and ``state`` map the engine's name to the model's, e.g. {"weight": "c1.weight"}.
    """

    kind: str
    name: str
    inputs: tuple[int, ...]
    output: int | None
    shape: Shape | None  # of the output, for one image
    attributes: Mapping[str, Attribute] = dataclasses.field(default_factory=dict)
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    state: Mapping[str, str] = dataclasses.field(default_factory=dict)
    trainable: bool = True


@dataclasses.dataclass(frozen=True)
class Constant:
    """Numbers that the plan needs beside the model's own parameters; ``value()`` gives them as they are now, (size,).

    For example the slope and offset that evaluation-mode batch normalisation has at this moment.
    """

    name: str
    size: int
    value: Callable[[], torch.Tensor]
    fixed: bool  # never changes, so it need not be asked for again


@dataclasses.dataclass(frozen=True)
class Output:
    """A value that the plan returns: its number and the shape that torch gives it, the batch left out."""

    number: int
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """``structure`` has the model's return value with an index into ``outputs`` in the place of each tensor.

    ``training`` says whether a record draws random numbers or uses the batch's statistics. ``counters`` are the names
    of the ``num_batches_tracked`` buffers that a training step advances, one entry a use; ``needs_several`` names the
    first batch normalisation of single values, which is undefined for a batch of one.
    """

    input_shape: Shape
    records: tuple[Record, ...]
    outputs: tuple[Output, ...]
    structure: Any
    constants: tuple[Constant, ...] = ()
    scratch: Mapping[str, int] = dataclasses.field(default_factory=dict)  # state of the plan's own: name → size
    training: bool = False
    counters: tuple[str, ...] = ()
    needs_several: str | None = None

    @property
    def parameter_names(self) -> frozenset[str]:
        """The model's parameters that the plan reads."""
        own = {each.name for each in self.constants}
        return frozenset(name for record in self.records for name in record.parameters.values()) - own

    @property
    def trained_names(self) -> frozenset[str]:
        """The model's parameters that some record gives a gradient to."""
        return frozenset(name for record in self.records if record.trainable for name in record.parameters.values())

    def bind(self, parameters: Mapping[str, int], state: Mapping[str, int]) -> list[dict[str, Any]]:
        """The records as the engine takes them, with places (in floats) for names."""
        return [
            {
                "kind": record.kind,
                "name": record.name,
                "inputs": list(record.inputs),
                **({} if record.output is None else {"output": record.output}),
                "attributes": dict(record.attributes),
                "parameters": {key: parameters[name] for key, name in record.parameters.items()},
                "state": {key: state[name] for key, name in record.state.items()},
                "trainable": record.trainable,
            }
            for record in self.records
        ]

    def describe(self) -> str:
        """One line a record, for people."""
        lines = []
        for record in self.records:
            sources = ", ".join(str(number) for number in record.inputs)
            target = "" if record.output is None else f" → {record.output}"
            attributes = ", ".join(f"{key}={_short(value)}" for key, value in record.attributes.items())
            lines.append(f"{record.name}: {record.kind}({attributes}) {sources}{target}")
        return "\n".join(lines)


def _short(value: Attribute) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"
