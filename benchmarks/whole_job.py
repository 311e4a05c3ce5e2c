"""The whole job, from start to finish: LeNet-5 on MNIST by ``convscope train`` and by a plain torch script.

    CONVSCOPE_DATA=… python benchmarks/whole_job.py [--epochs 12] [--repeats 3] [--json out.json]

Both are processes of their own, started by turns and timed from outside, imports and reading of files included.
``convscope train lenet5 --data mnist`` is run as a person types it; the script is the one that tutorials show (a
TensorDataset, DataLoader, eager float32, a test pass after every epoch) with the same recipe: ReLU and max pooling,
SGD with momentum, weight decay, half an epoch of warm-up and a cosine. Each side tells its own test error at the end.
Beside the wall time stands the processor time, which what else the machine does hardly changes. ``--script`` runs the
plain script alone.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATE, MOMENTUM, DECAY, WARMUP, BATCH = 0.05, 0.9, 5e-4, 0.5, 64


def plain_script(data: Path, epochs: int, threads: int) -> None:
    """What one writes without a library for it; prints the test error as JSON."""
    import numpy as np
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    torch.set_num_threads(threads)

    def read(name: str) -> torch.Tensor:
        path = data / name
        content = path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())
        dims = content[3]
        shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims)]
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape(shape).copy())

    def split(name: str) -> TensorDataset:
        images = read(f"{name}-images-idx3-ubyte")[:, None].float() / 255
        return TensorDataset((images - 0.1307) / 0.3081, read(f"{name}-labels-idx1-ubyte").long())

    train = DataLoader(split("train"), BATCH, shuffle=True)
    test = DataLoader(split("t10k"), 256)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    loss_of = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    warm, steps = WARMUP * len(train), epochs * len(train)

    def factor(step: int) -> float:
        return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    error = 1.0
    for _ in range(epochs):
        model.train()
        for images, labels in train:
            optimiser.zero_grad()
            loss = loss_of(model(images), labels)
            loss.backward()
            optimiser.step()
            schedule.step()
        model.eval()
        wrong = 0
        with torch.no_grad():
            for images, labels in test:
                wrong += int((model(images).argmax(1) != labels).sum())
        error = wrong / 10_000
    torch.save(model.state_dict(), Path(tempfile.gettempdir()) / f"plain-{os.getpid()}.pt")
    (Path(tempfile.gettempdir()) / f"plain-{os.getpid()}.pt").unlink()
    print(json.dumps({"error": error}))


def convscope_command(options: argparse.Namespace, folder: str) -> list[str]:
    settings = ["--epochs", str(options.epochs), "--threads", str(options.threads), "--run-dir", folder]
    return [sys.executable, "-m", "convscope", "train", "lenet5", "--data", "mnist", *settings]


def timed(command: list[str]) -> tuple[float, float, str]:
    """Wall time and processor time in seconds, and what was printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--script", action="store_true", help="run the plain script alone, in this process")
    options = parser.parse_args()
    data = Path(os.environ["CONVSCOPE_DATA"]) / "mnist"
    if options.script:
        plain_script(data, options.epochs, options.threads)
        return
    sides = ("convscope", "torch")
    wall: dict[str, list[float]] = {side: [] for side in sides}
    processor: dict[str, list[float]] = {side: [] for side in sides}
    errors: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(options.repeats):
        for side in sides:
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder) / "run"
                script = [sys.executable, __file__, "--script", "--epochs", str(options.epochs)]
                script += ["--threads", str(options.threads)]
                seconds, busy, printed = timed(convscope_command(options, str(run)) if side == "convscope" else script)
                told = (run / "metrics.json").read_text() if side == "convscope" else printed.splitlines()[-1]
            wall[side].append(seconds)
            processor[side].append(busy)
            errors[side].append(json.loads(told)["error"])
            print(
                f"{side:<10} {seconds:7.2f} s, processor {busy:7.2f} s, test error {errors[side][-1]:.2%}", flush=True
            )
    ratio, busy_ratio = (
        statistics.median(kind["torch"]) / statistics.median(kind["convscope"]) for kind in (wall, processor)
    )
    print(
        f"convscope is {ratio:.2f} times as fast from start to finish, with {busy_ratio:.2f} times less processor time"
    )
    if options.json is not None:
        found = {"wall": wall, "processor": processor, "errors": errors, "ratio": ratio, "processor_ratio": busy_ratio}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
