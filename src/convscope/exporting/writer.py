"""An ONNX graph under construction: nodes, constants by their names, sizes that depend on batch and length."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from convscope.errors import ExportError
from convscope.exporting.extents import Extent, Filled, Sized, whole
from convscope.exporting.recording import Step

Converter = Callable[..., Any]

CONVERTERS: dict[str, Converter] = {}
"""By the name of ATen's operator: ``convert(write, result, *args, **keywords)`` → the name of the value that it makes,
or a tuple of names. ``result`` is the step's first result."""


def converts(*names: str) -> Callable[[Converter], Converter]:
    """Enrol the function for the operators "aten.<name>"."""

    def enrol(function: Converter) -> Converter:
        for name in names:
            assert f"aten.{name}" not in CONVERTERS, name
            CONVERTERS[f"aten.{name}"] = function
        return function

    return enrol


class Writer:
    """``batch_of`` names the input that tells how many examples there are; ``names`` are those of the model's own
    parameters and buffers."""

    def __init__(self, onnx: Any, names: dict[int, str], batch_of: str) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.layer, self.step = "", ""  # at work
        self.results: tuple[Any, ...] = ()  # of the step at work
        self._names = names
        self._batch_of = batch_of
        self._values: dict[int, str] = {}
        self._by_storage: dict[Any, str] = {}
        self._kept: list[Tensor] = []
        self._sizes: dict[Any, str] = {}
        self._counts: dict[str, int] = {}

    def count_by(self, value: str) -> None:
        """From here on the batch is that of ``value``."""
        self._batch_of = value
        self._sizes = {key: name for key, name in self._sizes.items() if not isinstance(key, Extent)}

    def bind(self, ref: Sized, name: str) -> None:
        """The value ``ref`` of the recording is the value ``name`` of the graph."""
        self._values[ref.number] = name

    def write(self, step: Step) -> None:
        """The nodes of a step. ExportError, naming the layer, where it has no form in ONNX."""
        self.layer, self.step, self.results = step.layer, step.name, step.results
        convert = CONVERTERS.get(step.name)
        first = next((each for each in step.results if each is not None), None)
        if convert is None or first is None:
            raise ExportError(step.layer, f"{step} has no form in ONNX here")
        try:
            made = convert(self, first, *step.args, **step.keywords)
        except (TypeError, KeyError, AttributeError) as problem:
            told = f"{step} is called in a way that has no form in ONNX here ({problem})"
            raise ExportError(step.layer, told) from problem
        for ref, name in zip(step.results, made if isinstance(made, tuple) else (made,), strict=False):
            if ref is not None and name is not None:
                self.bind(ref, name)

    def fresh(self, stem: str) -> str:
        """A name that nothing has yet."""
        self._counts[stem] = count = self._counts.get(stem, 0) + 1
        return stem if count == 1 else f"{stem}_{count}"

    def node(self, kind: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """A node of ``kind``; inputs are names, values of the recording, tensors, or None for one left out."""
        given = ["" if each is None else self.value(each) for each in inputs]
        while given and not given[-1]:
            given.pop()
        stem = f"{self.layer}/{kind}" if self.layer else kind
        name = self.fresh(stem)
        made = [f"{name}:{index}" if index else f"{name}:0" for index in range(outputs)]
        kept = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(self.onnx.helper.make_node(kind, given, made, name=name, **kept))
        return made[0] if outputs == 1 else tuple(made)

    def value(self, given: Any) -> str:
        """The name of a value: as it is, of a value of the recording, or of a constant made of a tensor."""
        if isinstance(given, str):
            return given
        if isinstance(given, Sized):
            return self._values[given.number]
        if isinstance(given, Filled):
            return str(self.node("Expand", self.scalar(given.number, given.dtype), self.sizes(given.shape)))
        assert isinstance(given, Tensor), type(given)
        return self._constant(given)

    def _constant(self, tensor: Tensor) -> str:
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and key in self._by_storage:
            return self._by_storage[key]
        own = self._names.get(id(tensor)) or self._names.get(tensor.data_ptr() if tensor.numel() else -1)
        name = self.fresh(own or "constant")
        self._by_storage[key] = name
        self._kept.append(tensor)  # so that no other tensor comes to lie where it lies
        self.constants[name] = self.array(tensor.detach().cpu(), name)
        return name

    def array(self, tensor: Tensor, name: str) -> Any:
        if tensor.dtype == torch.bfloat16:
            kind = self.onnx.TensorProto.BFLOAT16
            raw = tensor.contiguous().view(torch.int16).numpy().tobytes()
            return self.onnx.helper.make_tensor(name, kind, tensor.shape, raw, raw=True)
        return self.onnx.numpy_helper.from_array(numpy.ascontiguousarray(tensor.numpy()).reshape(tensor.shape), name)

    def integers(self, values: Sequence[int]) -> str:
        """A constant int64 (len(values),)."""
        key = ("integers", tuple(values))
        if key not in self._sizes:
            name = self._sizes[key] = self.fresh("integers")
            self.constants[name] = self.array(torch.tensor(list(values), dtype=torch.int64), name)
        return self._sizes[key]

    def scalar(self, value: Any, dtype: torch.dtype) -> str:
        """A constant () of ``dtype``."""
        key = ("scalar", value, dtype)
        if key not in self._sizes or value != value:
            name = self._sizes[key] = self.fresh("number")
            self.constants[name] = self.array(torch.tensor(value, dtype=dtype), name)
        return self._sizes[key]

    def sizes(self, values: Sequence[int | Extent], free: bool = False) -> str:
        """int64 (len(values),). With ``free`` one size may be left to what reads it (-1, as Reshape takes it)."""
        given = list(values)
        if free and sum(isinstance(each, Extent) for each in given) == 1 and 0 not in given and -1 not in given:
            given = [-1 if isinstance(each, Extent) else each for each in given]
        if whole(given):
            return self.integers([each for each in given if isinstance(each, int)])
        return str(self.node("Concat", *(self.size(each) for each in given), axis=0))

    def size(self, value: int | Extent) -> str:
        """int64 (1,)."""
        if isinstance(value, int):
            return self.integers([value])
        if value not in self._sizes:
            layer, self.layer = self.layer, "sizes"
            parts = [self._side(axis, times) for axis, times in enumerate((value.factor, value.steps)) if times]
            if value.more:
                parts.append(self.integers([value.more]))
            self._sizes[value] = functools.reduce(lambda one, other: self.node("Add", one, other), parts)
            self.layer = layer
        return self._sizes[value]

    def _side(self, axis: int, times: int) -> str:
        """So many times the input's size along ``axis``: 0 is the batch, 1 the length."""
        once = Extent(1) if axis == 0 else Extent(0, 0, 1)
        if once not in self._sizes:
            self._sizes[once] = self.node("Shape", self._batch_of, start=axis, end=axis + 1)
        name = self._sizes[once]
        return name if times == 1 else str(self.node("Mul", name, self.integers([times])))

    def kind(self, dtype: torch.dtype) -> int:
        """ONNX's number for a type of torch."""
        return int(getattr(self.onnx.TensorProto, ONNX_TYPES[dtype]))

    def cast(self, given: Any, dtype: torch.dtype) -> str:
        """The value as ``dtype``: itself where it is known to have it."""
        if isinstance(given, Tensor):
            return self.value(given.to(dtype))
        if isinstance(given, Sized | Filled) and given.dtype == dtype:
            return self.value(given)
        return str(self.node("Cast", given, to=self.kind(dtype)))


ONNX_TYPES = {
    torch.float32: "FLOAT", torch.float64: "DOUBLE", torch.float16: "FLOAT16", torch.bfloat16: "BFLOAT16",
    torch.uint8: "UINT8", torch.int8: "INT8", torch.int16: "INT16", torch.int32: "INT32", torch.int64: "INT64",
    torch.bool: "BOOL",
}  # fmt: skip
