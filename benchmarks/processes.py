"""The same training by one, two and four processes: curves side by side, time and bytes a step, what they foretell.

    python benchmarks/processes.py [--case NAME …] [--processes 1 2 4] [--precision float64 …] [--json out.json]
    python benchmarks/processes.py --exchange
    python benchmarks/processes.py --predict

Each run is a command that a user types, ``torchrun --nproc-per-node=N -m convscope train …`` with one batch size for
all processes together, one thread each, augmentation on, the exchange by gloo. First their curves are compared: an
epoch's losses and accuracies stand beside each other, and the run ends with an error where they differ by more than
rounding explains (``LIMITS``). Then come the time of a step (median of the epochs after the first) and the bytes that a
step moves over the network. The bytes are counted, not computed: each run has a network of its own (``unshare -rn``,
where that is permitted), whose loopback counts what passes, and a shorter run is subtracted from a longer one. Beside
them stands what a ring moves, 2·(p − 1) times 4 or 8 bytes for each number, over all processes together; synchronised
batch normalisation adds its sums.

``--exchange`` times the exchange alone, for the sizes of LeNet-5 and ResNet-18; ``--predict`` prints what these figures
foretell for 100 machines. The processes share one machine's processors, so that four on two cores cannot be faster than
two; on machines of their own each has its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from convscope.models.modelfile import save

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
FIGURES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
# Largest difference of a figure that the order of summation explains, as a share of that figure or of 0.01.
LIMITS = {"float64": 1e-8, "float32": 2e-2}
EXTRA = 32  # numbers that travel behind the gradients


@dataclasses.dataclass(frozen=True)
class Case:
    arguments: tuple[str, ...]  # of ``convscope train``
    batch: int
    epochs: int


_COMMON = ("--data", "digits", "--recipe", "none", "--optimiser", "sgd", "--schedule", "constant")
CASES = {
    "lenet5": Case(
        ("lenet5", *_COMMON, "--lr", "0.02", "-o", "activation=tanh", "--augment", "translate:1,rotate:10"), 256, 8
    ),
    "normalised": Case(  # two batch normalisations, synchronised
        ("", *_COMMON, "--lr", "0.02", "--augment", "crop:1,rotate:10", "--sync-batch-norm"), 256, 4
    ),
}  # fmt: skip


def normalised() -> nn.Sequential:
    """A small network with batch normalisation, for the digits' 8×8 pictures."""
    torch.manual_seed(0)
    first = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Tanh(), nn.AvgPool2d(2)]
    second = [nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.Tanh(), nn.Flatten(), nn.Linear(512, 10)]
    return nn.Sequential(*first, *second)


@dataclasses.dataclass(frozen=True)
class Outcome:
    rows: list[dict[str, float]]  # an epoch each
    step: float  # seconds, median of the epochs after the first
    steps: int
    parameters: int
    moved: int | None  # bytes, where they could be counted


def own_network() -> list[str]:
    """What begins a command that gets a network of its own, or nothing where that is not permitted."""
    wrapped = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && "$@"; s=$?; cat /proc/net/dev; exit $s', "sh"]
    try:
        done = subprocess.run([*wrapped, "true"], capture_output=True, check=False)
    except OSError:
        return []
    return wrapped if done.returncode == 0 else []


