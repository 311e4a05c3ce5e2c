"""Gradients of deep networks in training beside float64: the engine's, and torch's own in float32.

    python benchmarks/deep_gradients.py [--seeds 5] [--threads 1] [networks …]

Random weights and pictures, batch 16, dropout off; the largest difference of any gradient in parts of its largest
number, the median of the seeds and the largest. "Sides": float64 on the sides that the program itself took where a
rectifier's input or two candidates of a maximum are within rounding of a kink (``tests/native/deep.py``), and how many
of them are not float64's. "Smooth": SiLU in place of rectifiers, means in place of maxima.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.native import deep


def told(gaps: Sequence[deep.Gap], number: Callable[[deep.Gap], float]) -> str:
    numbers = [number(each) for each in gaps]
    return f"{statistics.median(numbers):.1e}, {max(numbers):.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(deep.NETWORKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| network | program | as it is | on its own sides | sides turned, of | smooth |\n|---|---|---|---|---|---|")
    for name in options.networks:
        kinked = [deep.gaps(name, seed) for seed in range(options.seeds)]
        smooth = [deep.gaps(name, seed, smooth=True) for seed in range(options.seeds)]
        for program, own, other in zip(
            ("engine", "torch float32"), zip(*kinked, strict=True), zip(*smooth, strict=True), strict=True
        ):
            turned = [each.turned for each in own]
            print(
                f"| {name} | {program} | {told(own, lambda each: each.plain)} | {told(own, lambda each: each.sided)} "
                f"| {statistics.median(turned):g}, {max(turned)} of {own[0].sides:,} "
                f"| {told(other, lambda each: each.plain)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
