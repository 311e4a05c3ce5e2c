"""Functions of one element, or of two that lie at the same place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ExportError
from convscope.exporting.extents import Extent, Filled, Sized
from convscope.exporting.writer import CONVERTERS, Writer, converts

_SAME = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "neg": "Neg",
    "abs": "Abs", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan",
    "sinh": "Sinh", "cosh": "Cosh", "erf": "Erf", "floor": "Floor", "ceil": "Ceil", "round": "Round", "sign": "Sign",
    "reciprocal": "Reciprocal", "logical_not": "Not", "isnan": "IsNaN", "isinf": "IsInf", "clone": "Identity",
    "alias": "Identity", "detach": "Identity", "lift_fresh": "Identity", "hardswish": "HardSwish",
    "bitwise_not": "Not",
}  # fmt: skip


def _unary(kind: str) -> Callable[..., Any]:
    # memory formats and the like do not change the numbers
    return lambda write, result, x, **_: write.node(kind, x)


for _name, _kind in _SAME.items():
    CONVERTERS[f"aten.{_name}.default"] = _unary(_kind)


def operand(write: Writer, given: Any, dtype: torch.dtype) -> str:
    """A tensor or number as a value of ``dtype``."""
    if isinstance(given, Extent):
        return write.cast(write.size(given), dtype)
    if isinstance(given, Tensor | Sized | Filled | str):
        return write.cast(given, dtype)
    return write.scalar(given, dtype)


@converts("rsqrt.default")
def rsqrt(write: Writer, result: Sized, x: Any) -> str:
    return str(write.node("Reciprocal", write.node("Sqrt", x)))


@converts("square.default")
def square(write: Writer, result: Sized, x: Any) -> str:
    return str(write.node("Mul", x, x))


for _name, _base in (("log2", 2.0), ("log10", 10.0)):
    CONVERTERS[f"aten.{_name}.default"] = lambda write, result, x, base=_base: write.node(
        "Mul", write.node("Log", x), write.scalar(1 / math.log(base), result.dtype)
    )
CONVERTERS["aten.log1p.default"] = lambda write, result, x: write.node(
    "Log", write.node("Add", x, write.scalar(1.0, result.dtype))
)
CONVERTERS["aten.expm1.default"] = lambda write, result, x: write.node(
    "Sub", write.node("Exp", x), write.scalar(1.0, result.dtype)
)
CONVERTERS["aten.exp2.default"] = lambda write, result, x: write.node("Pow", write.scalar(2.0, result.dtype), x)


@converts("silu.default")
def silu(write: Writer, result: Sized, x: Any) -> str:
    return str(write.node("Mul", x, write.node("Sigmoid", x)))


@converts("mish.default")
def mish(write: Writer, result: Sized, x: Any) -> str:
    return str(write.node("Mish", x))


@converts("gelu.default")
def gelu(write: Writer, result: Sized, x: Any, approximate: str = "none") -> str:
    return str(write.node("Gelu", x, approximate=approximate))


@converts("hardsigmoid.default")
def hardsigmoid(write: Writer, result: Sized, x: Any) -> str:
    return str(write.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))


@converts("leaky_relu.default")
def leaky_relu(write: Writer, result: Sized, x: Any, negative_slope: float = 0.01) -> str:
    return str(write.node("LeakyRelu", x, alpha=float(negative_slope)))


@converts("elu.default")
def elu(write: Writer, result: Sized, x: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> str:
    if input_scale != 1:
        raise ExportError(write.layer, "elu with a scaled input has no node of its own")
    y = write.node("Elu", x, alpha=float(alpha))
    return str(y if scale == 1 else write.node("Mul", y, write.scalar(float(scale), result.dtype)))


@converts("softplus.default")
def softplus(write: Writer, result: Sized, x: Any, beta: float = 1, threshold: float = 20) -> str:
    scale = write.scalar(float(beta), result.dtype)
    y = write.node("Div", write.node("Softplus", write.node("Mul", x, scale)), scale)
    straight = write.node("Greater", write.node("Mul", x, scale), write.scalar(float(threshold), result.dtype))
    return str(write.node("Where", straight, x, y))


@converts("_prelu_kernel.default")
def prelu(write: Writer, result: Sized, x: Any, slope: Any) -> str:
    return str(write.node("PRelu", x, slope))


@converts("hardtanh.default")
def hardtanh(write: Writer, result: Sized, x: Any, min_val: float = -1, max_val: float = 1) -> str:
    return str(write.node("Clip", x, write.scalar(min_val, result.dtype), write.scalar(max_val, result.dtype)))


@converts("clamp.default", "clamp_min.default", "clamp_max.default")
def clamp(write: Writer, result: Sized, x: Any, min: Any = None, max: Any = None) -> str:
    low, high = (None if each is None else write.scalar(each, result.dtype) for each in (min, max))
    return str(write.node("Clip", write.cast(x, result.dtype), low, high))


CONVERTERS["aten.clamp_max.default"] = lambda write, result, x, most: clamp(write, result, x, None, most)


def _binary(kind: str) -> Callable[..., Any]:
    def convert(write: Writer, result: Sized, a: Any, b: Any, alpha: Any = 1) -> str:
        second = operand(write, b, result.dtype)
        if alpha != 1:
            second = str(write.node("Mul", second, write.scalar(alpha, result.dtype)))
        return str(write.node(kind, operand(write, a, result.dtype), second))

    return convert


for _name, _kind in {
    "add": "Add", "sub": "Sub", "mul": "Mul", "maximum": "Max", "minimum": "Min", "logical_and": "And",
    "logical_or": "Or", "logical_xor": "Xor", "bitwise_and": "And", "bitwise_or": "Or",
}.items():  # fmt: skip
    for _form in ("Tensor", "Scalar", "default"):
        CONVERTERS[f"aten.{_name}.{_form}"] = _binary(_kind)


@converts("rsub.Tensor", "rsub.Scalar")
def rsub(write: Writer, result: Sized, a: Any, b: Any, alpha: Any = 1) -> Any:
    scaled = operand(write, a, result.dtype)
    if alpha != 1:
        scaled = str(write.node("Mul", scaled, write.scalar(alpha, result.dtype)))
    return write.node("Sub", operand(write, b, result.dtype), scaled)


@converts("div.Tensor", "div.Scalar", "div.Tensor_mode", "div.Scalar_mode", "floor_divide.default")
def div(write: Writer, result: Sized, a: Any, b: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None and not result.dtype.is_floating_point:
        raise ExportError(write.layer, "whole numbers divided by one another, with rounding")
    y = write.node("Div", operand(write, a, result.dtype), operand(write, b, result.dtype))
    if rounding_mode == "trunc":
        return write.node("Mul", write.node("Floor", write.node("Abs", y)), write.node("Sign", y))
    return write.node("Floor", y) if rounding_mode == "floor" else y


CONVERTERS["aten.floor_divide.default"] = lambda write, result, a, b: div(write, result, a, b, "floor")


@converts("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
def power(write: Writer, result: Sized, a: Any, b: Any) -> Any:
    if isinstance(b, int | float) and b == 2:
        x = operand(write, a, result.dtype)
        return write.node("Mul", x, x)
    if isinstance(b, int | float) and b == 0.5:
        return write.node("Sqrt", operand(write, a, result.dtype))
    return write.node("Pow", operand(write, a, result.dtype), operand(write, b, result.dtype))


def _comparison(kind: str, negated: bool = False) -> Callable[..., Any]:
    def convert(write: Writer, result: Sized, a: Any, b: Any) -> Any:
        types = [each.dtype for each in (a, b) if isinstance(each, Tensor | Sized)]
        dtype = types[0] if len(types) == 1 else torch.promote_types(*types)
        if not dtype.is_floating_point and any(isinstance(each, float) for each in (a, b)):
            dtype = torch.float32
        y = write.node(kind, operand(write, a, dtype), operand(write, b, dtype))
        return write.node("Not", y) if negated else y

    return convert


for _name, _kind, _negated in (
    ("eq", "Equal", False), ("ne", "Equal", True), ("gt", "Greater", False), ("lt", "Less", False),
    ("ge", "GreaterOrEqual", False), ("le", "LessOrEqual", False),
):  # fmt: skip
    for _form in ("Tensor", "Scalar"):
        CONVERTERS[f"aten.{_name}.{_form}"] = _comparison(_kind, _negated)


@converts("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(write: Writer, result: Sized, condition: Any, a: Any, b: Any) -> Any:
    return write.node("Where", condition, operand(write, a, result.dtype), operand(write, b, result.dtype))


@converts("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(write: Writer, result: Sized, x: Any, mask: Any, value: Any) -> Any:
    return write.node("Where", mask, operand(write, value, result.dtype), x)


@converts("_to_copy.default")
def to(write: Writer, result: Sized, x: Any, dtype: Any = None, **_: Any) -> Any:
    return write.node("Identity", x) if dtype is None else write.cast(x, result.dtype)


@converts("native_dropout.default")
def dropout(write: Writer, result: Sized, x: Any, p: float, train: bool | None) -> Any:
    if train:
        raise ExportError(write.layer, "chance: the model draws random numbers when it is used")
    return write.node("Identity", x), None
