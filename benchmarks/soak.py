"""Many steps with changing models, batch sizes and threads: memory must not grow, and every loss must be a number.

    python benchmarks/soak.py [--minutes 3] [--json out.json]

Networks are made, trained for some steps and dropped again. The resident memory is read after each round; printed are
its growth since the end of the first quarter, when caches and pools have their size, and the number of steps.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import random
import time
from pathlib import Path

import torch
from torch import nn

from convscope.models import MODELS, create_model
from convscope.native import NativeNetwork, accelerate
from convscope.spec import spec_of

MODEL_NAMES = ("lenet5", "lenet5_1998", "mcdnn_column", "slides_cifar10", "krizhevsky_cifar10")
BATCH_SIZES = (1, 3, 15, 16, 17, 33, 64, 100, 257)
STEPS = 12


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def normalised() -> nn.Module:
    """Batch normalisation, dropout and a short cut, which the classics lack."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(8 * 15 * 15, 10),
    )  # fmt: skip


def one_round(chance: random.Random) -> int:
    """Make a network, train it with several batch sizes, evaluate it, drop it; returns the number of steps."""
    name = chance.choice((*MODEL_NAMES, "normalised"))
    model = normalised() if name == "normalised" else create_model(name)
    described = spec_of(model)
    shape = (3, 32, 32) if described is None else described.input_shape
    loss = "cross_entropy" if described is None else MODELS[name].card.loss
    network = NativeNetwork(model, shape, loss, threads=chance.choice((1, 2, 3)))
    flat = network.memory.flat
    steps = 0
    for _ in range(4):
        count = max(chance.choice(BATCH_SIZES), 2)
        images, targets = torch.randn(count, *shape), torch.randint(0, 10, (count,))
        for _ in range(STEPS):
            value, _ = network.loss_and_grad(images, targets, seed=7, step=steps)
            assert math.isfinite(value), name
            flat.values.add_(flat.gradients, alpha=-1e-4)
            steps += 1
        model.eval()
        network.forward(images)
        model.train()
    if chance.random() < 0.3:
        accelerated = accelerate(model)
        accelerated(torch.randn(5, *shape)).sum().backward()
    return steps


def soak(seconds: float, seed: int = 0) -> dict[str, float]:
    """Rounds for so long; megabytes at the first quarter and at the end, and what was done."""
    chance = random.Random(seed)
    torch.manual_seed(seed)
    begun, steps, rounds = time.monotonic(), 0, 0
    settled: int | None = None
    while (passed := time.monotonic() - begun) < seconds or rounds < 8:
        steps += one_round(chance)
        rounds += 1
        gc.collect()
        if settled is None and passed > seconds / 4 and rounds >= 4:
            settled = resident()
    end = resident()
    first = settled or end
    return {
        "steps": steps,
        "rounds": rounds,
        "settled_mb": first / 1e6,
        "end_mb": end / 1e6,
        "growth_mb": (end - first) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = soak(options.minutes * 60)
    print(
        f"{found['steps']:,.0f} steps in {found['rounds']:.0f} networks: {found['settled_mb']:.1f} MB → "
        f"{found['end_mb']:.1f} MB, growth {found['growth_mb']:+.1f} MB"
    )
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
