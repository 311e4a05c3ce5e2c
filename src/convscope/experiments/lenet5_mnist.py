"""LeNet-5 on MNIST: LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition (1998)."""

from __future__ import annotations

from typing import Any

from convscope.experiments.base import Outcomes, Report, Row, Setting, register, trained
from convscope.tasks.recipes import recipe_named
from convscope.tasks.stages import Stage

# What is trained: (row, recipe, published test error in per cent).
_NETWORKS: tuple[tuple[str, str, float | None], ...] = (
    ("lenet5, ReLU and max pooling", "lenet5-relu", 0.95),
    ("lenet5, ReLU and max pooling, distorted pictures", "lenet5-distorted", 0.8),
    ("lenet5_1998, complete with table, subsampling and RBF", "lenet5_1998", 0.95),
    ("lenet5, sigmoid and mean pooling", "lenet5-sigmoid", None),
)


def stages(setting: Setting) -> list[Stage]:
    """Three networks, one of them also with distorted pictures, each by its own recipe, on all 70,000 pictures."""
    found = []
    for number, (_, name, _) in enumerate(_NETWORKS, 1):
        recipe = recipe_named(name)
        more: dict[str, Any] = {"model_options": recipe.options, "threads": 1}
        found.append(trained(_folder(number, name), recipe.model, "mnist", recipe.settings, setting, **more))
    return found


@register(
    "lenet5_mnist",
    title="LeNet-5 on MNIST",
    published="0.95 % test error, 0.8 % with distorted training pictures (LeCun et al. 1998, section III-B)",
    stages=stages,
)
def report(setting: Setting, outcomes: Outcomes) -> Report:
    rows: list[Row] = []
    pictures: list[str] = []
    recipes: dict[str, Any] = {}
    for number, (what, name, published) in enumerate(_NETWORKS, 1):
        outcome = outcomes[_folder(number, name)]
        error = 100 * (1 - outcome.metrics["accuracy"])
        rows.append(Row(f"test error, {what}", error, published, "%", f"{len(outcome.history)} epochs"))
        pictures += outcome.pictures(setting.out)
        recipes[what] = dict(recipe_named(name).settings)
    return Report(rows, pictures, recipes)


def _folder(number: int, name: str) -> str:
    return f"{number}-{name}"
