"""What augmentation and batching cost, beside the training step that they feed.

    python benchmarks/augmentation.py [--batch 64] [--threads 1] [--repeats 200] [--device cpu] [--out FILE.json]

Pictures are random of MNIST's and CIFAR-10's sizes, so no data set is needed. Every operation is verified before it is
timed: the affine part against torch's affine_grid, elastic distortion by the variance of Simard's recipe. The steps
are whole training steps (forward, loss, backward, SGD) of LeNet-5 with ReLU and max pooling, by eager torch and, where
it is built, by the native engine. A peer is timed too: the same distortion composed of torch's own functions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from convscope import native, seeding
from convscope.data import Feed, Labelled, Order
from convscope.data.augment import parse_augmentation

GREY = (
    "crop:2", "rotate:10,scale:0.1,translate:2", "elastic:34:4", "translate:2,rotate:10,scale:0.1,elastic:34:4",
    "width:10:20", "brightness:0.2,contrast:0.2", "cutout:8",
)  # fmt: skip
COLOUR = (
    "flip,crop:4", "flip,crop:4,cutout:8", "rotate:10,scale:0.1", "elastic:34:4",
    "brightness:0.2,contrast:0.2,saturation:0.2,hue:10", "pca",
)  # fmt: skip
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def timed(run: Callable[[], object], repeats: int, device: torch.device) -> dict[str, float]:
    """Median and quartiles of ``repeats`` calls, in milliseconds, after a tenth as many to warm up."""
    for _ in range(max(3, repeats // 10)):
        run()
    times = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        times.append((time.perf_counter() - start) * 1000)
    first, median, third = statistics.quantiles(times, n=4)
    return {"median_ms": round(median, 4), "quartile_1_ms": round(first, 4), "quartile_3_ms": round(third, 4)}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_split(shape: tuple[int, int, int], count: int, device: torch.device) -> Labelled:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return Labelled(images, labels, tuple("0123456789")).to(device)


def verify() -> None:
    """AssertionError where an operation does not do what it says."""
    ramp = (torch.arange(28) * 9).to(torch.uint8).expand(2000, 1, 28, 28).contiguous()
    bent = parse_augmentation("elastic:34:4")(ramp, seeding.generator(1, "verify"))
    displacement = (bent[:, 0, 14, 10:18].float() - ramp[:, 0, 14, 10:18].float()) / 9
    wanted = 34 / 3**0.5 / (2 * 4 * 3.14159265**0.5)  # α·√(1/3) / (2σ√π): noise uniform in −1 … 1, Gaussian of sum 1
    assert abs(float(displacement.std()) / wanted - 1) < 0.05, "elastic distortion has the wrong strength"

    images = random_split((3, 32, 32), 16, torch.device("cpu")).images
    angles = (torch.rand((2, 16), generator=seeding.generator(1, "verify")) * 2 - 1)[0] * 30 * 3.14159265 / 180
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros(16)
    theta = torch.stack([torch.stack([cosine, sine, zero], 1), torch.stack([-sine, cosine, zero], 1)], 1)
    grid = functional.affine_grid(theta, [16, 3, 32, 32], align_corners=False)
    theirs = functional.grid_sample(images.float(), grid, align_corners=False)
    ours = parse_augmentation("rotate:30")(images, seeding.generator(1, "verify")).float()
    assert float((ours - theirs).abs().max()) < 0.51, "rotation differs from torch's affine_grid"


def peer(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """translate:2,rotate:10,scale:0.1,elastic:34:4 as one would write it from torch's functions, the noise in full."""
    count, _, height, width = images.shape
    angle, scale, x, y = (torch.rand((4, count), generator=generator) * 2 - 1).unbind(0)
    angle, scale = angle * 10 * 3.14159265 / 180, 1 / (1 + 0.1 * scale)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack(
        [torch.stack([cosine, sine, x * 4 / width], 1), torch.stack([-sine, cosine, y * 4 / height], 1)], 1
    )
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    noise = torch.rand((2 * count, 1, height, width), generator=generator) * 2 - 1
    kernel = torch.exp(-(torch.arange(-16.0, 17.0) ** 2) / 32)
    kernel = kernel / kernel.sum()
    field = functional.conv2d(noise, kernel.reshape(1, 1, 1, -1), padding=(0, 16))
    field = functional.conv2d(field, kernel.reshape(1, 1, -1, 1), padding=(16, 0)) * 34
    offsets = field.reshape(count, 2, height, width).permute(0, 2, 3, 1) * torch.tensor([2 / width, 2 / height])
    sampled = functional.grid_sample(images.float(), grid + offsets, align_corners=False)
    return sampled.round().clamp(0, 255).to(torch.uint8)


def lenet5() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def step_of(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], object]:
    """A whole training step on one batch, normalisation included."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        x = (images.float() - 33.3) / 78.6
        functional.cross_entropy(model(x), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def native_step(images: torch.Tensor, labels: torch.Tensor) -> Callable[[], object] | None:
    """The same step by the native engine; None where it is not built."""
    if not native.available():
        return None
    model = native.accelerate(lenet5(), loss="cross_entropy")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        model.loss_and_grad((images.float() - 33.3) / 78.6, labels)
        optimiser.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="pictures in a batch")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--repeats", type=int, default=200, help="timed calls of each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, help="also write the result to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    verify()

    results: dict[str, Any] = {}
    for name, specs in (("mnist", GREY), ("cifar10", COLOUR)):
        split = random_split(SHAPES[name], 4096, device)
        images = split.images[: arguments.batch]
        epoch = Feed(split, Order(len(split), arguments.batch))
        whole = timed(lambda: sum(1 for _ in epoch), max(5, arguments.repeats // 20), device)  # noqa: B023
        results[f"{name} batching alone"] = {key: round(value / len(epoch), 4) for key, value in whole.items()}
        for spec in specs:
            augmentation = parse_augmentation(spec).fitted(split)
            results[f"{name} {spec}"] = timed(
                lambda: augmentation(images, seeding.generator(1, "augment", 0, 0)),  # noqa: B023
                arguments.repeats,
                device,
            )
    split = random_split(SHAPES["mnist"], arguments.batch, device)
    if device.type == "cpu":
        results["peer: mnist translate,rotate,scale,elastic by torch"] = timed(
            lambda: peer(split.images, seeding.generator(1, "peer")), arguments.repeats, device
        )
    torch.manual_seed(1)
    model = lenet5().to(device)
    results["step: LeNet-5, torch"] = timed(step_of(model, split.images, split.labels), arguments.repeats, device)
    engine_step = native_step(split.images, split.labels) if device.type == "cpu" else None
    if engine_step is not None:
        results["step: LeNet-5, native"] = timed(engine_step, arguments.repeats, device)

    report = {
        "benchmark": "augmentation",
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "instruction_set": torch.backends.cpu.get_cpu_capability(),
            "torch": torch.__version__,
            "threads": arguments.threads,
            "device": str(device),
        },
        "batch": arguments.batch,
        "results": results,
    }
    text = json.dumps(report, indent=2, ensure_ascii=False)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
