"""Training on a GPU: first every path of the stepper is checked, then it is timed beside plain torch.

    python benchmarks/on_gpu.py [--quick] [--limit SECONDS] [--cifar] [--json out.json]
    python benchmarks/on_gpu.py --dry

Checked: float32, bfloat16, compiled, the whole step as one CUDA graph, with full and ragged batches, for a classifier
and for a task with two inputs whose batches weigh differently; each against the same run on the CPU in float64. Timed:
epochs of ``fit`` (its history tells the pictures a second) against the loop that one writes by hand, eager and
compiled, on data that lie on the GPU for both. ``--quick`` leaves compilation out; what would begin after ``--limit``
seconds is left out and said to be. ``--cifar`` trains ResNet-18 on CIFAR-10 (found by $CONVSCOPE_DATA) until its test
accuracy is 94 %, and tells the seconds of training and evaluation that it took. At the end the aims stand beside what
was reached. On a computer without a GPU the checks run on the CPU and nothing is timed; ``--dry`` goes through
everything with a few small pictures, so that the program itself is tried: its times say nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope import fit
from convscope.data import Dataset, Labelled, load_dataset
from convscope.models import create_model

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.tasks.measuring import Measuring, Net, dataset

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
BEGUN = time.monotonic()


@dataclasses.dataclass(frozen=True)
class Case:
    model: str
    options: dict[str, Any]
    shape: tuple[int, int, int]
    pictures: int
    batch: int
    epochs: int
    aim: str  # "eager" and a factor: ``fit`` against the loop by hand
    factor: float


CASES = (
    Case("lenet5", {"activation": "relu", "pool": "max"}, (1, 28, 28), 60_000, 512, 12, "eager", 10.0),
    Case("resnet18", {"small": True, "classes": 10}, (3, 32, 32), 20_000, 256, 5, "compiled", 1.0),
    Case("slides_cifar10", {}, (3, 32, 32), 50_000, 512, 8, "eager", 1.0),
    Case("resnet50", {"classes": 10}, (3, 224, 224), 2_560, 128, 4, "compiled", 1.0),
)
CONTESTANTS = ("eager", "fit, graph", "compiled", "fit, compiled and graph")
ACCURACY, SECONDS = 0.94, 60.0  # of CIFAR-10's test pictures; "in seconds"


def noise(count: int, shape: tuple[int, int, int], classes: int = 10) -> Dataset:
    """Pictures of noise, brighter by class, so that there is something to learn."""
    chance = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (count,), generator=chance)
    images = torch.randint(0, 200, (count, *shape), generator=chance, dtype=torch.uint8) + (5 * labels).to(
        torch.uint8
    ).view(-1, 1, 1, 1)
    names = tuple(map(str, range(classes)))
    cut = max(count // 10, 1)
    return Dataset("noise", Labelled(images[cut:], labels[cut:], names), Labelled(images[:cut], labels[:cut], names))


def relative(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """The largest difference of a weight, as a share of how far that tensor's weights lie from zero at most."""
    return max(
        float((found[name].cpu().double() - each.cpu().double()).abs().max() / each.abs().max().clamp(min=1e-9))
        for name, each in wanted.items()
        if each.is_floating_point()
    )


