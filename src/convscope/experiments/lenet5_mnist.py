"""LeNet-5 on MNIST: LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition (1998)."""

from __future__ import annotations

from typing import Any

from convscope.data import load_dataset
from convscope.experiments.base import Report, Row, Setting, register, settings
from convscope.tasks import fit
from convscope.tasks.recipes import recipe_named

# What is trained: (row, recipe, published test error in per cent).
_NETWORKS: tuple[tuple[str, str, float | None], ...] = (
    ("lenet5, ReLU and max pooling", "lenet5-relu", 0.95),
    ("lenet5, ReLU and max pooling, distorted pictures", "lenet5-distorted", 0.8),
    ("lenet5_1998, complete with table, subsampling and RBF", "lenet5_1998", 0.95),
    ("lenet5, sigmoid and mean pooling", "lenet5-sigmoid", None),
)


@register(
    "lenet5_mnist",
    title="LeNet-5 on MNIST",
    published="0.95 % test error, 0.8 % with distorted training pictures (LeCun et al. 1998, section III-B)",
)
def run(setting: Setting) -> Report:
    """Three networks, one of them also with distorted pictures, each by its own recipe, on all 70,000 pictures."""
    data = load_dataset("mnist", root=setting.root)
    rows: list[Row] = []
    pictures: list[str] = []
    recipes: dict[str, Any] = {}
    for number, (what, name, published) in enumerate(_NETWORKS, 1):
        recipe = recipe_named(name)
        folder = f"{number}-{name}"
        result = fit(
            recipe.model,
            data,
            model_options=recipe.options,
            listeners=setting.listeners,
            **settings(recipe.settings, setting, folder),
        )
        error = 100 * (1 - result.metrics["accuracy"])
        rows.append(Row(f"test error, {what}", error, published, "%", f"{len(result.history)} epochs"))
        pictures += [f"{folder}/{picture.name}" for picture in sorted(result.run_dir.glob("*.png"))]
        recipes[what] = dict(recipe.settings)
    return Report(rows, pictures, recipes)
