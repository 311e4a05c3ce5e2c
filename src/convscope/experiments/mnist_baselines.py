"""The table of methods on MNIST: LeCun et al. 1998, figure 9, and Xue 2016, table 1."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch

from convscope.experiments.base import Outcomes, Report, Row, Setting, data_set, register, trained
from convscope.experiments.pictures import grouped_bars
from convscope.tasks.baselines import BASELINES, measure
from convscope.tasks.recipes import recipe_named
from convscope.tasks.stages import Here, Stage

_NETWORK = "lenet5-relu"


def stages(setting: Setting) -> list[Stage]:
    """Every baseline on all 60,000 pictures with one thread, and LeNet-5 beside them."""
    threads = setting.threads or 1
    said = {"seed": setting.seed, "examples": _examples(setting)}
    found = [Stage(name, functools.partial(_measured, setting), said, threads=threads) for name in BASELINES]
    recipe = recipe_named(_NETWORK)
    options: dict[str, Any] = {"model_options": recipe.options, "threads": 1}
    return [*found, trained("lenet5", recipe.model, "mnist", recipe.settings, setting, **options)]


def _measured(setting: Setting, here: Here) -> Mapping[str, Any]:
    data = data_set("mnist", setting)
    train = data.train.select(torch.arange(min(_examples(setting), len(data.train))))
    return measure(here.stage.name, train, data.test, setting.seed)


def _examples(setting: Setting) -> int:
    """All, or as many as LeNet-5 sees where ``max_steps`` is changed to few."""
    return min(60_000, 64 * int(setting.changes.get("max_steps") or 60_000))


@register(
    "mnist_baselines",
    title="Methods on MNIST",
    published="LeCun et al. 1998, figure 9; Xue 2016, table 1",
    stages=stages,
)
def report(setting: Setting, outcomes: Outcomes) -> Report:
    rows = []
    for name, baseline in BASELINES.items():
        found = outcomes[name]
        note = f"fitted in {found['fit_seconds']:.0f} s, 10,000 pictures in {found['predict_seconds']:.1f} s; "
        error = 100 * found["error"]
        rows.append(Row(f"test error, {baseline.title}", error, baseline.published, "%", note + baseline.source))
    error = 100 * (1 - outcomes["lenet5"].metrics["accuracy"])
    rows.append(Row("test error, lenet5, ReLU and max pooling", error, 0.95, "%", "LeCun et al. 1998"))
    grouped_bars(
        setting.out / "baselines.png",
        groups=[*(name.replace("_", "\n") for name in BASELINES), "lenet5"],
        series={"published": [row.published or 0.0 for row in rows], "convscope": [row.ours for row in rows]},
        label="test error, %",
        title="MNIST, one method beside the other",
    )
    return Report(rows, ["baselines.png"], dict(recipe_named(_NETWORK).settings))
