"""Kim: Convolutional Neural Networks for Sentence Classification (2014), CNN-rand on movie-review polarity."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from convscope.data import load_dataset
from convscope.experiments.base import Outcomes, Report, Row, Setting, register, trained
from convscope.tasks.recipes import recipe_named
from convscope.tasks.sentences.bag_of_words import bag_of_words
from convscope.tasks.stages import Here, Stage

_RECIPE = "text_cnn-paper"
_FOLDS = 10


def stages(setting: Setting) -> list[Stage]:
    """Ten trainings, each tested on another tenth, and a linear bag of words on the same ten."""
    recipe = recipe_named(_RECIPE)
    found: list[Stage] = []
    for fold in range(1, _FOLDS + 1):
        data = functools.partial(_data, setting, fold)
        more: dict[str, Any] = {"described": {"data": f"rt_polarity, fold {fold} of {_FOLDS}"}, "threads": 1}
        found.append(trained(f"fold-{fold:02}", recipe.model, data, recipe.settings, setting, **more))
    said = {"seed": setting.seed, "folds": _FOLDS}
    return [*found, Stage("bag-of-words", functools.partial(_bags, setting), said, threads=1)]


def _data(setting: Setting, fold: int, outcomes: Outcomes | None = None) -> Any:
    return load_dataset("rt_polarity", root=setting.root, fold=fold, folds=_FOLDS, seed=setting.seed)


def _bags(setting: Setting, here: Here) -> Mapping[str, Any]:
    found = []
    for fold in range(1, _FOLDS + 1):
        data = _data(setting, fold)
        found.append(bag_of_words(data.train, data.test, setting.seed))
    return {"accuracies": [each["accuracy"] for each in found], "seconds": sum(each["seconds"] for each in found)}


@register(
    "text_cnn_polarity",
    title="Kim's CNN-rand on movie-review polarity",
    published="76.1 % right, mean of ten folds (Kim 2014, table 2)",
    stages=stages,
)
def report(setting: Setting, outcomes: Outcomes) -> Report:
    folds = {name: outcome for name, outcome in outcomes.items() if name.startswith("fold-")}
    right = [100 * outcome.metrics["accuracy"] for outcome in folds.values()]
    seconds = sum((row["seconds"] or 0.0) for outcome in folds.values() for row in outcome.history)
    bags = [100 * each for each in outcomes["bag-of-words"]["accuracies"]]
    spread = f"{min(right):.1f} to {max(right):.1f}; trained in {seconds:.0f} s together"
    rows = [
        Row("sentences right, mean of ten folds", sum(right) / len(right), 76.1, "%", spread),
        Row("the same, linear bag of words", sum(bags) / len(bags), None, "%", f"{min(bags):.1f} to {max(bags):.1f}"),
    ]
    return Report(rows, [], dict(recipe_named(_RECIPE).settings))
