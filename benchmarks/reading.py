"""Training on pictures that are read from disk meanwhile against training on the same pictures in memory.

    CONVSCOPE_DATA=… python benchmarks/reading.py [--case NAME …] [--repeats 3] [--json out.json]

Each case makes a data set from CIFAR-10's pictures in a temporary folder, as a file of numbers or as JPEG files of a
class folder each (at most 2,000, of which means and deviations on disk are those in memory), and trains a network on
it by ``convscope.fit`` as a user would, with two threads, from memory and from disk by turns. First it is verified that
both come to the same weights, bit for bit. The figure is the ratio of the pictures a second in an epoch, disk to
memory: 1 where reading is hidden behind the steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image

import convscope
from convscope.data import Dataset, load_dataset
from convscope.models import create_model


@dataclasses.dataclass(frozen=True)
class Case:
    model: str
    options: dict[str, Any]
    side: int  # of the pictures, in pixels
    count: int
    jpeg: bool
    epochs: int  # the first warms up


CASES = {
    "numbers, slides_cifar10": Case("slides_cifar10", {}, 32, 1_920, jpeg=False, epochs=11),
    "numbers, LeNet-5": Case("lenet5", {"in_channels": 3, "input_size": 32}, 32, 1_920, jpeg=False, epochs=21),
    "JPEG 64, ResNet-18": Case("resnet18", {}, 64, 640, jpeg=True, epochs=3),
    "JPEG 224, ResNet-18": Case("resnet18", {}, 224, 96, jpeg=True, epochs=2),
}


def make(folder: Path, case: Case) -> None:
    source = load_dataset("cifar10")
    batch = source.train.batch(torch.arange(case.count) % len(source.train))
    pictures, labels = batch.inputs[0], batch.targets
    if not case.jpeg:
        for part, kept in (("train", slice(None)), ("test", slice(200))):
            numpy.save(folder / f"x_{part}.npy", pictures[kept].numpy())
            numpy.save(folder / f"y_{part}.npy", labels[kept].numpy())
        return
    for number, (picture, label) in enumerate(zip(pictures, labels.tolist(), strict=True)):
        for part in ("train", "test") if number < 50 else ("train",):
            place = folder / part / source.classes[label]
            place.mkdir(parents=True, exist_ok=True)
            large = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((case.side, case.side))
            large.save(place / f"{number}.jpg", quality=90)


def rate(case: Case, data: Dataset[Any], folder: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Pictures a second in the epochs after the first, and the weights."""
    torch.manual_seed(0)
    model = create_model(case.model, classes=len(data.classes), **case.options)
    result = convscope.fit(
        model, data, run_dir=folder, epochs=case.epochs, batch_size=64 if case.side < 64 else 16, watch=False,
        device="cpu", evaluate_every=case.epochs, threads=2,
    )  # fmt: skip
    rates = [row.per_second for row in result.history[1:]]
    return statistics.median(rates), result.model.state_dict()


def measure(name: str, repeats: int) -> dict[str, Any]:
    case = CASES[name]
    rates: dict[str, list[float]] = {"memory": [], "disk": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "set"
        folder.mkdir()
        make(folder, case)
        sets = {how: load_dataset(folder, in_memory=how == "memory") for how in rates}
        assert sets["disk"].train.on_disk
        assert not sets["memory"].train.on_disk
        for turn in range(repeats):
            weights = {}
            for how in rates if turn % 2 else reversed(rates):
                measured, weights[how] = rate(case, sets[how], f"{place}/{how}-{turn}")
                rates[how].append(measured)
            if not all(torch.equal(weights["memory"][each], weights["disk"][each]) for each in weights["memory"]):
                raise SystemExit(f"{name}: other weights from disk than from memory: nothing to compare")
    ratios = [read / kept for read, kept in zip(rates["disk"], rates["memory"], strict=True)]
    return {"case": name, "pictures_a_second": rates, "ratio": statistics.median(ratios), "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if "CONVSCOPE_DATA" not in os.environ:
        raise SystemExit("CONVSCOPE_DATA: not set; it names the folder that holds cifar10")
    found = []
    for name in given.case or CASES:
        found.append(measure(name, given.repeats))
        figures = found[-1]["pictures_a_second"]
        shown = ", ".join(f"{how} {statistics.median(values):,.0f}" for how, values in figures.items())
        spread = f"{min(found[-1]['ratios']):.2f} … {max(found[-1]['ratios']):.2f}"
        print(f"{name}: {shown} pictures/s; disk/memory {found[-1]['ratio']:.2f} ({spread})")
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