def train(case: Case, processes: int, precision: str, epochs: int, folder: Path) -> Outcome:
    run_dir = folder / f"{precision}-{processes}-{epochs}"
    model, *arguments = case.arguments
    if not model:
        folder.mkdir(exist_ok=True)
        model = str(save(normalised(), folder / "begun.safetensors", (1, 8, 8)))
    command = [*TORCHRUN, f"--nproc-per-node={processes}"] if processes > 1 else [sys.executable]
    command += ["-m", "convscope", "train", model, *arguments, "--batch-size", str(case.batch), "--epochs", str(epochs)]
    command += ["--precision", precision, "--threads", "1", "--device", "cpu", "--no-watch", "--no-pictures", "--quiet"]
    command += ["--no-check", "--run-dir", str(run_dir)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    network = own_network()
    done = subprocess.run([*network, *command], capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    moved = None
    if network:
        loopback = next(line for line in done.stdout.splitlines() if line.strip().startswith("lo:"))
        moved = int(loopback.split(":")[1].split()[0])
    events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    rows = [event for event in events if event["event"] == "EpochDone"]
    step = statistics.median(case.batch / row["images_per_second"] for row in rows[1:] or rows)
    parameters = next(event["parameters"] for event in events if event["event"] == "RunStarted")
    figures = [{name: float(row[name]) for name in FIGURES} for row in rows]
    return Outcome(figures, step, int(rows[-1]["step"]), parameters, moved)


def difference(one: Outcome, other: Outcome) -> float:
    """The largest difference of a figure in any epoch, as a share of it, or of 0.01 where it is smaller."""
    pairs = zip(one.rows, other.rows, strict=True)
    return max(abs(mine[name] - its[name]) / max(abs(mine[name]), 0.01) for mine, its in pairs for name in FIGURES)


def measure(name: str, precision: str, counts: Sequence[int], folder: Path) -> dict[str, Any]:
    case = CASES[name]
    found = {count: train(case, count, precision, case.epochs, folder) for count in counts}
    print(f"\n{name}, {precision}, batches of {case.batch}: {' | '.join(FIGURES)}, by {counts} processes")
    for epoch in range(case.epochs):
        cells = (" ".join(f"{found[count].rows[epoch][figure]:.9g}" for count in counts) for figure in FIGURES)
        print(f"  epoch {epoch + 1}: {' | '.join(cells)}")
    first = found[counts[0]]
    rows = []
    for count in counts:
        each = found[count]
        row: dict[str, Any] = {"processes": count, "step": each.step, "difference": difference(first, each)}
        width = 8 if precision == "float64" else 4
        row["ring"] = 2 * (count - 1) * (each.parameters + EXTRA) * width
        if each.moved is not None and count > 1:
            short = train(case, count, precision, 1, folder)
            assert short.moved is not None
            row["moved"] = (each.moved - short.moved) / (each.steps - short.steps)
        rows.append(row)
        counted = f"{row['moved']:,.0f}" if "moved" in row else "-"
        print(
            f"  {count} processes: {1e3 * each.step:.2f} ms a step; bytes a step over all {counted}, "
            f"a ring's {row['ring']:,}; largest difference {row['difference']:.1e}"
        )
        if row["difference"] > LIMITS[precision]:
            raise SystemExit(f"{count} processes do not train what {counts[0]} train")
    return {"case": name, "precision": precision, "rows": rows, "curves": {c: found[c].rows for c in counts}}


def exchange_worker(out: Path) -> None:
    """One of several processes: the median time of an exchange of so many float32 numbers."""
    distributed.init_process_group("gloo")
    torch.set_num_threads(1)
    found = {}
    for numbers in (1, EXTRA + 61_706, EXTRA + 1_000_000, EXTRA + 11_181_642):
        tensor = torch.zeros(numbers)
        times = []
        for _ in range(12):
            distributed.barrier()
            begun = time.perf_counter()
            distributed.all_reduce(tensor)
            times.append(time.perf_counter() - begun)
        found[numbers] = statistics.median(times[2:])
    if distributed.get_rank() == 0:
        out.write_text(json.dumps(found))
    distributed.destroy_process_group()


def exchanges(counts: Sequence[int], folder: Path) -> dict[int, dict[str, float]]:
    found = {}
    for count in counts:
        if count == 1:
            continue
        out = folder / f"exchange-{count}.json"
        command = [*TORCHRUN, f"--nproc-per-node={count}", __file__, "--worker", str(out)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found[count] = json.loads(out.read_text())
        shown = ", ".join(f"{int(numbers):,} numbers {1e3 * each:.2f} ms" for numbers, each in found[count].items())
        print(f"exchange by {count} processes: {shown}")
    return found


# What a machine computes between two exchanges: name, parameters, pictures, seconds, where these are from.
STEPS = (
    ("lenet5, 2 cores (native)", 61_706, 256, 2.56e-3),
    ("slides_stl10, 2 cores (native)", 18_332, 256, 65.3e-3),
    ("resnet18 64×64, 1 core (native)", 11_689_512, 16, 163e-3),
    ("resnet18 small, H200", 11_173_962, 256, 256 / 60_700),
    ("vgg11_bn 32×32, 1 core (native)", 132_868_840, 16, 786e-3),
)
LATENCY = 50e-6  # seconds from program to program over Ethernet and TCP


def exchange_seconds(parameters: int, machines: int, bits: float, latency: float = LATENCY) -> float:
    """Of a ring: 2·(n − 1) rounds, each of a latency and of an n-th of the numbers; ``bits`` a second."""
    sent = 2 * (machines - 1) / machines * 4 * (parameters + EXTRA)
    return 2 * (machines - 1) * latency + 8 * sent / bits


def predict(machines: int = 100) -> None:
    print(f"{machines} machines with so many pictures each: ms of exchange, and the share of the time that is work")
    print("| step of one machine | pictures | ms | 1 Gbit/s | 10 Gbit/s | 100 Gbit/s |\n|---|---:|---:|---:|---:|---:|")
    for name, parameters, pictures, seconds in STEPS:
        cells = []
        for gigabits in (1, 10, 100):
            more = exchange_seconds(parameters, machines, gigabits * 1e9)
            cells.append(f"{1e3 * more:,.1f}, {seconds / (seconds + more):.0%}")
        print(f"| {name} | {pictures} | {1e3 * seconds:.2f} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--precision", action="append", choices=list(LIMITS))
    parser.add_argument("--exchange", action="store_true", help="time the exchange alone, and nothing else")
    parser.add_argument("--predict", action="store_true", help="print what is foretold, and nothing else")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.worker is not None:
        exchange_worker(given.worker)
        return
    if given.predict:
        predict()
        return
    with tempfile.TemporaryDirectory() as place:
        found: Any
        if given.exchange:
            found = exchanges(given.processes, Path(place))
        else:
            found = []
            for name in given.case or CASES:
                folder = Path(place) / name
                for precision in given.precision or LIMITS:
                    found.append(measure(name, precision, given.processes, folder))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
