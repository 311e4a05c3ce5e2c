"""What lowering works with: values, the plan under construction, and the tables of what can be lowered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import torch
from torch import nn

from convscope import shapes
from convscope.errors import ArgumentError, LoweringError
from convscope.lowering.plan import Attribute, Constant, Record, Shape
from convscope.lowering.values import Sizes, Value, folded

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
        self.image = Value.plain(0, input_shape)
        self.roots: dict[int, int] = {}  # of values that are others under another shape
        self._arranged: dict[tuple[Value, Shape], int] = {}
        self._next = 1
        self._outside = 0
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
        sizes: Sizes | None = None,
    ) -> Value:
        """Add a layer and return its output, maps of ``shape`` as a tensor of ``sizes`` (None: of the same).

        ``parameters``: tensors of the model, or names of constants; None leaves one out.
        """
        sources = [inputs] if isinstance(inputs, Value) else list(inputs)
        given = {key: each for key, each in (parameters or {}).items() if each is not None}
        names = {key: each if isinstance(each, str) else self.parameter(each) for key, each in given.items()}
        trainable = not given or any(isinstance(each, torch.Tensor) and each.requires_grad for each in given.values())
        output = Value.plain(self._next, shape, sizes)
        self._next += 1
        numbers = tuple(each.number for each in sources)
        self.records.append(
            Record(kind, self.layer, numbers, output.number, shape, attributes or {}, names, state or {}, trainable)
        )
        return output

    def outside(self, sizes: Sizes) -> Value:
        """A tensor that is neither the image nor made by a record: a stand-in to see what would lower."""
        self._outside -= 1
        return Value.plain(self._outside, folded(sizes), sizes)

    def loss(self, kind: str, source: Value, attributes: Mapping[str, Attribute]) -> None:
        self.records.append(Record(kind, self.layer, (source.number,), None, None, attributes))

    def pointwise(self, kind: str, x: Value, **attributes: float) -> Value:
        """A layer that takes each number by itself; the order in which they lie stays."""
        x = self.whole(x)
        return x.like(self.record(kind, x, x.shape, attributes).number)

    def affine(
        self, x: Value, slope: float | Callable[[], torch.Tensor], offset: float | Callable[[], torch.Tensor]
    ) -> Value:
        """slope·x + offset: trainable subsampling of 1×1 windows.

        Both are fixed numbers, or given anew before each use, (c,), for ``x`` that is maps or features.
        """
        x = self.whole(x)
        names = {"weight": self.constant(x.shape[0], slope), "bias": self.constant(x.shape[0], offset)}
        return x.like(self.record("subsample", x, x.shape, {"kernel_size": [1, 1], "stride": [1, 1]}, names).number)

    def held(self, tensor: torch.Tensor, sizes: Sizes) -> Value:
        """A parameter, buffer or constant of the model as a tensor of ``sizes``, the same for every image."""
        shape = folded(sizes)
        attributes: dict[str, Attribute] = {"shape": list(shape)}
        if id(tensor) in self._parameters:
            return self.record("parameter", [], shape, attributes, {"value": tensor}, sizes=sizes)
        if id(tensor) in self._buffers and tensor.is_floating_point():
            state = {"value": self.buffer(tensor)}
            return self.record("parameter", [], shape, attributes, state=state, sizes=sizes)
        if tensor.requires_grad:
            self.refuse("computes with a tensor that is no parameter of the model but follows from some")
        name = self.constant(tensor.numel(), lambda: tensor.flatten().float())
        return self.record("parameter", [], shape, attributes, {"value": name}, sizes=sizes)

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

    def arranged(self, x: Value, shape: Shape) -> Value:
        """The numbers of ``x`` in its own order, as maps of ``shape`` in the engine; its sizes stay."""
        if x.in_order and x.shape == shape:
            return x
        key = (x, shape)
        if key not in self._arranged:
            attributes: dict[str, Attribute] = {}
            if x.in_order:
                kind = "flatten" if shape[1:] == (1, 1) else "reshape"
            else:
                kind = "gather"
                attributes |= {"sizes": list(x.sizes), "strides": list(x.strides)}
                attributes |= {"offset": x.offset} if x.offset else {}
            if kind != "flatten":
                attributes["shape"] = list(shape)
            made = self.record(kind, x, shape, attributes, sizes=x.sizes)
            self._arranged[key] = made.number
            self.roots[made.number] = self.roots.get(x.number, x.number) if x.in_order else made.number
        return Value.plain(self._arranged[key], shape, x.sizes)

    def whole(self, x: Value) -> Value:
        """``x`` such that it is all that its value in the engine holds, each number once."""
        return x if x.is_whole else self.arranged(x, folded(x.sizes))

    def maps(self, x: Any) -> Value:
        """``x``, which must be maps, (n, c, h, w)."""
        if not isinstance(x, Value) or len(x.sizes) != 3:
            self.refuse(f"takes {self.shown(x)}, the engine runs it on maps (n, c, h, w) only")
        return self.arranged(x, (x.sizes[0], x.sizes[1], x.sizes[2]))

    def features(self, x: Any) -> Value:
        """``x``, which must be features, (n, f)."""
        if not isinstance(x, Value) or len(x.sizes) != 1:
            self.refuse(f"takes {self.shown(x)}, the engine runs it on features (n, f) only")
        return self.arranged(x, folded(x.sizes))

    def with_first(self, x: Value, axis: int) -> tuple[Value, Sizes]:
        """(``x`` with ``axis`` first and as its maps, how to permute the result back).

        The other sides keep the order in which they lie where the axis is first there already, so that nothing moves.
        """
        order = x.memory_order
        if order is None or order[0] != axis:
            order = (axis, *(each for each in range(len(x.sizes)) if each != axis))
        moved = x.permuted(order)
        rest = moved.sizes[1:]
        height = 1 if len(rest) < 2 else math.prod(rest[:-1])
        shape = (moved.sizes[0], height, rest[-1] if rest else 1)
        if moved.in_order and x.shape[0] == moved.sizes[0]:
            shape = x.shape
        back = tuple(order.index(each) for each in range(len(order)))
        return self.arranged(moved, shape), back

    def returned(self, x: Value, others: Sequence[Value]) -> Value:
        """``x`` in order and in memory of its own: the engine returns what its layers compute, each once."""
        x = self.arranged(x, x.shape if x.in_order else folded(x.sizes))
        root = self.roots.get(x.number, x.number)
        if root == 0 or root in {self.roots.get(each.number, each.number) for each in others}:
            x = self.pointwise("identity", x)
        return x

    def axis(self, dim: Any, x: Value, what: str) -> int:
        """The side that torch calls ``dim``, the batch not counted."""
        sides = len(x.sizes) + 1
        if isinstance(dim, bool) or not isinstance(dim, int) or not -sides <= dim < sides:
            self.refuse(f"{what} {dim}, of {self.shown(x)}")
        if dim % sides == 0:
            self.refuse(f"{what} {dim}, the batch, whose images the engine keeps apart")
        return dim % sides - 1

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
            return "(" + ", ".join(["n", *map(str, x.sizes)]) + ")"
        return f"a {type(x).__name__}"
