"""The written-out arithmetic of one number: its terms, and the steps from their sum to the value."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from convscope.explorer.arithmetic.layer import Floats

Integers = npt.NDArray[np.int64]
Operation = Literal["+", "−", "×", "÷", "^", "√", "=", "f"]


@dataclasses.dataclass(frozen=True)
class Terms:
    """The products of a sum, one row a term.

    ``coefficient`` · ``value`` = ``product`` where ``coefficient`` is not None, otherwise ``product`` is a function of
    ``value`` alone. ``source`` (m, k) says where ``value`` stands in the tensor it comes from (which of several:
    ``origin``); ``weight`` (m, k) where ``coefficient`` stands in the parameter ``parameter``; ``at`` (m, k) the
    place of a second factor. ``padding`` marks terms whose value lies outside the picture: they are zeros that are
    there on purpose.
    """

    value: Floats
    product: Floats
    coefficient: Floats | None = None
    source: Integers | None = None
    origin: Integers | None = None
    weight: Integers | None = None
    parameter: str | None = None
    at: Integers | None = None
    padding: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.product)

    def largest_first(self) -> Terms:
        """Ordered by the size of the products; padding comes last."""
        size = np.abs(self.product)
        if self.padding is not None:
            size = np.where(self.padding, -1.0, size)
        return self.take(np.argsort(-size, kind="stable"))

    def take(self, rows: npt.NDArray[np.int64]) -> Terms:
        picked: dict[str, Any] = {
            field.name: value[rows] if isinstance(value := getattr(self, field.name), np.ndarray) else value
            for field in dataclasses.fields(self)
        }
        return Terms(**picked)

    @staticmethod
    def join(parts: list[Terms]) -> Terms:
        """Several lists as one, ``origin`` numbering them; shorter places are filled up with −1."""
        if not parts:
            return Terms(np.zeros(0), np.zeros(0))
        if len(parts) == 1:
            only = parts[0]
            return dataclasses.replace(only, origin=np.zeros(len(only), np.int64)) if only.origin is None else only
        width = max((part.source.shape[1] for part in parts if part.source is not None), default=0)
        columns: list[Integers] = []
        for part in parts:
            source = part.source if part.source is not None else np.full((len(part), 0), -1, np.int64)
            columns.append(np.pad(source, ((0, 0), (0, width - source.shape[1])), constant_values=-1))
        known = all(part.coefficient is not None for part in parts)
        return Terms(
            value=np.concatenate([part.value for part in parts]),
            product=np.concatenate([part.product for part in parts]),
            coefficient=np.concatenate([part.coefficient for part in parts if part.coefficient is not None])
            if known
            else None,
            source=np.concatenate(columns),
            origin=np.concatenate([np.full(len(part), number, np.int64) for number, part in enumerate(parts)]),
        )


@dataclasses.dataclass(frozen=True)
class Line:
    """One line after the sum: apply ``operation`` with ``value`` to what stands so far ("=": name it; "f": function
    ``symbol`` gives ``value``; "√": square root)."""

    operation: Operation
    symbol: str
    value: float
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Explanation:
    """All of one number. ``value`` is the number as the network has it, ``computed`` as the lines give it in float64.

    ``headings`` name the columns (coefficient, value, product); ``origins`` the layers that ``Terms.origin`` counts.
    ``silent`` are the origins that send nothing back, each with its reason: "stepped_over" where no window of theirs
    reads the place (a stride beyond the kernel), "lost" where another place of each window was picked.
    """

    layer: str
    direction: Literal["forward", "backward", "gradient"]
    family: str
    index: tuple[int, ...]
    formula: str
    headings: tuple[str, str, str]
    terms: Terms
    steps: tuple[Line, ...]
    value: float
    origins: tuple[str, ...] = ()
    through: str | None = None
    note: str = ""
    parameter: str | None = None
    silent: tuple[tuple[str, str], ...] = ()

    @property
    def computed(self) -> float:
        return follow(float(self.terms.product.sum()), self.steps)

    def page(self, offset: int = 0, limit: int = 24) -> dict[str, Any]:
        """What the page draws: ``limit`` terms from ``offset`` on, the largest first, the rest as one subtotal."""
        ordered = self.terms.largest_first()
        rows = np.arange(offset, min(offset + limit, len(ordered)))
        shown = ordered.take(rows)
        listed: dict[str, Any] = {
            name: getattr(shown, name).tolist()
            for name in ("coefficient", "value", "product", "source", "origin", "weight", "at", "padding")
            if getattr(shown, name) is not None
        }
        total = math.fsum(self.terms.product.tolist())
        return {
            "layer": self.layer,
            "direction": self.direction,
            "family": self.family,
            "index": list(self.index),
            "formula": self.formula,
            "headings": list(self.headings),
            "terms": listed,
            "term_parameter": self.terms.parameter,
            "offset": offset,
            "shown": len(rows),
            "count": len(self.terms),
            "padding_count": int(self.terms.padding.sum()) if self.terms.padding is not None else 0,
            "before": math.fsum(ordered.product[:offset].tolist()),
            "rest": math.fsum(ordered.product[offset + len(rows) :].tolist()),
            "sum": total,
            "steps": [dataclasses.asdict(step) for step in self.steps],
            "value": self.value,
            "computed": self.computed,
            "origins": list(self.origins),
            "through": self.through,
            "note": self.note,
            "parameter": self.parameter,
            "silent": [list(each) for each in self.silent],
        }


def follow(start: float, steps: tuple[Line, ...]) -> float:
    """The value that the steps lead to."""
    value = start
    for step in steps:
        match step.operation:
            case "+":
                value += step.value
            case "−":
                value -= step.value
            case "×":
                value *= step.value
            case "÷":
                value /= step.value
            case "^":
                value = value**step.value
            case "√":
                value = math.sqrt(value)
            case "f":
                value = step.value
            case "=":
                pass
    return value


def places(*columns: npt.NDArray[np.int64] | int, rows: int) -> Integers:
    """Index columns side by side, (rows, k); single numbers are repeated."""
    return np.stack([np.broadcast_to(np.asarray(column, np.int64), rows) for column in columns], axis=1)
