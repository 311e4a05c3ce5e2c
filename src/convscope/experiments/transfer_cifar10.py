"""Transfer: what a network learned on CIFAR-10's vehicles is worth when there are few pictures of its animals.

Yosinski, Clune, Bengio, Lipson: How transferable are features in deep neural networks? NIPS 2014, splits ImageNet into
man-made and natural classes in the same way.
"""

from __future__ import annotations

import collections
from typing import Any

import torch

from convscope import seeding
from convscope.data import Dataset, Labelled, load_dataset
from convscope.experiments.base import Report, Row, Setting, register, settings
from convscope.experiments.pictures import lines
from convscope.tasks import fit

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


@register(
    "transfer_cifar10",
    title="From CIFAR-10's vehicles to its animals",
    published="no figure for these classes; on ImageNet, features moved from man-made to natural things help, though "
    "less than between like things (Yosinski et al. 2014, figure 3)",
)
def run(setting: Setting) -> Report:
    """Train on the 20,000 vehicles, then learn six animals from 25, 100 and 500 pictures each, tested on 6,000."""
    data = load_dataset("cifar10", root=setting.root)
    vehicles = Dataset("cifar10-vehicles", data.train.restrict(VEHICLES), data.test.restrict(VEHICLES))
    learned = fit(_MODEL, vehicles, listeners=setting.listeners, **settings(_VEHICLES, setting, "vehicles"))
    rows = [Row("the vehicles themselves", 100 * learned.metrics["accuracy"], None, "%", "20,000 pictures, 4 classes")]
    weights = str(learned.run_dir / "model.safetensors")
    train, test = data.train.restrict(ANIMALS), data.test.restrict(ANIMALS)
    curves: dict[str, tuple[list[float], list[float]]] = {way: ([], []) for way in _WAYS}
    for per_class, (epochs, draws) in _SIZES.items():
        found = collections.defaultdict[str, list[float]](list)
        for draw in range(draws):
            few = Dataset("cifar10-animals", some(train, per_class, setting.seed, draw), test)
            for number, (way, (options, changes)) in enumerate(_WAYS.items(), 1):
                folder = f"{per_class}-{draw + 1}-{number}"
                recipe = settings({**_ANIMALS, **changes, "epochs": epochs}, setting, folder)
                model = {"weights": weights, **options}
                result = fit(_MODEL, few, model_options=model, listeners=setting.listeners, **recipe)
                found[way].append(100 * result.metrics["accuracy"])
        for way, accuracies in found.items():
            mean = sum(accuracies) / draws
            note = f"mean of {draws} draws, {min(accuracies):.1f} to {max(accuracies):.1f}" if draws > 1 else "one draw"
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
