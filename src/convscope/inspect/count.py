"""What a model costs, layer by layer: parameters, multiply-adds, operations, activations; and what the same layer would
cost as a dense matrix, which is what sparse connection and shared parameters save."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from convscope.columns import ruled
from convscope.displays import Shown
from convscope.errors import UnknownNameError
from convscope.graph.calls import Shape, Step, walk
from convscope.inspect.cost import connected_maps, cost, outputs
from convscope.inspect.dependence import along


@dataclasses.dataclass(frozen=True)
class Dense:
    """A convolution written as one matrix from all its input units to all its output units.

    ``elements`` = inputs × outputs; ``operations`` of the full product, inputs multiplications and inputs − 1
    additions an output; ``nonzero`` of the elements are connections that exist (padding is not an input);
    ``parameters`` of the shared kernels fill them.
    """

    elements: int
    operations: int
    nonzero: int
    parameters: int

    @property
    def sparsity(self) -> float:
        """Elements of the matrix for every connection that exists."""
        return self.elements / max(self.nonzero, 1)

    @property
    def sharing(self) -> float:
        """Connections that every stored weight serves."""
        return self.nonzero / max(self.parameters, 1)


@dataclasses.dataclass(frozen=True)
class LayerCount:
    """One call: ``output_shape`` without the batch, None for what is no tensor; ``parameters`` of a module called twice
    are counted at its first call. ``dense`` is given for convolutions."""

    name: str
    kind: str
    input_shapes: tuple[Shape, ...]
    output_shape: Shape | None
    parameters: int
    multiply_adds: int
    operations: int
    activations: int
    dense: Dense | None


@dataclasses.dataclass(frozen=True)
class Count(Shown, Sequence[LayerCount]):
    """All calls in forward order, and the totals for one picture; ``counts["conv1"]`` looks one up by name.

    ``input_shape`` is one input's, or the shapes of several; ``parameters`` are all the model has, ``trainable`` those
    that ask for a gradient, ``uncalled`` those of layers that evaluation does not run (auxiliary classifiers, for
    example).
    """

    layers: tuple[LayerCount, ...]
    input_shape: Shape | tuple[Shape, ...]
    parameters: int
    trainable: int
    uncalled: int

    @property
    def input_size(self) -> str:
        """``input_shape`` for people: "3×32×32", or "3×32×32 and 12" of two inputs."""
        several = [each for each in self.input_shape if isinstance(each, tuple)]
        return " and ".join("×".join(map(str, each)) for each in several or (self.input_shape,))

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def operations(self) -> int:
        return sum(layer.operations for layer in self.layers)

    @property
    def activations(self) -> int:
        return sum(layer.activations for layer in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerCount]:
        return iter(self.layers)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            for layer in self.layers:
                if layer.name == key:
                    return layer
            raise UnknownNameError("layer", key, [layer.name for layer in self.layers])
        return self.layers[key]

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("layer", "kind", "output", "parameters", "multiply-adds", "operations", "activations")
        ]
        for layer in self.layers:
            shape = "×".join(map(str, layer.output_shape)) if layer.output_shape is not None else "–"
            numbers = (layer.parameters, layer.multiply_adds, layer.operations, layer.activations)
            rows.append((layer.name, layer.kind, shape, *(f"{number:,}" for number in numbers)))
        totals = (self.parameters, self.multiply_adds, self.operations, self.activations)
        rows.append(("total", "", self.input_size + " in", *(f"{number:,}" for number in totals)))
        text = ruled(rows, left=3)
        if self.uncalled:
            text += f"\n{self.uncalled:,} of the parameters belong to layers that only training calls."
        return text


def count(model: nn.Module, input_shape: Sequence[Any] | None = None) -> Count:
    """Count what ``model`` has and does for one input of ``input_shape`` (channels, height, width), or for several
    inputs of the shapes in it.

    Without ``input_shape`` the model's own is taken. Works through any graph; what has no formula is run once and the
    matrix products in it are counted. Raises ArgumentError for a shape the model does not take.
    """
    steps = walk(model, input_shape)
    met: set[int] = set()
    rows = [_row(step, met) for step in steps]
    everything = {id(item): item for item in model.parameters()}
    read_directly = {id(item) for item in everything.values()} - met
    called = sum(everything[key].numel() for key in met if key in everything)
    owned = {id(item) for module in model.modules() for item in module.parameters(recurse=False) if _is_leaf(module)}
    total = sum(item.numel() for item in everything.values())
    direct = sum(everything[key].numel() for key in read_directly if key not in owned)
    return Count(
        layers=tuple(rows),
        input_shape=steps.input_shape if len(steps.input_shapes) == 1 else steps.input_shapes,
        parameters=total,
        trainable=sum(item.numel() for item in everything.values() if item.requires_grad),
        uncalled=total - called - direct,
    )


def _is_leaf(module: nn.Module) -> bool:
    return not list(module.children())


def _row(step: Step, met: set[int]) -> LayerCount:
    fresh = [item for item in step.module.parameters() if id(item) not in met] if step.module is not None else []
    met.update(id(item) for item in fresh)
    multiply_adds, operations = cost(step)
    return LayerCount(
        name=step.name,
        kind=step.kind,
        input_shapes=tuple(item.shape[1:] for item in step.inputs),
        output_shape=step.output_shape[1:] if step.output_shape is not None else None,
        parameters=sum({id(item): item.numel() for item in fresh}.values()),
        multiply_adds=multiply_adds,
        operations=operations,
        activations=outputs(step),
        dense=_dense(step),
    )


def _dense(step: Step) -> Dense | None:
    """Existing connections: pairs of maps times, along each dimension, the reads of all outputs that are no padding."""
    pairs = connected_maps(step.module) if step.module is not None else None
    if pairs is None or step.output_shape is None or step.module is None:
        return None
    source = step.inputs[0]
    kernel: Any = step.module.kernel_size
    first = len(source.shape) - len(kernel)
    reads = [int((along(step, source, axis).reads >= 0).sum()) for axis in range(first, len(source.shape))]
    inputs, units = math.prod(source.shape), outputs(step)
    return Dense(
        elements=inputs * units,
        operations=units * (2 * inputs - 1),
        nonzero=pairs * math.prod(reads) * math.prod(source.shape[: first - 1]),
        parameters=sum(item.numel() for name, item in step.module.named_parameters() if name != "bias"),
    )
