"""What a picture costs R-CNN, Fast R-CNN and Faster R-CNN, and their hidden layers before and after truncated SVD.

    python benchmarks/detectors.py [--rcnn FILE] [--fast FILE] [--faster FILE] [--sides 240:320 480:640] [--threads 1 2]
        [--engines torch auto] [--pictures 8] [--heads 256:128:64 4096:1024:256] [--map] [--out FILE.json]

Pictures are test pictures of BCCD, one after another, each by itself, scaled to the sides given (shorter:longest):
proposing regions and what ``predict`` takes from pixels to boxes, medians in milliseconds with their spread (largest −
smallest). Where no trained model's file is given, its recipe's network is taken as it begins: it answers for as many
regions. Before anything is timed each engine's boxes are compared with those of torch in one thread.

``--heads`` H:K:L are heads of H hidden units, compressed to ranks K and L, on 300 regions; the compressed layers are
compared with the products of their matrices first. ``--map`` evaluates the file of ``--fast`` before and after, where H
is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope import compress, evaluate, load, load_dataset
from convscope.models import create_model
from convscope.spec import ModelSpec, attach, spec_of
from convscope.tasks.detection.predict import Detection
from convscope.tasks.detection.proposals import method_of, propose
from convscope.tasks.detection.recipes import RECIPES
from convscope.tasks.detection.scaling import Scale, scaled
from convscope.tasks.detection.task import DetectionTask
from convscope.tasks.detection.timing import head_seconds
from convscope.training.preparing import preprocessing_for

NAMES = {"rcnn": "R-CNN", "fast": "Fast R-CNN", "faster": "Faster R-CNN"}
RECIPE_OF = {"rcnn": "rcnn-bccd", "fast": "fast_rcnn-bccd", "faster": "faster_rcnn-bccd"}


def opened(name: str, path: Path | None, data: Any) -> nn.Module:
    """The model in the file, or its recipe's network as it begins."""
    if path is not None:
        return load(path).eval()
    recipe = next(each for each in RECIPES if each.name == RECIPE_OF[name])
    torch.manual_seed(0)
    model = create_model(recipe.model, classes=len(data.classes), in_channels=3, **recipe.options).eval()
    described = spec_of(model)
    assert isinstance(described, ModelSpec)
    scaling = data.preprocessing((240, 320), 3)
    inputs = tuple(
        each if each.kind != "pictures" else type(each)("pictures", each.shape, scaling) for each in described.inputs
    )
    attach(model, described.replace(inputs=inputs))
    return model


def answers(
    model: nn.Module, pictures: Sequence[Tensor], task: DetectionTask, engine: str
) -> tuple[list[Detection], list[float]]:
    """What is in each picture, and the seconds that each but the first took; the first makes everything ready."""
    found, seconds = [], []
    begun = time.perf_counter()
    for each in task.predict(model, list(pictures), batch_size=1, engine=engine):
        seconds.append(time.perf_counter() - begun)
        found.append(each)
        begun = time.perf_counter()
    return found, seconds[1:]


def verify(own: Sequence[Detection], others: Sequence[Detection], what: str) -> None:
    """The same boxes of the same classes: those of a score clearly above the threshold lie within half a pixel."""
    for mine, its in zip(own, others, strict=True):
        one, other = mine.found.above(0.1), its.found
        for box, label, score in zip(one.boxes, one.labels, one.scores, strict=True):
            near = (other.boxes - box).abs().amax(1) < 0.5
            near &= (other.labels == label) & ((other.scores - score).abs() < 1e-3)
            assert near.any(), f"{what}: no such box in torch's answer: {box.tolist()}"


def told(seconds: Sequence[float]) -> dict[str, float]:
    values = [1000 * each for each in seconds]
    return {"median": statistics.median(values), "spread": max(values) - min(values)}