def check(paths: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Largest difference from the CPU in float64 after two epochs with ragged last batches, for every path and task."""

    def classifier(**options: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = create_model("lenet5", activation="tanh", pool="mean")  # smooth: rounding does not flip a unit
        return run(model, noise(500, (1, 28, 28)), **options)

    def measuring(**options: Any) -> dict[str, torch.Tensor]:
        model = Net()
        model.drop.p = 0.0
        return run(model, dataset(), task=Measuring(), **{**options, "batch_size": 16})

    def run(model: nn.Module, data: Any, **options: Any) -> dict[str, torch.Tensor]:
        with tempfile.TemporaryDirectory() as folder:
            settings = {"epochs": 3, "batch_size": 64, "optimiser": "sgd", "learning_rate": 0.02, "watch": False}
            result = fit(model, data, run_dir=f"{folder}/run", **{**settings, **options})
        if "known" in result.history[0].train:  # sums over batches of unlike weight
            assert abs(result.history[0].train["known"] - dataset().train.weight(torch.arange(47)) / 47) < 1e-9
        return {name: each.detach().clone() for name, each in result.model.state_dict().items()}

    found: dict[str, float] = {}
    for task, train in (("classification", classifier), ("two inputs", measuring)):
        exact = train(device="cpu", precision="float64", engine="torch")
        for path, options in paths.items():
            found[f"{task}, {path}"] = relative(train(device=DEVICE, engine="torch", **options), exact)
    return found


def by_hand(model: nn.Module, data: Dataset, batch: int, compiled: bool, seconds: float) -> float:
    """Pictures a second of the loop that one writes by hand, in bfloat16 and channels-last, data on the GPU."""
    images, labels = data.train.images.to(DEVICE), data.train.labels.to(DEVICE)
    model = model.to(DEVICE, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    forward = torch.compile(model) if compiled else model

    def epoch() -> int:
        done = 0
        order = torch.randperm(len(images), device=DEVICE)
        for start in range(0, len(images) - batch + 1, batch):
            chosen = order[start : start + batch]
            x = (images[chosen].float() / 255 - 0.5).contiguous(memory_format=torch.channels_last)
            optimiser.zero_grad()
            with torch.autocast(DEVICE, torch.bfloat16):
                loss = F.cross_entropy(forward(x), labels[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            done += batch
        if GPU:
            torch.cuda.synchronize()
        return done

    return speed(epoch, seconds)


def speed(epoch: Callable[[], int], seconds: float) -> float:
    epoch()  # warm-up, compilation
    rates: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(rates) < 3:
        started = time.perf_counter()
        done = epoch()
        rates.append(done / (time.perf_counter() - started))
    return statistics.median(rates)


def ours(model: nn.Module, data: Dataset, batch: int, epochs: int, **options: Any) -> float:
    """Pictures a second of ``fit``, as its history tells: training alone, the median of all epochs but the first."""
    with tempfile.TemporaryDirectory() as folder:
        result = fit(
            model, data, run_dir=f"{folder}/run", epochs=epochs, batch_size=batch, optimiser="sgd",
            learning_rate=0.01, watch=False, evaluate_every=epochs, checkpoint_seconds=1e9, **options,
        )  # fmt: skip
    return statistics.median(row.per_second for row in result.history[1:])


def measured(case: Case, contestant: str, data: Dataset, dry: bool) -> float:
    """Pictures a second of one contestant."""
    torch.manual_seed(0)
    model = create_model(case.model, **case.options)
    batch, epochs, seconds = (16, 2, 0.0) if dry else (case.batch, case.epochs, 4.0)
    if contestant in ("eager", "compiled"):
        return by_hand(model, data, batch, contestant == "compiled", seconds)
    return ours(model, data, batch, epochs, compile=True if contestant == "fit, compiled and graph" else None)


def timings(quick: bool, limit: float, dry: bool) -> list[dict[str, Any]]:
    """Pictures a second of every case by every contestant, as far as there is time; a line of the table each."""
    print("| network, batch | " + " | ".join(CONTESTANTS) + " |\n|---|" + "---:|" * len(CONTESTANTS))
    rows = []
    for case in CASES[:1] if dry else CASES:
        data = noise(64 if dry else case.pictures, case.shape)
        row: dict[str, Any] = {"model": case.model, "batch": case.batch}
        for name in CONTESTANTS:
            left_out = quick and "compiled" in name
            if not left_out and time.monotonic() - BEGUN < limit:
                row[name] = measured(case, name, data, dry)
        rows.append(row)
        cells = (f"{row[name]:,.0f}" if name in row else "not timed" for name in CONTESTANTS)
        print(f"| `{case.model}`, {case.batch} | {' | '.join(cells)} |", flush=True)
    return rows


def cifar(dry: bool) -> dict[str, Any]:
    """ResNet-18, its rate once up and down in 20 epochs, flips and shifts: seconds until ``ACCURACY``."""
    small: dict[str, Any] = {"in_channels": 3, "input_size": 32}
    model = create_model("lenet5", **small) if dry else create_model("resnet18", small=True, classes=10)
    data: Any = noise(200, (3, 32, 32)) if dry else load_dataset("cifar10")
    epochs, batch, rate = (2, 32, 0.01) if dry else (20, 512, 0.4)
    with tempfile.TemporaryDirectory() as folder:
        result = fit(
            model, data, run_dir=f"{folder}/run", epochs=epochs, batch_size=batch, optimiser="nesterov",
            learning_rate=rate, schedule="one_cycle", weight_decay=5e-4, augment="flip,crop:4", watch=False,
            checkpoint_seconds=1e9,
        )  # fmt: skip
    spent, reached = 0.0, None
    for row in result.history:
        spent += row.seconds
        if reached is None and row.test["accuracy"] is not None and row.test["accuracy"] >= ACCURACY:
            reached = spent
    best = max(row.test["accuracy"] or 0.0 for row in result.history)
    found = {"seconds": reached, "epochs": epochs, "all": spent, "best": best}
    told = "not reached" if reached is None else f"after {reached:.1f} s"
    print(f"CIFAR-10: {ACCURACY:.0%} {told}; best {best:.2%} in {epochs} epochs of {spent:.1f} s together")
    return found


def aims(rows: list[dict[str, Any]], found: dict[str, Any] | None) -> list[str]:
    """What was aimed at, what came out, and whether it was met."""
    told = []
    for case in CASES:
        row = next((each for each in rows if each["model"] == case.model), {})
        fits = [row[name] for name in CONTESTANTS if name.startswith("fit") and name in row]
        if case.aim not in row or not fits:
            told.append(f"{case.model}: fit ≥ {case.factor:g} × {case.aim}: not timed")
            continue
        ratio = max(fits) / row[case.aim]
        verdict = "met" if ratio >= case.factor else "missed"
        told.append(f"{case.model}: fit ≥ {case.factor:g} × {case.aim}: {ratio:.2f} ×, {verdict}")
    if found is not None:
        reached = found["seconds"]
        verdict = "missed" if reached is None or reached > SECONDS else "met"
        told.append(f"CIFAR-10 to {ACCURACY:.0%} within {SECONDS:g} s: {reached and round(reached, 1)}, {verdict}")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without compilation")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which nothing more is begun")
    parser.add_argument("--cifar", action="store_true")
    parser.add_argument("--dry", action="store_true", help="everything, with a few small pictures")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    paths: dict[str, dict[str, Any]] = {
        "float32, graph": {"precision": "float32"},
        "float32, eager": {"precision": "float32", "compile": False},
        "bfloat16, graph": {"precision": "bfloat16"},
        "bfloat16, eager": {"precision": "bfloat16", "compile": False},
    }
    if not given.quick and (GPU or not given.dry):
        paths["float32, compiled"] = {"precision": "float32", "compile": True}
    limits = {"float32": 2e-4, "bfloat16": 5e-2}
    differences = check(paths)
    wrong = [path for path, value in differences.items() if value > limits[path.split(", ")[1]]]
    for path, value in differences.items():
        print(f"{path}: {value:.1e} of the largest weight beside float64 on the CPU", flush=True)
    if wrong:
        raise SystemExit(f"not the same training: {', '.join(wrong)}")
    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if GPU else platform.processor()}
    found |= {"torch": torch.__version__, "differences": differences}
    reached = cifar(given.dry) if given.cifar or given.dry else None  # before the table, which takes what time is left
    found |= {"cifar10": reached, "rows": timings(given.quick, given.limit, given.dry) if GPU or given.dry else []}
    found["aims"] = aims(found["rows"], reached)
    print("\n".join(found["aims"]))
    print(f"{time.monotonic() - BEGUN:.0f} s in all")
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
