"""What not being silently wrong costs: the comparison at a plan's first call, its guards, and the start of a process.

    python benchmarks/trust_cost.py [--batch 64] [--repeats 15] [--beside PYTHON] [--json out.json]

For LeNet-5 and ResNet-18 (32×32): the first training step of an accelerated model with the comparison and without it,
a later step, and one look whether the plan's guards hold, which every call takes. ``--beside`` names the Python of
another version's environment: ``import convscope`` and ``convscope --help`` of both are timed in turns. Medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope import accelerate, create_model
from convscope.graph.guards import Guard

MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "LeNet-5": (lambda: create_model("lenet5"), (1, 28, 28)),
    "ResNet-18": (lambda: create_model("resnet18", small=True), (3, 32, 32)),
}


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def of_model(make: Callable[[], nn.Module], shape: tuple[int, int, int], batch: int, repeats: int) -> dict[str, float]:
    """Microseconds of each part."""
    x, targets = torch.randn(batch, *shape), torch.arange(batch) % 10
    first: dict[bool, list[float]] = {True: [], False: []}
    for check in [True, False] * 2:
        fast = accelerate(make(), check=check)
        first[check].append(seconds(lambda: fast.loss_and_grad(x, targets)))  # noqa: B023 - called at once
    model = make()
    fast = accelerate(model, check=False)
    fast.loss_and_grad(x, targets)
    step = [seconds(lambda: fast.loss_and_grad(x, targets)) for _ in range(repeats)]
    guard = Guard(model)
    assert guard.holds()
    held = [seconds(guard.holds) for _ in range(20 * repeats)]
    found = {
        "first call, compared": statistics.median(first[True]),
        "first call, not compared": statistics.median(first[False]),
        "later step": statistics.median(step),
        "guards": statistics.median(held),
    }
    found = {name: round(1e6 * each, 1) for name, each in found.items()}
    return found | {"guards, % of a step": round(100 * found["guards"] / found["later step"], 2)}


def starts(beside: str, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of both versions, in turns, and the median of the ratios (this one / the other)."""
    found = {}
    for name, arguments in {"import": ["-c", "import convscope"], "--help": ["-m", "convscope", "--help"]}.items():
        pairs = []
        for _ in range(repeats + 1):  # the first fills the caches
            pairs.append(
                [
                    seconds(lambda: subprocess.run([python, *arguments], check=True, capture_output=True))  # noqa: B023
                    for python in (sys.executable, beside)
                ]
            )
        own, other = zip(*pairs[1:], strict=True)
        found[name] = {
            "own": round(1e3 * statistics.median(own), 1),
            "other": round(1e3 * statistics.median(other), 1),
            "ratio": round(statistics.median(one / another for one, another in pairs[1:]), 3),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--beside")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {"threads": torch.get_num_threads()}
    for name, (make, shape) in MODELS.items():
        found[name] = of_model(make, shape, given.batch, given.repeats)
        print(name, found[name], flush=True)
    if given.beside:
        found["start"] = starts(given.beside, given.repeats)
        print(found["start"])
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