def measure(
    model: nn.Module, pictures: Sequence[Tensor], sides: str, given: argparse.Namespace, rows: list[Any]
) -> None:
    """One row an engine and number of threads."""
    shorter, longest = map(int, sides.split(":"))
    task = DetectionTask({"shorter": shorter, "longest": longest})
    settings = task.settings_for(model)
    torch.set_num_threads(1)
    wanted, _ = answers(model, pictures, task, "torch")  # regions are kept from here on
    for threads in given.threads:
        torch.set_num_threads(threads)
        searching = [0.0]
        if not getattr(model, "proposes", False):
            scale, preprocessing = Scale(shorter, longest), preprocessing_for(model)
            searching = []
            for picture in pictures[:3]:
                small = scaled(picture, scale, preprocessing)
                begun = time.perf_counter()
                propose(small, method_of(settings.proposals), settings.regions)
                searching.append(time.perf_counter() - begun)
        for engine in given.engines:
            found, seconds = answers(model, [*pictures, *pictures], task, engine)
            verify(found[: len(pictures)], wanted, f"{type(model).__name__}, {engine}, {threads} threads")
            row: dict[str, Any] = {"model": type(model).__name__, "sides": sides, "threads": threads, "engine": engine}
            row |= {"searching": told(searching), "network": told(seconds)}
            whole = row["searching"]["median"] + row["network"]["median"]
            rows.append({**row, "milliseconds": whole})
            print(
                f"{row['model']:<11} {sides:>9}  {threads} threads  {engine:<6}  regions "
                f"{row['searching']['median']:7.1f} ± {row['searching']['spread']:.1f} ms  predict "
                f"{row['network']['median']:7.1f} ± {row['network']['spread']:.1f} ms  {1000 / whole:6.2f} pictures/s"
            )


def head(described: str, fast: Path | None, data: Any, with_map: bool) -> dict[str, Any]:
    """Milliseconds of the two hidden layers before and after; mAP where it is asked for."""
    hidden, *ranks = map(int, described.split(":"))
    trained = load(fast).eval() if fast is not None else None
    own = trained is not None and trained.get_submodule("roi_heads.box_head.fc7").in_features == hidden
    whole: Any = trained if own else create_model("fast_rcnn", classes=3, small=True, hidden=hidden).eval()
    names = [f"roi_heads.box_head.fc{place}" for place in (6, 7)]
    small: Any = compress(whole, rank=dict(zip(names, ranks, strict=True)))
    for name, rank in zip(names, ranks, strict=True):
        weight = whole.get_submodule(name).weight.detach().double()
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        x = torch.randn(5, weight.shape[1], dtype=torch.float64)
        wanted = x @ (u[:, :rank] * s[:rank] @ v[:rank]).T + whole.get_submodule(name).bias.detach()
        with torch.no_grad():
            found = small.get_submodule(name)(x.float()).double()
        assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max(), f"{name}: not the product of its matrices"
    size = whole.roi_heads.box_head.fc6.in_features
    before, after = head_seconds([whole, small], size, regions=300)
    row: dict[str, Any] = {"hidden": hidden, "ranks": ranks, "before": 1000 * before, "after": 1000 * after}
    row["saved"] = 100 * (1 - after / before)
    line = f"head of {hidden}, ranks {ranks}: {row['before']:.1f} → {row['after']:.1f} ms, {row['saved']:.0f} % less"
    if own and with_map:
        figures = [evaluate(each, data, batch_size=4, engine="torch").to_json() for each in (whole, small)]
        row["map"] = [100 * each["mean_ap"] for each in figures]
        line += f"; mAP@0.5 {row['map'][0]:.2f} → {row['map'][1]:.2f} %"
    print(line)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in NAMES:
        parser.add_argument(f"--{name}", type=Path, metavar="FILE")
    parser.add_argument("--models", nargs="*", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--sides", nargs="*", default=["240:320", "480:640"], metavar="SHORTER:LONGEST")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--engines", nargs="*", default=["torch", "auto"], choices=["torch", "auto", "native"])
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--heads", nargs="*", default=["256:128:64", "4096:1024:256"], metavar="H:K:L")
    parser.add_argument("--map", action="store_true")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    given = parser.parse_args()
    data = load_dataset("bccd")
    test: Any = data.test
    places = torch.linspace(0, len(test) - 1, given.pictures).round().long().tolist()
    pictures = [test.pictures.picture(place) for place in places]
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {given.pictures} pictures")
    rows: list[Any] = []
    with tempfile.TemporaryDirectory() as home:
        kept, os.environ["HOME"] = os.environ.get("HOME", ""), home  # regions are kept there, not in the user's own
        for sides in given.sides:
            for name in given.models:
                measure(opened(name, getattr(given, name), data), pictures, sides, given, rows)
        os.environ["HOME"] = kept
    torch.set_num_threads(1)
    heads = [head(each, given.fast, data, given.map) for each in given.heads]
    if given.out is not None:
        given.out.write_text(json.dumps({"pictures": rows, "heads": heads}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
