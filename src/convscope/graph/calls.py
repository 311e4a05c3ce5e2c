"""A model's graph walked once with real shapes: what the counts, the receptive fields and the drawing all read.

``walk(model, input_shape)`` runs the model on one picture of zeros and keeps, for every node of its graph, the shapes
of what went in and came out, never the values themselves.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx, nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.graph import memory, sizes, structure
from convscope.graph.capture import FailedCallError, record
from convscope.graph.examples import example
from convscope.graph.kept import known_result
from convscope.graph.training_modes import looking
from convscope.spec import spec_of

Shape = tuple[int, ...]


class TensorLike:
    """Stands where a tensor stood among a call's arguments. ``source`` is the step that made it."""

    def __init__(self, shape: Shape, dtype: torch.dtype, source: str) -> None:
        self.shape, self.dtype, self.source = shape, dtype, source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorLike) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype, self.source))


@dataclasses.dataclass(frozen=True)
class Step:
    """One call in forward order.

    ``name`` is the module's path (with ``:2`` from the second call of the same module on) or the node's own name;
    ``kind`` the module's class or the function's name; ``output_shape`` has the batch (1) in front and is None for
    whatever is not a tensor (sizes, tuples). ``arguments`` and ``keywords`` are the call's own, tensors replaced by
    ``TensorLike``.
    """

    name: str
    kind: str
    module: nn.Module | None
    function: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    output_shape: Shape | None
    output_dtype: torch.dtype | None

    @property
    def inputs(self) -> tuple[TensorLike, ...]:
        """Every tensor among the arguments, in order."""
        found = structure.leaves((self.arguments, self.keywords))
        return tuple(leaf for leaf in found if isinstance(leaf, TensorLike))

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(item.source for item in self.inputs)


@dataclasses.dataclass(frozen=True)
class Walk(Sequence[Step]):
    """All steps; ``walk["conv1"]`` looks one up by name. The inputs' shapes have no batch."""

    steps: tuple[Step, ...]
    input_names: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    output_names: tuple[str, ...]

    @property
    def input_name(self) -> str:
        return self.input_names[0]

    @property
    def input_shape(self) -> Shape:
        """The first input's; most models have no other."""
        return self.input_shapes[0]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            for step in self.steps:
                if step.name == key:
                    return step
            raise UnknownNameError("layer", key, [step.name for step in self.steps])
        return self.steps[key]


def input_shape_of(model: nn.Module, input_shape: Sequence[int] | None) -> Shape:
    """The shape of one input without the batch: as given, else from the model's own description.

    A shape with a leading batch is understood where the model's first convolution or pooling says how many dimensions
    an input has. Raises ArgumentError where there is neither a shape nor a description, or the shape cannot fit.
    """
    if input_shape is None:
        described = spec_of(model)
        if described is None:
            raise ArgumentError(
                "input_shape",
                None,
                "(channels, height, width)",
                "The model carries no description of its own input; give the shape of one picture.",
            )
        return tuple(described.input_shape)
    shape = tuple(input_shape)
    if not _is_shape(shape):
        raise ArgumentError("input_shape", input_shape, "(channels, height, width), integers ≥ 1")
    wanted = _input_dims(model)
    if wanted is not None and len(shape) == wanted + 1:
        shape = shape[1:]
    if wanted is not None and len(shape) != wanted:
        raise ArgumentError("input_shape", input_shape, f"{wanted} numbers: channels and {wanted - 1} sizes")
    return shape


def _is_shape(shape: Shape) -> bool:
    return bool(shape) and all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in shape)


def input_shapes_of(model: nn.Module, input_shape: Sequence[Any] | None) -> tuple[Shape, ...]:
    """The shapes of all inputs without the batch: of one as ``input_shape_of`` says, of several each as it is given.

    Raises ArgumentError for a shape that is none.
    """
    if not input_shape or not all(isinstance(each, Sequence) for each in input_shape):
        return (input_shape_of(model, input_shape),)
    shapes = tuple(tuple(each) for each in input_shape)
    if any(not _is_shape(each) for each in shapes):
        raise ArgumentError("input_shape", input_shape, "a shape of integers ≥ 1 for each of the model's inputs")
    return shapes


