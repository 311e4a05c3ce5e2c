"""Training on more pictures than memory need hold: is memory flat, and is reading hidden behind the steps?

    python benchmarks/larger_than_memory.py --folder /tmp/large [--gigabytes 20] [--steps N] [--keep] [--json out.json]

Makes pictures of noise, 3×224×224, brighter by class, as .npy files of a gigabyte each (``x_train-00000-of-00020.npy``
…), asks the system to forget them, and trains a tiny network on them by ``convscope.fit`` as a user would, for one
epoch in random order. Three times are compared for the same number of batches: reading alone, steps alone on a batch at
hand, and both together; hidden reading costs the longer of the two, not their sum. A table then tells, every twentieth
of the way, the pictures and bytes read, pictures a second, and the memory that is the process's own (VmRSS; what the
system keeps of files is not the process's). The files are removed in the end, unless ``--keep``; those that are there
are used.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn

from convscope.data import Dataset, Feed, Order, load_dataset
from convscope.tasks import run
from convscope.training import events

SHAPE = (3, 224, 224)
BYTES = SHAPE[0] * SHAPE[1] * SHAPE[2]
SHARD = 2**30 // BYTES  # pictures
BATCH = 32  # its floats, 19 MB, come from memory that glibc keeps; from 32 MB on every batch would be given new pages
CLASSES = 10
CHUNK = 256  # pictures written at once


def make(folder: Path, shards: int) -> None:
    """``shards`` files of ``SHARD`` pictures each with their labels, and 256 pictures for testing; those that are there
    already stay."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = numpy.random.default_rng(0)
    noise = chance.integers(0, 200, (CHUNK, *SHAPE), dtype=numpy.uint8)
    parts = [(f"train-{number:05d}-of-{shards:05d}", SHARD) for number in range(shards)] + [("test", 256)]
    for name, count in parts:
        labels = chance.integers(0, CLASSES, count)
        if (folder / f"y_{name}.npy").is_file():  # written after its pictures
            continue
        with (folder / f"x_{name}.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, *SHAPE)}
            numpy.lib.format.write_array_header_1_0(file, header)
            for first in range(0, count, CHUNK):
                own = labels[first : first + CHUNK]
                shade = (5 * own).astype(numpy.uint8).reshape(-1, 1, 1, 1)
                file.write((numpy.roll(noise, first // CHUNK + 1, 0)[: len(own)] + shade).tobytes())
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        numpy.save(folder / f"y_{name}.npy", labels)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.AvgPool2d(7), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(8 * 4 * 4, CLASSES))


def memory() -> tuple[int, int]:
    """(now, at most), MiB of the process's own."""
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(told["VmRSS"].split()[0]) // 1024, int(told["VmHWM"].split()[0]) // 1024


def train(data: Dataset[Any], folder: Path, steps: int | None, threads: int) -> list[dict[str, float]]:
    """A row every twentieth of the epoch."""
    rows: list[dict[str, float]] = []
    total = min(steps or 10**9, -(-len(data.train) // BATCH))
    print("| pictures | GB read | seconds | pictures/s | MiB now | MiB at most | loss |\n" + "|---:" * 7 + "|")
    begun = time.monotonic()
    stream = run(
        network(), data, engine="torch", device="cpu", run_dir=str(folder), epochs=1, max_steps=steps,
        batch_size=BATCH, optimiser="sgd", learning_rate=0.02, watch=False, threads=threads,
    )  # fmt: skip
    for event in stream:
        if isinstance(event, events.BatchDone) and (event.batch == 1 or event.batch % max(total // 20, 1) == 0):
            now, most = memory()
            row: dict[str, float] = {"pictures": event.examples, "bytes": event.examples * BYTES}
            row |= {"seconds": time.monotonic() - begun, "a_second": event.per_second, "now": now, "most": most}
            rows.append(row | {"loss": event.figures["loss"]})
            print(
                f"| {event.examples:,} | {row['bytes'] / 1e9:.1f} | {row['seconds']:.0f} | {event.per_second:,.0f} "
                f"| {now} | {most} | {event.figures['loss']:.3f} |",
                flush=True,
            )
    return rows


def overlap(data: Dataset[Any], batches: int) -> dict[str, float]:
    """Milliseconds a batch: read alone, a step alone, both together; each on batches that were not read before."""
    model, rng = network(), torch.Generator().manual_seed(1)
    preprocessing = data.preprocessing()
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step(pictures: torch.Tensor, labels: torch.Tensor) -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(preprocessing.normalise(pictures)), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def some() -> Feed[Any]:
        chosen = data.train.select(torch.randperm(len(data.train), generator=rng)[: batches * BATCH])
        return Feed(chosen, Order(len(chosen), BATCH, shuffle=False))

    def timed(feed: Feed[Any], steps: bool, at_hand: bool = False) -> float:
        kept = next(iter(feed))
        begun = time.perf_counter()
        for batch in [kept] * batches if at_hand else feed:
            if steps:
                step(batch.inputs[0], batch.targets)
        return 1e3 * (time.perf_counter() - begun) / batches

    return {"read": timed(some(), False), "step": timed(some(), True, at_hand=True), "both": timed(some(), True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--gigabytes", type=int, default=20)
    parser.add_argument("--steps", type=int, help="train so many steps only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    folder = given.folder / f"noise-{given.gigabytes}"
    begun = time.monotonic()
    try:
        make(folder, given.gigabytes)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(
            f"{size / 1e9:.1f} GB in {len(list(folder.iterdir()))} files, made in {time.monotonic() - begun:.0f} s",
            flush=True,
        )
        data = load_dataset(folder, in_memory=False)
        print(f"{len(data.train):,} pictures for training; before it the process has {memory()[0]} MiB")
        times = overlap(data, 30)
        print(", ".join(f"{name} {value:.1f} ms a batch" for name, value in times.items()), flush=True)
        rows = train(data, given.folder / "run", given.steps, given.threads)
        if given.json is not None:
            given.json.write_text(json.dumps({"bytes": size, "rows": rows, "times": times}, indent=1) + "\n")
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(given.folder / "run", ignore_errors=True)


if __name__ == "__main__":
    main()
