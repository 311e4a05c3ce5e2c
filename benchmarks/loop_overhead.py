"""What convscope's training loop costs over a bare torch loop on the same model and batches.

    python benchmarks/loop_overhead.py [--model lenet5] [--epochs 15] [--batch-size 64] [--turn 10] [--json out.json]

Both train the same network from the same weights on the same batches with the same optimiser, ``--turn`` steps each by
turns, so that what else the machine does falls on both (after turns of a single step each would find its caches filled
by the others, which no user's loop does). The bare loop is what one writes by hand: normalise, forward, loss,
backward, step, add up the loss; nothing is counted, told, watched or saved. Both use channels-last convolutions and
torch's fused optimiser, the fastest that a bare loop can have; "plain" is the same loop without these two. First it is
verified that all come to the same weights. The figure is the median, over all turns, of the ratio of both times; its
spread is that of the epochs' own medians. What happens between epochs (evaluation, checkpoint) is timed apart.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convscope.data import Dataset, Feed, Labelled, Order
from convscope.models import create_model
from convscope.spec import Preprocessing, spec_of
from convscope.tasks import run
from convscope.training import events

LIMIT = 0.01  # of a bare step's time


def pictures(model: nn.Module, count: int) -> Dataset:
    """Random pictures of the model's size: what is on them does not change the time."""
    described = spec_of(model)
    assert described is not None
    chance = torch.Generator().manual_seed(0)
    shape = (count, *described.input_shape)
    images = torch.randint(0, 256, shape, generator=chance, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=chance)
    names = tuple(map(str, range(10)))
    return Dataset("noise", Labelled(images, labels, names), Labelled(images[:100], labels[:100], names))


def bare(model: nn.Module, data: Dataset, preprocessing: Preprocessing, batch_size: int, fast: bool) -> Iterator[None]:
    """Train for ever; comes back after every step."""
    if fast:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fast)
    model.train()
    for epoch in itertools.count(1):
        total = 0.0
        for batch in Feed(data.train, Order(len(data.train), batch_size, seed=0, epoch=epoch)):
            x = preprocessing.normalise(batch.inputs[0])
            if fast:
                x = x.contiguous(memory_format=torch.channels_last)
            optimiser.zero_grad()
            loss = F.cross_entropy(model(x), batch.targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item()
            yield


def convscope(model: nn.Module, data: Dataset, folder: Path, batch_size: int, epochs: int) -> Iterator[bool]:
    """The same by convscope's loop, as ``fit`` runs it; comes back after every step (True) and every other event."""
    stream = run(
        model, data, engine="torch", run_dir=str(folder), epochs=epochs, batch_size=batch_size, schedule="constant",
        evaluate_every=epochs, device="cpu",
    )  # fmt: skip
    for event in stream:
        yield isinstance(event, events.BatchDone)


def verify(models: dict[str, nn.Module]) -> None:
    """After a few steps the three networks must be the same, up to the order of sums (channels-last, threads)."""
    for each in ("bare", "plain"):
        for its, mine in zip(models[each].parameters(), models["convscope"].parameters(), strict=True):
            if not torch.allclose(its, mine, rtol=1e-2, atol=1e-3):
                raise SystemExit(f"{each} and convscope do not train the same network: nothing to compare")


def measure(name: str, batch_size: int, epochs: int, images: int, turn: int) -> dict[str, object]:
    options: dict[str, Any] = {"activation": "relu", "pool": "max"} if name == "lenet5" else {}
    torch.manual_seed(0)
    models = {each: create_model(name, **options) for each in ("bare", "plain", "convscope")}
    for model in models.values():
        model.load_state_dict(models["bare"].state_dict())
    data = pictures(models["bare"], images)
    preprocessing = data.preprocessing()
    steps = -(-images // batch_size)
    seconds: dict[str, list[list[float]]] = {each: [] for each in models}
    between = 0.0
    with tempfile.TemporaryDirectory() as folder:
        ours = convscope(models["convscope"], data, Path(folder) / "run", batch_size, epochs)
        loops: dict[str, Iterator[object]] = {
            "bare": bare(models["bare"], data, preprocessing, batch_size, fast=True),
            "plain": bare(models["plain"], data, preprocessing, batch_size, fast=False),
            "convscope": ours,
        }
        for epoch in range(epochs):
            for values in seconds.values():
                values.append([])
            begun = time.perf_counter()
            while not next(ours):  # events at an epoch's start and end, with all that is done there
                pass
            between += time.perf_counter() - begun
            next(loops["bare"])
            next(loops["plain"])
            for number, first in enumerate(range(1, steps, turn)):
                count = min(turn, steps - first)
                for each in list(loops) if number % 2 else list(loops)[::-1]:
                    begun = time.perf_counter()
                    for _ in range(count):
                        next(loops[each])
                    seconds[each][epoch].append((time.perf_counter() - begun) / count)
                if epoch == 0 and number == 0:
                    verify(models)
    kept = {each: values[1:] for each, values in seconds.items()}  # the first epoch warms up
    middle = {each: statistics.median(itertools.chain(*values)) for each, values in kept.items()}
    ratios = [
        [mine / its - 1 for mine, its in zip(ours_, bare_, strict=True)]
        for ours_, bare_ in zip(kept["convscope"], kept["bare"], strict=True)
    ]
    epochwise = [statistics.median(each) for each in ratios]
    quarters = statistics.quantiles(epochwise, n=4)
    return {
        "model": name,
        "batch_size": batch_size,
        "steps": (epochs - 1) * (steps - 1),
        "steps_a_turn": turn,
        "milliseconds_a_step": {each: 1e3 * value for each, value in middle.items()},
        "milliseconds_between_epochs": 1e3 * between / epochs,
        "overhead": statistics.median(itertools.chain(*ratios)),
        "overhead_quartiles": [quarters[0], quarters[2]],
        "against_plain": middle["convscope"] / middle["plain"] - 1,
        "limit": LIMIT,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lenet5")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=6_400)
    parser.add_argument("--turn", type=int, default=10, help="steps that each does before the next one's turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = measure(given.model, given.batch_size, given.epochs, given.images, given.turn)
    found |= {"threads": given.threads, "torch": torch.__version__, "processor": platform.machine()}
    found["instruction_set"] = torch.backends.cpu.get_cpu_capability()
    times = found["milliseconds_a_step"]
    assert isinstance(times, dict)
    print(", ".join(f"{each} {value:.3f} ms a step" for each, value in times.items()))
    quartiles = found["overhead_quartiles"]
    assert isinstance(quartiles, list)
    low, high = quartiles
    print(f"overhead {found['overhead']:+.2%} (quartiles {low:+.2%} … {high:+.2%}), limit {LIMIT:.0%}")
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
