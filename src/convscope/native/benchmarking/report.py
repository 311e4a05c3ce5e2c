"""What a benchmark found, for people and as JSON."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from convscope.native import availability


@dataclasses.dataclass(frozen=True)
class Row:
    """One contestant on one model and batch size.

    ``milliseconds`` is the median over the rounds, ``low`` and ``high`` its quartiles, ``best`` the quickest single
    step, which is what is left to compare where other programs take their share of the processor. ``gflops`` counts
    convolutions and linear layers, ``share`` is ``gflops`` over the machine's float32 matrix-product rate. ``memory``
    is the peak growth of the process over its idle state in bytes, None where it was not measured. ``failure``: why
    there is no figure (the others are nan then).
    """

    model: str
    batch_size: int
    contestant: str
    milliseconds: float
    low: float
    high: float
    best: float
    images_per_second: float
    gflops: float
    share: float
    memory: int | None = None
    failure: str | None = None

    @property
    def spread(self) -> float:
        """The distance of the quartiles over the median."""
        return (self.high - self.low) / self.milliseconds


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where it was measured. ``matrix_gflops`` is the rate of torch's 2048×2048 float32 product on ``threads``."""

    processor: str
    isa: str
    threads: int
    torch: str
    matrix_gflops: float


@dataclasses.dataclass
class Report:
    """``differences`` are those of the verified gradients, relative to the largest, by model."""

    machine: Machine
    rows: list[Row]
    differences: dict[str, float]

    def find(self, model: str, batch_size: int, contestant: str) -> Row | None:
        """The row, or None where there is none or it failed."""
        for row in self.rows:
            if (row.model, row.batch_size, row.contestant) == (model, batch_size, contestant) and row.failure is None:
                return row
        return None

    def ratio(
        self, model: str, batch_size: int, rivals: Iterable[str], best: bool = False, own: str = "native"
    ) -> float:
        """How many times ``own`` is as fast as the fastest of the rivals; nan where one side is missing.

        By the medians, or with ``best`` by the quickest steps.
        """
        row = self.find(model, batch_size, own)
        found = [self.find(model, batch_size, rival) for rival in rivals]
        times = [each.best if best else each.milliseconds for each in found if each is not None]
        return min(times) / (row.best if best else row.milliseconds) if row is not None and times else math.nan

    def cases(self) -> list[tuple[str, int]]:
        return list(dict.fromkeys((row.model, row.batch_size) for row in self.rows))

    def geometric_mean(self, rivals: Iterable[str], best: bool = False, own: str = "native") -> float:
        """Of ``ratio`` over all cases that have one; nan where none has."""
        rivals = list(rivals)
        ratios = [self.ratio(*case, rivals, best, own) for case in self.cases()]
        ratios = [each for each in ratios if not math.isnan(each)]
        return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan

    def mean_share(self, best: bool = False) -> float:
        """The geometric mean of the native engine's share of the matrix-product rate."""
        rows = [row for row in self.rows if row.contestant == "native" and row.failure is None]
        shares = [row.share * (row.milliseconds / row.best if best else 1.0) for row in rows]
        return math.exp(sum(map(math.log, shares)) / len(shares)) if shares else math.nan

    def to_json(self) -> dict[str, Any]:
        rows = [_plain({**dataclasses.asdict(row), "spread": row.spread}) for row in self.rows]
        return {"machine": dataclasses.asdict(self.machine), "rows": rows, "differences": self.differences}


def machine(threads: int, matrix_gflops: float) -> Machine:
    isa = availability.engine().isa() if availability.available() else "none"
    return Machine(processor_name(), isa, threads, torch.__version__, matrix_gflops)


def processor_name() -> str:
    """The processor as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Numbers that JSON can hold."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
