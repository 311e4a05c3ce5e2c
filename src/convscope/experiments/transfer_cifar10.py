"""Transfer: what a network learned on CIFAR-10's vehicles is worth when there are few pictures of its animals.

Yosinski, Clune, Bengio, Lipson: How transferable are features in deep neural networks? NIPS 2014, splits ImageNet into
man-made and natural classes in the same way.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from convscope import seeding
from convscope.data import Dataset, Labelled
from convscope.experiments.base import Outcomes, Report, Row, Setting, data_set, register, trained
from convscope.experiments.pictures import lines
from convscope.tasks.stages import Stage

VEHICLES = ("airplane", "automobile", "ship", "truck")
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")

_MODEL = "krizhevsky_cifar10"
_CONVOLUTIONS = ("conv1", "conv2", "conv3")
_COMMON: dict[str, Any] = {
    "optimiser": "nesterov", "momentum": 0.9, "schedule": "cosine", "augment": "flip,crop:2", "watch": False,
    "evaluate_every": 1000, "checkpoint_seconds": 0,
}  # fmt: skip
_VEHICLES: dict[str, Any] = {
    **_COMMON, "epochs": 12, "batch_size": 64, "learning_rate": 0.02, "warmup": 0.5, "weight_decay": 5e-4,
    "init": "he_normal",
}  # fmt: skip
_ANIMALS: dict[str, Any] = {**_COMMON, "batch_size": 32, "learning_rate": 0.01, "warmup": 1, "weight_decay": 5e-4}

# Pictures of each animal → (epochs, how often the pictures are drawn anew): 400 to 560 descent steps a run.
_SIZES: dict[int, tuple[int, int]] = {25: (80, 3), 100: (24, 2), 500: (6, 1)}

# What is done with the network of the vehicles → (options of the model's builder, training settings). The last layer
# always begins anew, for it has other classes.
_WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "from nothing": ({"weights": None}, {"init": "he_normal"}),
    "vehicles' convolutions, frozen": ({"freeze": list(_CONVOLUTIONS)}, {}),
    "vehicles' convolutions, a tenth of the rate": ({}, {"learning_rates": dict.fromkeys(_CONVOLUTIONS, 0.1)}),
}


def stages(setting: Setting) -> list[Stage]:
    """Train on the 20,000 vehicles, then learn six animals from 25, 100 and 500 pictures each, tested on 6,000."""
    found = [
        trained(
            "vehicles", _MODEL, lambda _: _vehicles(setting), _VEHICLES, setting,
            described={"data": "cifar10, vehicles"},
        )
    ]  # fmt: skip
    for per_class, (epochs, draws) in _SIZES.items():
        for draw in range(draws):
            for way, (options, changes) in _WAYS.items():
                said = {"data": f"cifar10, animals: {per_class} each, draw {draw + 1}", "model_options": options}
                after = [] if "weights" in options else ["vehicles"]
                found.append(
                    trained(
                        _folder(per_class, draw, way), _MODEL, partial(_animals, setting, per_class, draw),
                        {**_ANIMALS, **changes, "epochs": epochs}, setting, threads=1, after=after, described=said,
                        model_options=partial(_options, options),
                    )
                )  # fmt: skip
    return found


def _vehicles(setting: Setting) -> Dataset:
    data = data_set("cifar10", setting)
    return Dataset("cifar10-vehicles", data.train.restrict(VEHICLES), data.test.restrict(VEHICLES))


def _animals(setting: Setting, per_class: int, draw: int, earlier: Outcomes) -> Dataset:
    data = data_set("cifar10", setting)
    train = some(data.train.restrict(ANIMALS), per_class, setting.seed, draw)
    return Dataset("cifar10-animals", train, data.test.restrict(ANIMALS))


def _options(options: dict[str, Any], earlier: Outcomes) -> dict[str, Any]:
    return {"weights": str(earlier["vehicles"].weights), **options} if "vehicles" in earlier else options


def _folder(per_class: int, draw: int, way: str) -> str:
    return f"{per_class}-{draw + 1}-{list(_WAYS).index(way) + 1}"


@register(
    "transfer_cifar10",
    title="From CIFAR-10's vehicles to its animals",
    published="no figure for these classes; on ImageNet, features moved from man-made to natural things help, though "
    "less than between like things (Yosinski et al. 2014, figure 3)",
    stages=stages,
)
def report(setting: Setting, outcomes: Outcomes) -> Report:
    accuracy = 100 * outcomes["vehicles"].metrics["accuracy"]
    rows = [Row("the vehicles themselves", accuracy, None, "%", "20,000 pictures, 4 classes")]
    curves: dict[str, tuple[list[float], list[float]]] = {way: ([], []) for way in _WAYS}
    for per_class, (_, draws) in _SIZES.items():
        for way in _WAYS:
            found = [100 * outcomes[_folder(per_class, draw, way)].metrics["accuracy"] for draw in range(draws)]
            mean = sum(found) / draws
            note = f"mean of {draws} draws, {min(found):.1f} to {max(found):.1f}" if draws > 1 else "one draw"
            rows.append(Row(f"{per_class} pictures an animal, {way}", mean, None, "%", note))
            curves[way][0].append(per_class)
            curves[way][1].append(mean)
    lines(
        setting.out / "transfer.png",
        curves,
        labels=("pictures of each animal", "test accuracy, %"),
        title="Six animals of CIFAR-10, after four vehicles",
        logarithmic=True,
    )
    return Report(rows, ["transfer.png"], {"vehicles": _VEHICLES, "animals": _ANIMALS})


def some(split: Labelled, per_class: int, seed: int, draw: int) -> Labelled:
    """``per_class`` pictures of every class; another ``draw`` takes others."""
    generator = seeding.generator(seed, "transfer", per_class, draw)
    chosen = []
    for number in range(len(split.classes)):
        own = torch.nonzero(split.labels == number).flatten()
        chosen.append(own[torch.randperm(len(own), generator=generator)[:per_class]])
    return split.select(torch.cat(chosen))