def walk(model: nn.Module, input_shape: Sequence[Any] | None = None) -> Walk:
    """Run ``model`` in evaluation mode on one input of zeros and record every call with its shapes.

    ``input_shape`` is one shape, or for a model of several inputs a sequence of shapes. Raises ArgumentError when the
    model refuses inputs of those shapes.
    """
    shapes = input_shapes_of(model, input_shape)
    results: dict[fx.Node, Any] = {}
    try:
        with looking(model):  # before the capture, which follows the branches of the mode it finds
            inputs = tuple(torch.zeros_like(example(model, (1, *shape))) for shape in shapes)
            captured = record(model, inputs, results=results)
            recorder = _Recorder(captured, results)
            recorder.run(*inputs)
    except FailedCallError as failed:
        first_line = str(failed).strip().splitlines()[0] if str(failed).strip() else type(failed.error).__name__
        given, wanted = (shapes[0], "a shape this model takes") if len(shapes) == 1 else (shapes, "shapes it takes")
        raise ArgumentError("input_shape", given, wanted, f"It stopped with: {first_line}") from failed.error
    placeholders = [node for node in captured.graph.nodes if node.op == "placeholder"]
    output = next(node for node in captured.graph.nodes if node.op == "output")
    outputs: list[str] = []
    fx.node.map_arg(output.args, lambda node: outputs.append(recorder.names[node]))
    names = tuple(recorder.names[node] for node in placeholders)
    return Walk(tuple(recorder.steps), names, shapes, tuple(outputs))


def call(step: Step, source: TensorLike | None = None, replacement: torch.Tensor | None = None) -> Any:
    """Call a step once more, on zeros on the CPU, with ``replacement`` in the place of ``source``."""

    def fill(value: Any) -> Any:
        if isinstance(value, TensorLike):
            if value == source:
                return replacement
            return torch.zeros(value.shape, dtype=value.dtype)
        return value

    arguments, keywords = structure.transform((step.arguments, step.keywords), fill)
    with torch.no_grad():
        if step.module is not None:
            return _still(step.module)(*arguments, **keywords)
        if isinstance(step.function, str):
            return getattr(arguments[0], step.function)(*arguments[1:], **keywords)
        return step.function(*arguments, **keywords)


def _still(module: nn.Module) -> nn.Module:
    """The module as it behaves in evaluation, on the CPU; a copy only where it is not so already."""
    parameter = next(module.parameters(), None)
    if not any(item.training for item in module.modules()) and (parameter is None or parameter.device.type == "cpu"):
        return module
    return copy.deepcopy(module).cpu().eval()


class Names:
    """What calls are called, asked in forward order: a module by its path, with ":2" behind it from the second call on,
    a function or method by its node's name. Every reader of a graph names calls so."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}

    def __call__(self, node: fx.Node) -> str:
        base = str(node.target) if node.op == "call_module" else node.name
        self._calls[base] = self._calls.get(base, 0) + 1
        return base if self._calls[base] == 1 else f"{base}:{self._calls[base]}"


class _Recorder(fx.Interpreter):
    """Goes through the graph node by node, keeping shapes. What the recorded call put out is not worked out again."""

    def __init__(self, captured: fx.GraphModule, results: dict[fx.Node, Any]) -> None:
        super().__init__(captured)
        self.steps: list[Step] = []
        self.names: dict[fx.Node, str] = {}
        self._results = results
        self._name = Names()

    def run(self, *inputs: Any, **keywords: Any) -> Any:
        with torch.no_grad():
            return super().run(*inputs, **keywords)

    def run_node(self, n: fx.Node) -> Any:
        if n.target is memory.update or n.target is sizes.expect:
            return None
        result = known_result(self._results, n)
        if result is None:
            result = super().run_node(n)
        self.names[n] = self._name(n)
        if n.op in ("call_module", "call_function", "call_method") and not isinstance(n.target, type):
            module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
            tensor = result if isinstance(result, torch.Tensor) else None
            described = _plain(
                fx.node.map_arg((n.args, n.kwargs), lambda node: _describe(self.env[node], self.names[node]))
            )
            self.steps.append(
                Step(
                    name=self.names[n],
                    kind=type(module).__name__ if module is not None else _function_name(n.target),
                    module=module,
                    function=None if module is not None else n.target,
                    arguments=tuple(described[0]),
                    keywords=dict(described[1]),
                    output_shape=tuple(tensor.shape) if tensor is not None else None,
                    output_dtype=tensor.dtype if tensor is not None else None,
                )
            )
        return result


def _describe(value: Any, source: str) -> Any:
    """A node's value as an argument: tensors become TensorLike, in tuples too (what ``chunk`` returns)."""
    return structure.transform(
        value,
        lambda leaf: TensorLike(tuple(leaf.shape), leaf.dtype, source) if isinstance(leaf, torch.Tensor) else leaf,
    )


def _plain(value: Any) -> Any:
    """fx's immutable lists and dicts as plain ones: functions may want to copy or change them."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if type(value) is tuple:
        return tuple(_plain(item) for item in value)
    return value


def _function_name(target: Any) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target)).strip("_")


def _input_dims(model: nn.Module) -> int | None:
    """Channels plus spatial dimensions of one input, as the first convolution or pooling of the model takes it."""
    described = spec_of(model)
    if described is not None:
        return len(described.input_shape)
    for module in model.modules():
        name = type(module).__name__
        if hasattr(module, "kernel_size") and not isinstance(module, nn.Unfold | nn.Fold):
            return 2 if "1d" in name else 4 if "3d" in name else 3
        if isinstance(module, nn.Linear | nn.Embedding):
            return None
    return None
