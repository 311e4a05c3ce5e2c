"""Training steps of the native engine beside torch's, over the six networks that it was made for.

    python benchmarks/native_training.py [--threads 2] [--rounds 15] [--rest 0.03] [--memory] [models …]

A model is a name of the catalogue, ``resnet18@64`` one at 64×64 pixels; a ResNet at 32×32 gets its small stem.
Gradients are verified against torch in float64 first. Then all take turns in one process; each figure is the median
over the turns. A step goes from uint8 pictures to moved parameters: "native" as ``convscope train`` makes it, with the
optimiser's step in the engine, "accelerated" as a torch program does that calls ``convscope.accelerate``, with torch's
optimiser. Turns follow each other at once, as a user's steps do; ``--rest`` lets everybody sleep before each, so that
other libraries' threads no longer spin. The last lines are geometric means over models and batch sizes: against torch
eager as people use it, against the best of torch's float32 configurations, and the share of the machine's float32
matrix-product rate.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from convscope.models import MODELS, create_model
from convscope.native.benchmarking import CONTESTANTS, Report, Subject, benchmark
from convscope.spec import spec_of

MODELS_TIMED = ("lenet5", "lenet5_1998", "mcdnn_column", "slides_cifar10", "slides_stl10", "slides_caltech101")
FLOAT32 = ("eager", "channels_last", "compile")


def subject(text: str) -> Subject:
    """A catalogue model, at another size after an @; ``lenet5`` with ReLU and max pooling, as it is trained today."""
    name, _, side = text.partition("@")
    options: dict[str, Any] = {"lenet5": {"activation": "relu", "pool": "max"}}.get(name, {})
    if name.startswith("resnet") and side == "32":
        options = {"small": True}
    model = create_model(name, **options)
    described = spec_of(model)
    assert described is not None
    channels, height, width = described.input_shape
    shape = (channels, int(side), int(side)) if side else (channels, height, width)
    return Subject(text, model, MODELS[name].card.loss, shape, int(described.options["classes"]))


def print_case(report: Report, model: str, batch_size: int) -> None:
    print(f"\n{model}, batch {batch_size}")
    for row in report.rows:
        if (row.model, row.batch_size) != (model, batch_size):
            continue
        if row.failure is not None:
            print(f"  {row.contestant:<14} failed: {row.failure}")
            continue
        ratio, quickest = (report.ratio(model, batch_size, [row.contestant], best) for best in (False, True))
        memory = "" if row.memory is None else f"  {row.memory / 1e6:8.1f} MB"
        print(
            f"  {row.contestant:<14} {row.milliseconds:9.3f} ms ±{row.spread * 50:4.1f} %, best {row.best:8.3f}  "
            f"{row.images_per_second:9,.0f} images/s  {row.gflops:6.1f} GFLOP/s  {row.share:5.1%}  "
            f"native is {ratio:5.2f}× ({quickest:5.2f}×){memory}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS_TIMED)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rest", type=float, default=0.0, help="seconds that everybody sleeps before a turn")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = benchmark(
        [subject(name) for name in options.models],
        options.batch_sizes,
        options.contestants,
        rounds=options.rounds,
        threads=options.threads,
        rest=options.rest,
        measure_memory=options.memory,
        progress=lambda text: print(text, file=sys.stderr),
    )
    machine = report.machine
    print(f"{machine.processor}, {machine.isa}, {machine.threads} threads, torch {machine.torch}")
    print(f"float32 matrix product: {machine.matrix_gflops:.1f} GFLOP/s")
    for name, difference in report.differences.items():
        print(f"{name}: gradients verified to {difference:.1e}")
    for case in report.cases():
        print_case(report, *case)
    rivals = [name for name in FLOAT32 if name in options.contestants]
    if "accelerated" in options.contestants:
        means = [report.geometric_mean(each, own="accelerated") for each in (["eager"], rivals)]
        print(f"\naccelerated: {means[0]:.2f}× torch eager, {means[1]:.2f}× the best float32 of torch")
    quickest = report.geometric_mean(["eager"], best=True), report.geometric_mean(rivals, best=True)
    print(f"\ngeometric means: {report.geometric_mean(['eager']):.2f}× torch eager, ", end="")
    print(
        f"{report.geometric_mean(rivals):.2f}× the best float32 of torch, {report.mean_share():.1%} of the product rate"
    )
    print(f"by the quickest steps: {quickest[0]:.2f}×, {quickest[1]:.2f}×, {report.mean_share(best=True):.1%}")
    if options.json is not None:
        options.json.write_text(json.dumps(report.to_json(), indent=1) + "\n")


if __name__ == "__main__":
    main()
