"""What lowering works with: values, the plan under construction, and the tables of what can be lowered."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import torch
from torch import nn

from convscope import shapes
from convscope.errors import ArgumentError, LoweringError
from convscope.lowering.plan import Attribute, Constant, Record, Shape

Lowering = Callable[..., Any]
F = TypeVar("F", bound=Lowering)

#: How a module type, a function and a tensor method become records. The operators' files fill them.
MODULES: dict[type[nn.Module], Lowering] = {}
FUNCTIONS: dict[Any, Lowering] = {}
METHODS: dict[str, Lowering] = {}


def lowers_module(*kinds: type[nn.Module]) -> Callable[[F], F]:
    """Enrol ``lower(builder, module, *inputs)`` for modules of exactly these types; a subclass may differ."""
    return _enrol(MODULES, kinds)


def lowers_function(*functions: Any) -> Callable[[F], F]:
    """Enrol ``lower(builder, *args, **kwargs)``, which has the functions' own signature."""
    return _enrol(FUNCTIONS, functions)


def lowers_method(*names: str) -> Callable[[F], F]:
    """Enrol ``lower(builder, self, *args, **kwargs)`` for methods of tensors."""
    return _enrol(METHODS, names)


def _enrol(table: dict[Any, Lowering], keys: Iterable[Any]) -> Callable[[F], F]:
    def enrol(lowering: F) -> F:
        table.update(dict.fromkeys(keys, lowering))
        return lowering

    return enrol


class _Batch:
    """The number of images, which a plan leaves open."""

    def __repr__(self) -> str:
        return "batch"


BATCH = _Batch()


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of the model. ``shape`` (c, h, w) is the engine's; ``flat`` says that torch sees (n, c) instead."""

    number: int
    shape: Shape
    flat: bool = False

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape that torch gives it, the batch left out."""
        return self.shape[:1] if self.flat else self.shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Builder:
    """The plan under construction. ``layer`` is the name of the layer being lowered, for records and errors."""

    def __init__(self, model: nn.Module, input_shape: Shape, mixed: bool = False) -> None:
        self.layer = ""
        self.mixed = mixed  # batch normalisation with running statistics stands beside layers that train
        self.evaluates = False  # a batch normalisation uses its running statistics
        self.records: list[Record] = []
        self.constants: list[Constant] = []
        self.scratch: dict[str, int] = {}
        self.counters: list[str] = []
        self.training = False
        self.needs_several: str | None = None
        self.image = Value(0, input_shape)
        self._next = 1
        self._parameters = {id(each): (name, each) for name, each in model.named_parameters()}
        self._buffers = {id(each): name for name, each in model.named_buffers()}

    def refuse(self, reason: str) -> NoReturn:
        raise LoweringError(self.layer, reason)

    def record(
        self,
        kind: str,
        inputs: Value | Sequence[Value],
        shape: Shape,
        attributes: Mapping[str, Attribute] | None = None,
        parameters: Mapping[str, Any] | None = None,
        state: Mapping[str, str] | None = None,
        flat: bool | None = None,
    ) -> Value:
        """Add a layer and return its output of ``shape``, which is flat where its first input is unless given.

        ``parameters``: tensors of the model, or names of constants; None leaves one out.
        """
        sources = [inputs] if isinstance(inputs, Value) else list(inputs)
        given = {key: each for key, each in (parameters or {}).items() if each is not None}
        names = {key: each if isinstance(each, str) else self.parameter(each) for key, each in given.items()}
        trainable = not given or any(isinstance(each, torch.Tensor) and each.requires_grad for each in given.values())
        output = Value(self._next, shape, sources[0].flat if flat is None else flat)
        self._next += 1
        numbers = tuple(each.number for each in sources)
        self.records.append(
            Record(kind, self.layer, numbers, output.number, shape, attributes or {}, names, state or {}, trainable)
        )
        return output

    def loss(self, kind: str, source: Value, attributes: Mapping[str, Attribute]) -> None:
        self.records.append(Record(kind, self.layer, (source.number,), None, None, attributes))

    def pointwise(self, kind: str, x: Value, **attributes: float) -> Value:
        """A layer that leaves the shape as it is."""
        return self.record(kind, x, x.shape, attributes)

    def affine(
        self, x: Value, slope: float | Callable[[], torch.Tensor], offset: float | Callable[[], torch.Tensor]
    ) -> Value:
        """slope·x + offset, fixed numbers or given anew before each use, (c,): trainable subsampling of 1×1 windows."""
        names = {"weight": self.constant(x.shape[0], slope), "bias": self.constant(x.shape[0], offset)}
        return self.record("subsample", x, x.shape, {"kernel_size": [1, 1], "stride": [1, 1]}, names)

    def constant(self, size: int, value: float | Callable[[], torch.Tensor]) -> str:
        name = f"constant.{len(self.constants)}"
        if callable(value):
            self.constants.append(Constant(name, size, value, fixed=False))
        else:
            content = torch.full((size,), float(value))
            self.constants.append(Constant(name, size, lambda: content, fixed=True))
        return name

    def own_state(self, size: int) -> str:
        """State that no buffer of the model holds."""
        name = f"scratch.{len(self.scratch)}"
        self.scratch[name] = size
        return name

    def parameter(self, tensor: torch.Tensor) -> str:
        if id(tensor) not in self._parameters:
            self.refuse("its weights are not parameters of the model but computed from them (a parametrisation?)")
        return self._parameters[id(tensor)][0]

    def buffer(self, tensor: torch.Tensor) -> str:
        if id(tensor) not in self._buffers:
            self.refuse("its state is not a buffer of the model")
        return self._buffers[id(tensor)]

    def maps(self, x: Any) -> Value:
        """``x``, which must be maps, (n, c, h, w)."""
        if not isinstance(x, Value) or x.flat:
            self.refuse(f"takes {self.shown(x)}, the engine runs it on maps (n, c, h, w) only")
        return x

    def features(self, x: Any) -> Value:
        """``x``, which must be features, (n, f)."""
        if not isinstance(x, Value) or not x.flat:
            self.refuse(f"takes {self.shown(x)}, the engine runs it on features (n, f) only")
        return x

    def tensor(self, x: Any) -> Value:
        if not isinstance(x, Value):
            self.refuse(f"takes {self.shown(x)} where the engine needs a tensor that depends on the image")
        return x

    def pair(self, value: Any, argument: str, minimum: int = 1) -> shapes.Pair:
        if isinstance(value, tuple | list) and len(value) == 1:
            value = value[0]
        try:
            return shapes.pair(tuple(value) if isinstance(value, list | torch.Size) else value, argument, minimum)
        except ArgumentError as problem:
            self.refuse(str(problem))

    def shown(self, x: Any) -> str:
        if isinstance(x, Value):
            return "(" + ", ".join(["n", *map(str, x.torch_shape)]) + ")"
        return f"a {type(x).__name__}"
