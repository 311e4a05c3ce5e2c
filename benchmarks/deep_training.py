"""Steps a second of a deep network in a whole training: ``convscope train`` beside a plain torch script.

    CONVSCOPE_DATA=… python benchmarks/deep_training.py [--steps 10 40] [--batch-size 64] [--threads 1] [--repeats 1]

ResNet-18 for small pictures on CIFAR-10's first training pictures. Both are processes of their own that run by turns,
once for few steps and once for more: what the difference takes is the steps', without imports, reading, and the test
at the end. ``convscope train`` is run as a person types it, with the first step's check, its run folder and its
history; the script is the one that tutorials show (a TensorDataset, DataLoader, float32, channels-last with
``--channels-last``), with the same network, optimiser and batches of the same size. Beside the wall time stands the
processor time, which what else the machine does hardly changes. ``--script`` runs the plain script alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from whole_job import timed  # type: ignore[import-not-found]  # beside this file

TESTED = 64  # pictures of the test at the end
RATE, MOMENTUM, DECAY = 0.02, 0.9, 5e-4


def write_pictures(path: Path, count: int) -> None:
    import numpy as np

    from convscope.data import load_dataset

    data = load_dataset("cifar10")
    parts = {"train": (data.train, count), "test": (data.test, TESTED)}
    arrays = {}
    for name, (pictures, wanted) in parts.items():
        arrays[f"x_{name}"], arrays[f"y_{name}"] = (
            each[:wanted].numpy() for each in (pictures.images, pictures.labels)
        )
    np.savez(path, **arrays)


def plain_script(path: Path, steps: int, batch: int, threads: int, channels_last: bool) -> None:
    """What one writes without a library for it."""
    import numpy as np
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from convscope.models import create_model

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    order = torch.channels_last if channels_last else torch.contiguous_format
    content = np.load(path)

    def part(name: str) -> TensorDataset:
        pictures = torch.from_numpy(content[f"x_{name}"]).float() / 255
        return TensorDataset((pictures - 0.47) / 0.25, torch.from_numpy(content[f"y_{name}"]).long())

    model = create_model("resnet18", small=True, classes=10)
    model.to(memory_format=order)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    loss_of = nn.CrossEntropyLoss()
    done = 0
    model.train()
    while done < steps:
        for images, labels in DataLoader(part("train"), batch, shuffle=True, drop_last=True):
            optimiser.zero_grad()
            loss_of(model(images.contiguous(memory_format=order)), labels).backward()
            optimiser.step()
            done += 1
            if done == steps:
                break
    model.eval()
    with torch.no_grad():
        for images, labels in DataLoader(part("test"), TESTED):
            print("test error", float((model(images).argmax(1) != labels).float().mean()))


def commands(options: argparse.Namespace, data: Path, folder: str, steps: int) -> dict[str, list[str]]:
    batch, threads = ["--batch-size", str(options.batch_size)], ["--threads", str(options.threads)]
    plain = [sys.executable, __file__, "--script", str(data), "--steps", str(steps), *batch, *threads]
    own = [sys.executable, "-m", "convscope", "train", "resnet18", "-o", "small=true", "--data", str(data), *batch]
    own += [*threads, "--max-steps", str(steps), "--optimiser", "sgd", "--lr", str(RATE), "--weight-decay", str(DECAY)]
    own += ["--recipe", "none", "--no-pictures", "--no-watch", "--run-dir", folder]
    return {"convscope": own, "torch": plain, "torch channels-last": [*plain, "--channels-last"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 40], help="fewer, and more")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--script", type=Path, metavar="PICTURES", help="run the plain script alone, in this process")
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    if options.script:
        plain_script(options.script, options.steps[0], options.batch_size, options.threads, options.channels_last)
        return
    few, many = options.steps
    wall: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "pictures.npz"
        write_pictures(data, many * options.batch_size)
        for repeat in range(options.repeats):
            for side in commands(options, data, "", few):
                took = []
                for steps in (few, many):
                    run = str(Path(folder) / f"run-{repeat}-{side}-{steps}")
                    took.append(timed(commands(options, data, run, steps)[side])[:2])
                pictures = (many - few) * options.batch_size
                for kind, which in ((wall, 0), (processor, 1)):
                    kind.setdefault(side, []).append(pictures / (took[1][which] - took[0][which]))
                print(
                    f"{side:<20} {wall[side][-1]:8.1f} pictures/s, {processor[side][-1]:8.1f} by processor time",
                    flush=True,
                )
    for name, kind in (("wall", wall), ("processor", processor)):
        middle = {side: statistics.median(rates) for side, rates in kind.items()}
        best = max(rate for side, rate in middle.items() if side != "convscope")
        print(
            f"by {name} time convscope is {middle['convscope'] / middle['torch']:.2f} times as fast as the script, "
            f"{middle['convscope'] / best:.2f} times as its best"
        )


if __name__ == "__main__":
    main()
