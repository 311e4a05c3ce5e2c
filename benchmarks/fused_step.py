"""Whole steps with the optimiser's step in the engine's pass, and by torch after it: one build, one process, in turns.

    python benchmarks/fused_step.py [--threads 2] [--rounds 20]

LeNet-5 (ReLU, max), SGD with momentum and Adam; medians and quartiles over all steps, ms.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from convscope.models import create_model
from convscope.native import NativeNetwork

KINDS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "SGD": lambda each: torch.optim.SGD(each, lr=1e-4, momentum=0.9, fused=True),
    "Adam": lambda each: torch.optim.Adam(each, lr=1e-4, fused=True),
}


def stepper(kind: str, fused: bool, threads: int) -> Callable[[torch.Tensor, torch.Tensor], None]:
    model = copy.deepcopy(create_model("lenet5", activation="relu", pool="max")).train()
    network = NativeNetwork(model, (1, 28, 28), "cross_entropy", threads=threads)
    network.ready()
    flat = network.memory.flat
    whole = nn.Parameter(flat.values)
    whole.grad = flat.gradients
    optimiser = KINDS[kind]([whole])

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        if fused:
            network.descend(images, targets, optimiser)
        else:
            network.loss_and_grad(images, targets)
            optimiser.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as in training
    for kind in KINDS:
        for count in (64, 256):
            images, targets = torch.rand(count, 1, 28, 28), torch.randint(0, 10, (count,))
            steppers = {fused: stepper(kind, fused, arguments.threads) for fused in (False, True)}
            times: dict[bool, list[float]] = {False: [], True: []}
            for turn in range(arguments.rounds):
                for fused in (False, True) if turn % 2 else (True, False):
                    steppers[fused](images, targets)
                    for _ in range(6400 // count):
                        begun = time.perf_counter()
                        steppers[fused](images, targets)
                        times[fused].append(1e3 * (time.perf_counter() - begun))
            for fused, name in ((False, "torch's step"), (True, "in the pass")):
                low, median, high = statistics.quantiles(times[fused], n=4)
                print(f"{kind:<5} batch {count:>3}  {name:<12} {median:.3f} ms ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
