"""The tasks, one folder each: what ``fit``, ``evaluate``, ``predict``, the explorer and the command line ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from convscope import spec
from convscope.data import Dataset
from convscope.errors import ArgumentError
from convscope.registry import Registry
from convscope.training.task import Task

TASKS: Registry[type[Task]] = Registry("task", "convscope.tasks")

_USUAL = "classification"


def register(task: type[Task]) -> type[Task]:
    """Enrol a task, as a decorator of its class."""
    return TASKS.add(task.name, task)


def task_of(
    model: nn.Module, dataset: Dataset[Any] | None = None, task: str | Task | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Task:  # fmt: skip
    """The task at hand: the one named, else the one that the model says it is for, else, for a user's own module, the
    first that takes this kind of data.

    Raises UnknownNameError for another name, ArgumentError for a setting that the task does not have, and for a model
    and data of different tasks, naming both.
    """
    if isinstance(task, Task):
        chosen = task
    else:
        described = spec.spec_of(model)
        name = task or (described.task if described is not None else _for_kind(dataset))
        chosen = TASKS[name](settings)
    if dataset is not None and dataset.kind not in chosen.kinds:
        takes = " or ".join(chosen.kinds)
        raise ArgumentError(
            "data",
            f"{dataset.name!r}, a data set of kind {dataset.kind!r}",
            f"one of kind {takes}, which is what {chosen.name} learns from",
        )
    return chosen


def _for_kind(dataset: Dataset[Any] | None) -> str:
    if dataset is None:
        return _USUAL
    fitting = [name for name in TASKS if dataset.kind in TASKS[name].kinds]
    if not fitting:
        raise ArgumentError("data", f"{dataset.name!r}, a data set of kind {dataset.kind!r}", "one that a task takes")
    return _USUAL if _USUAL in fitting else fitting[0]
