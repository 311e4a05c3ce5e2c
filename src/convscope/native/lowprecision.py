"""Low precision for answers: which one this processor has, and what it is told of a model.

bf16: a layer's input and weights are rounded to bfloat16 (8 bits of significand, ties to even), their products added up
in float32. int8: an input x stands for an integer q = min(255, max(0, round(x / scale) + zero)), a weight of output
channel o for round(w / scale_o), scale_o = max|w_o| / 127; products are added up in 32-bit integers, exactly, and
scaled back. Either way everything between the products, batch normalisation, residual sums, activations, pooling, stays
in float32. (Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
2018.)
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.native import availability
from convscope.native.branches import every_value, whole_records
from convscope.native.network import LowPrecision, NativeNetwork

PRECISIONS = ("bf16", "int8")
_LAYERS = ("conv2d", "linear")
_BATCH = 16  # pictures whose values are kept at once while a model is calibrated


_ASKED: contextvars.ContextVar[tuple[str | None, Tensor | None]] = contextvars.ContextVar(
    "_ASKED", default=(None, None)
)


@contextlib.contextmanager
def answering_in(precision: str | None, calibration: Tensor | None = None) -> Iterator[None]:
    """Trained models that are asked in here (``prepare_inference``) answer in ``precision``, as for ``accelerate``;
    ``calibration`` are pictures as the model takes them. Raises ArgumentError as ``checked_precision`` does."""
    token = _ASKED.set((checked_precision(precision, calibration), calibration))
    try:
        yield
    finally:
        _ASKED.reset(token)


def asked() -> tuple[str | None, Tensor | None]:
    """Precision (None: float32) and calibration that ``answering_in`` has said."""
    return _ASKED.get()


@dataclasses.dataclass(frozen=True)
class Range:
    """The least and the largest number that a layer was given."""

    low: float
    high: float

    def quantised(self) -> tuple[float, float]:
        """Scale and zero of x = scale · (q − zero), q from 0 to 255; 0 is met exactly, so that borders of zeros are."""
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        scale = float(torch.tensor((high - low) / 255 or 1.0, dtype=torch.float32))
        return scale, float(min(255, max(0, round(-low / scale))))


def checked_precision(precision: str | None, calibration: object = None) -> str | None:
    """None for float32. Raises ArgumentError for an unknown precision, for one that this processor does not have,
    saying what it lacks, and for a calibration that is missing or of no use."""
    if precision is None or precision == "float32":
        if calibration is not None:
            raise ArgumentError("calibration", type(calibration).__name__, "none, for precision=None rounds nothing")
        return None
    if precision not in PRECISIONS:
        raise ArgumentError("precision", precision, "None (float32), 'bf16' or 'int8'")
    engine = availability.engine()
    try:
        engine.low_way(precision)
    except ValueError as problem:
        there = [each for each in PRECISIONS if _has(each)]
        hint = f"{problem}. Here there is float32" + "".join(f" and {each}" for each in there)
        raise ArgumentError("precision", precision, "one that this processor multiplies", hint) from None
    if precision == "int8" and calibration is None:
        raise ArgumentError(
            "calibration", None, "pictures like those to come", "int8 needs to know how large each layer's inputs are."
        )
    if precision == "bf16" and calibration is not None:
        raise ArgumentError("calibration", type(calibration).__name__, "none, for bf16 has float32's range")
    return precision


def _has(precision: str) -> bool:
    try:
        availability.engine().low_way(precision)
    except ValueError:
        return False
    return True


def low_precision(precision: str, ranges: Mapping[str, Range] | None = None) -> LowPrecision:
    """What networks are told. The environment variable CONVSCOPE_PRECISION_LAYERS=all has every layer that can take
    part, whether it is quicker or not."""
    wanted = os.environ.get("CONVSCOPE_PRECISION_LAYERS", "quicker")
    if wanted not in ("quicker", "all"):
        raise ArgumentError("CONVSCOPE_PRECISION_LAYERS", wanted, "quicker or all")
    quantised = {name: each.quantised() for name, each in (ranges or {}).items()}
    return LowPrecision(precision, quantised, everywhere=wanted == "all")


def calibrate(networks: Sequence[tuple[NativeNetwork, Tensor]], batch: int = _BATCH) -> dict[str, Range]:
    """By layer, the range of what convolutions and linear layers of each network are given for its pictures."""
    found: dict[str, Range] = {}
    for network, pictures in networks:
        records = whole_records(network)
        for first in range(0, len(pictures), batch):
            x = pictures[first : first + batch]
            values = {0: network.normalised(x)}
            values |= zip((each.output or 0 for each in records), every_value(network, x, 0, records), strict=True)
            for record in records:
                if record.kind not in _LAYERS:
                    continue
                given = values[record.inputs[0]]
                low, high = (float(each) for each in torch.aminmax(given))
                known = found.get(record.name, Range(low, high))
                found[record.name] = Range(min(known.low, low), max(known.high, high))
    return found


def checked_calibration(pictures: object) -> Tensor:
    """ArgumentError unless these are finite pictures, (n, c, h, w)."""
    if not isinstance(pictures, Tensor) or pictures.ndim != 4 or not len(pictures):
        got = tuple(pictures.shape) if isinstance(pictures, Tensor) else type(pictures).__name__
        raise ArgumentError("calibration", got, "a tensor of at least one picture, (n, c, h, w)")
    refuse_not_finite("calibration", pictures)
    return pictures


def refuse_not_finite(name: str, pictures: Tensor) -> None:
    """8 bits have no NaN and no infinity."""
    if pictures.is_floating_point() and not bool(torch.isfinite(pictures).all()):
        raise ArgumentError(name, "NaN or infinity", "finite numbers, for int8 has no others")


class _Refusing(torch.autograd.Function):
    """Passes an output on, and refuses to go back through it."""

    @staticmethod
    def forward(ctx: Any, precision: str, root: Tensor, output: Tensor) -> Tensor:
        ctx.precision = precision
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> tuple[None, ...]:
        raise refusal(ctx.precision, "a backward pass")


def refusing(precision: str, root: Tensor, output: Any) -> Any:
    """``output`` of a model with the parameter or input ``root``, from which there is no way back."""
    return _Refusing.apply(precision, root, output) if isinstance(output, Tensor) else output  # type: ignore[no-untyped-call]


def refusal(precision: str, where: str) -> ArgumentError:
    """What gradients are refused with."""
    hint = f"Low precision answers, it has no gradients; {where} wants accelerate(model) without a precision."
    return ArgumentError("precision", precision, "None (float32)", hint)


def anchor(model: nn.Module, x: Tensor) -> Tensor | None:
    """A tensor that autograd would go back to, if there is one."""
    if not torch.is_grad_enabled():
        return None
    if x.requires_grad:
        return x
    return next((each for each in model.parameters() if each.requires_grad), None)
