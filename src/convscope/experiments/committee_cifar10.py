"""One network against five: the committee effect of AlexNet, on CIFAR-10.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks (2012), table 2.
"""

from __future__ import annotations

from convscope.experiments.base import Outcomes, Report, Row, Setting, register
from convscope.tasks.committee.agreement import Agreement
from convscope.tasks.committee.mcdnn import TOGETHER
from convscope.tasks.jobs import JOBS, Asked, TrainingJob
from convscope.tasks.stages import Stage

_COLUMNS = 5
_SETTINGS = {"columns": _COLUMNS, "column": "krizhevsky_cifar10", "widths": "0"}


def stages(setting: Setting) -> list[Stage]:
    """Five networks that differ by their first weights and the order of their pictures alone."""
    return _job(setting).stages()


def _job(setting: Setting) -> TrainingJob:
    changes = {"epochs": 12, "augment": "flip,crop:2", "weight_decay": 5e-4, **setting.changes}
    asked = Asked("cifar10", setting.root, {}, _SETTINGS, changes, setting.seed, setting.engine, setting.threads)
    return JOBS["mcdnn"](asked)


@register(
    "committee_cifar10",
    title="One network against five, on CIFAR-10",
    published="ImageNet top-1 error 40.7 % of one AlexNet, 38.1 % of five (Krizhevsky et al. 2012, table 2)",
    stages=stages,
)
def report(setting: Setting, outcomes: Outcomes) -> Report:
    _job(setting).finish(setting.out, outcomes)
    found = Agreement.from_json(outcomes[TOGETHER]["agreement"])
    single = found.together[0]
    rows = [Row(f"test error of member {name}", 100 * error, None, "%") for name, error in zip(
        found.names, found.errors, strict=True
    )]  # fmt: skip
    spread = f"{single.least:.2%} to {single.most:.2%}"
    rows += [
        Row("test error of one, on average", 100 * single.mean, 40.7, "%", f"{spread}; published on ImageNet"),
        Row("test error of five", 100 * found.error, 38.1, "%", "published on ImageNet"),
        Row("gained by five", 100 * (single.mean - found.error), 2.6, "points"),
    ]
    return Report(rows, ["agreement.png"], {**_SETTINGS, "epochs": 12, "augment": "flip,crop:2", "weight_decay": 5e-4})
