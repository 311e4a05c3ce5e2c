"""Layers of AlexNet's, VGG's and ResNet's sizes: a training step of the native engine beside torch's.

    python benchmarks/large_layers.py [--threads 2] [--batch-size 32] [--rounds 5] [layers …]

Each subject is a layer twice, with ReLU, then global mean and a linear layer, so that nearly all of the time is its.
Gradients are verified first; contestants take turns (see ``benchmarks/native_training.py``).
"""

from __future__ import annotations

import argparse
import sys

from torch import nn

from convscope.native.benchmarking import Subject, benchmark

#: maps, side of the picture, kernel
LAYERS = {
    "64 maps 56x56, 3x3": (64, 56, 3),
    "64 maps 32x32, 3x3": (64, 32, 3),
    "128 maps 28x28, 3x3": (128, 28, 3),
    "256 maps 14x14, 3x3": (256, 14, 3),
    "512 maps 8x8, 3x3": (512, 8, 3),
    "192 maps 27x27, 5x5": (192, 27, 5),
    "384 maps 13x13, 3x3": (384, 13, 3),
    "256 maps 28x28, 1x1": (256, 28, 1),
    "512 maps 14x14, 1x1": (512, 14, 1),
}
RIVALS = ("eager", "channels_last")


def subject(name: str) -> Subject:
    maps, side, kernel = LAYERS[name]
    convolutions = [nn.Conv2d(maps, maps, kernel, padding=kernel // 2) for _ in range(2)]
    parts = [part for convolution in convolutions for part in (convolution, nn.ReLU())]
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, 10))
    return Subject(name, model, "cross_entropy", (maps, side, side), 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layers", nargs="*", default=list(LAYERS))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report = benchmark(
        [subject(name) for name in options.layers],
        [options.batch_size],
        ["native", *RIVALS],
        rounds=options.rounds,
        threads=options.threads,
        progress=lambda text: print(text, file=sys.stderr),
    )
    machine = report.machine
    print(f"{machine.processor}, {machine.isa}, {machine.threads} threads, torch {machine.torch}, ", end="")
    print(f"float32 matrix product {machine.matrix_gflops:.1f} GFLOP/s; GFLOP/s of each, batch {options.batch_size}")
    for name, batch_size in report.cases():
        rates = [(row.contestant, row.gflops) for row in report.rows if row.model == name]
        figures = "  ".join(f"{contestant} {rate:6.1f}" for contestant, rate in rates)
        print(f"{name:22} {figures}  native is {report.ratio(name, batch_size, RIVALS):.2f} times the best")


if __name__ == "__main__":
    main()
