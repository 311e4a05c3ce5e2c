"""LeNet-5 on MNIST: LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition (1998)."""

from __future__ import annotations

from typing import Any

from convscope.data import load_dataset
from convscope.experiments.base import Report, Row, Setting, register, settings
from convscope.models import create_model
from convscope.tasks.recipes import recipe_for
from convscope.training import fit

# What is trained, beside the settings of its recipe: (row, model, model options, published test error in per cent).
_NETWORKS: tuple[tuple[str, str, dict[str, Any], float | None], ...] = (
    ("lenet5, ReLU and max pooling", "lenet5", {"activation": "relu", "pool": "max"}, 0.95),
    ("lenet5_1998, complete with table, subsampling and RBF", "lenet5_1998", {}, 0.95),
    ("lenet5, sigmoid and mean pooling", "lenet5", {"activation": "sigmoid", "pool": "mean"}, None),
)


@register(
    "lenet5_mnist",
    title="LeNet-5 on MNIST",
    published="0.95 % test error without distortions (LeCun et al. 1998, section III-B)",
)
def run(setting: Setting) -> Report:
    """Three networks, each by its own recipe, on the 60,000 training and 10,000 test pictures."""
    data = load_dataset("mnist", root=setting.root)
    rows: list[Row] = []
    pictures: list[str] = []
    recipes: dict[str, Any] = {}
    for number, (what, name, options, published) in enumerate(_NETWORKS, 1):
        recipe = recipe_for(name, "mnist", **options)
        folder = f"{number}-{name}"
        result = fit(
            create_model(name, **options), data, listeners=setting.listeners, **settings(recipe, setting, folder)
        )
        error = 100 * (1 - result.metrics["accuracy"])
        rows.append(Row(f"test error, {what}", error, published, "%", f"{len(result.history)} epochs"))
        pictures += [f"{folder}/{picture.name}" for picture in sorted(result.run_dir.glob("*.png"))]
        recipes[what] = recipe
    return Report(rows, pictures, recipes)
