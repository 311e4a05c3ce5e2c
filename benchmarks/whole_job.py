"""The whole job, from start to finish: LeNet-5 on MNIST by ``convscope train`` and by a plain torch script.

    CONVSCOPE_DATA=… python benchmarks/whole_job.py [--epochs 6] [--batch-size 64] [--repeats 3] [--json out.json]

Both are processes of their own, started by turns and timed from outside, imports and reading of files included. The
script is the one that tutorials show: a Dataset over the idx files, DataLoader, eager float32, Adam, a test pass after
every epoch. Model (ReLU, max pooling), batch size, epochs, learning rate and its cosine are the same on both sides.
Each side prints its own test error at the end. ``--script`` runs the plain script alone.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATE = 2e-3


def plain_script(data: Path, epochs: int, batch_size: int, threads: int) -> None:
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

    train = DataLoader(split("train"), batch_size, shuffle=True)
    test = DataLoader(split("t10k"), 256)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    loss_of = nn.CrossEntropyLoss()
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(train))
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
    settings = [
        "--epochs", str(options.epochs), "--batch-size", str(options.batch_size), "--learning-rate", str(RATE),
        "--threads", str(options.threads), "--run-dir", folder,
    ]  # fmt: skip
    model = ["-o", "activation=relu", "-o", "pool=max"]
    return [sys.executable, "-m", "convscope", "train", "lenet5", "--data", "mnist", *model, *settings]


def timed(command: list[str]) -> tuple[float, str]:
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return seconds, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--script", action="store_true", help="run the plain script alone, in this process")
    options = parser.parse_args()
    data = Path(os.environ["CONVSCOPE_DATA"]) / "mnist"
    if options.script:
        plain_script(data, options.epochs, options.batch_size, options.threads)
        return
    times: dict[str, list[float]] = {"convscope": [], "torch": []}
    errors: dict[str, list[float]] = {"convscope": [], "torch": []}
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            seconds, _ = timed(convscope_command(options, str(run)))
            times["convscope"].append(seconds)
            errors["convscope"].append(json.loads((run / "metrics.json").read_text())["error"])
        script = [sys.executable, __file__, "--script", "--epochs", str(options.epochs)]
        script += ["--batch-size", str(options.batch_size), "--threads", str(options.threads)]
        seconds, printed = timed(script)
        times["torch"].append(seconds)
        errors["torch"].append(json.loads(printed.splitlines()[-1])["error"])
    for name, seconds_each in times.items():
        shown = ", ".join(f"{seconds:.2f}" for seconds in seconds_each)
        print(f"{name:<10} {statistics.median(seconds_each):7.2f} s ({shown})  test error {errors[name][-1]:.2%}")
    ratio = statistics.median(times["torch"]) / statistics.median(times["convscope"])
    print(f"convscope is {ratio:.2f} times as fast from start to finish")
    if options.json is not None:
        options.json.write_text(json.dumps({"seconds": times, "errors": errors, "ratio": ratio}, indent=1) + "\n")


if __name__ == "__main__":
    main()
