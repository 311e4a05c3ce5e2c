"""Evaluation of pictures by the native engine beside torch and ONNX Runtime, in one process.

    python benchmarks/native_inference.py [--pictures 1 16] [--threads 1 2] [--rounds 9] [--rest 0.03] [models …]
    python benchmarks/native_inference.py --table one.json two.json …

Logits are verified against torch in float64 first. Then all take turns; each figure is the median over the calls with
the distance of its quartiles, of the turns in which other programs took next to no time. Parameters and running
statistics are random. ``--table`` prints what earlier runs wrote as one table, with geometric means over its rows.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import torch
from torch import nn

from convscope.models import create_model
from convscope.native.benchmarking import inference
from convscope.native.benchmarking.answering import CONTESTANTS
from convscope.native.benchmarking.inference import Timing, ratio
from convscope.native.benchmarking.report import machine
from convscope.spec import spec_of

MODELS = ("lenet5", "slides_cifar10", "resnet18", "vgg11", "mobilenet_v2", "squeezenet1_0", "googlenet", "densenet121")
TORCH = ("eager", "channels_last", "compile")


def prepared(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A catalogue model with random statistics in its batch normalisations, and the shape of its pictures."""
    torch.manual_seed(0)
    model = create_model(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, 0.0, 0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.7, 1.4)
    described = spec_of(model)
    assert described is not None
    return model, tuple(described.input_shape)


def mean(values: list[float]) -> float:
    found = [math.log(each) for each in values if not math.isnan(each)]
    return math.exp(sum(found) / len(found)) if found else math.nan


def print_case(rows: list[Timing]) -> None:
    print(f"\n{rows[0].model}, {rows[0].pictures} pictures, {rows[0].threads} threads")
    for row in rows:
        if row.failure is not None:
            print(f"  {row.contestant:<14} failed: {row.failure}")
            continue
        print(
            f"  {row.contestant:<14} {row.milliseconds:9.3f} ms ±{row.spread * 50:4.1f} %, best {row.best:8.3f}, "
            f"off by {row.difference:.0e}, native is {ratio(rows, [row.contestant]):5.2f}×; "
            f"others took {row.others:.2f} processors",
            flush=True,
        )


def print_table(rows: list[Timing]) -> None:
    contestants = [name for name in CONTESTANTS if any(row.contestant == name for row in rows)]
    print("| network | pictures | threads | " + " | ".join(contestants) + " | × torch | × ONNX Runtime |")
    print("|---|---:|---:|" + "---:|" * (len(contestants) + 2))
    cases = list(dict.fromkeys((row.model, row.pictures, row.threads) for row in rows))
    ratios: dict[str, list[float]] = {"torch": [], "onnxruntime": []}
    for case in sorted(cases, key=lambda each: (each[1], each[2], MODELS.index(each[0]) if each[0] in MODELS else -1)):
        own = [row for row in rows if (row.model, row.pictures, row.threads) == case]
        found = {row.contestant: row for row in own if row.failure is None}
        cells = []
        for name in contestants:
            row = found.get(name)
            cells.append("–" if row is None else f"{row.milliseconds:.3g} ±{row.spread * 50:.0f} %")
        against = {"torch": ratio(own, TORCH), "onnxruntime": ratio(own, ["onnxruntime"])}
        for name, value in against.items():
            ratios[name].append(value)
        cells += ["–" if math.isnan(value) else f"{value:.2f}" for value in against.values()]
        print(f"| `{case[0]}` | {case[1]} | {case[2]} | " + " | ".join(cells) + " |")
    print(f"geometric means: × best of torch {mean(ratios['torch']):.2f}, ", end="")
    print(f"× ONNX Runtime {mean(ratios['onnxruntime']):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--pictures", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rest", type=float, default=0.0, help="seconds that everybody sleeps before a turn")
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path, nargs="+")
    options = parser.parse_args()
    rows: list[Timing] = []
    if options.table:
        for path in options.table:
            told = json.loads(path.read_text())["rows"]
            rows += [Timing(**{key: value for key, value in each.items() if value is not None}) for each in told]
        print_table(rows)
        return
    found_machine = machine(max(options.threads), math.nan)
    where = {"processor": found_machine.processor, "isa": found_machine.isa, "torch": found_machine.torch}
    print(", ".join(where.values()))
    for name in options.models:
        model, shape = prepared(name)
        for pictures in options.pictures:
            for threads in options.threads:
                print(f"{name}, {pictures} pictures, {threads} threads", file=sys.stderr)
                own = {"threads": threads, "rounds": options.rounds, "rest": options.rest}
                found = inference.race(name, model, shape, pictures, options.contestants, **own)
                print_case(found)
                rows += found
                if options.json:
                    options.json.write_text(json.dumps({**where, "rows": [row.to_json() for row in rows]}, indent=1))
    print_table(rows)


if __name__ == "__main__":
    main()
