"""MCDNN on MNIST: Cireşan, Meier, Schmidhuber: Multi-column Deep Neural Networks for Image Classification (2012)."""

from __future__ import annotations

from convscope.experiments.base import Outcomes, Report, Row, Setting, register
from convscope.tasks.committee.agreement import Agreement
from convscope.tasks.committee.mcdnn import TOGETHER
from convscope.tasks.jobs import JOBS, Asked, TrainingJob
from convscope.tasks.recipes import recipe_for
from convscope.tasks.stages import Stage

_COLUMNS = 35


def stages(setting: Setting) -> list[Stage]:
    """35 columns on digits of seven widths, five each, every picture distorted anew; then their common answers."""
    return _job(setting).stages()


def _job(setting: Setting) -> TrainingJob:
    settings = {"columns": _COLUMNS}
    asked = Asked("mnist", setting.root, {}, settings, setting.changes, setting.seed, setting.engine, setting.threads)
    return JOBS["mcdnn"](asked)


@register(
    "mcdnn_mnist",
    title="MCDNN, 35 columns on MNIST",
    published="0.23 % test error; 14 hours a column on a GTX 580 (Cireşan et al. 2012, table 2)",
    stages=stages,
)
def report(setting: Setting, outcomes: Outcomes) -> Report:
    _job(setting).finish(setting.out, outcomes)
    found = Agreement.from_json(outcomes[TOGETHER]["agreement"])
    seconds = sum(outcome.seconds for outcome in outcomes.values())
    rows = [Row("test error of the committee", 100 * found.error, 0.23, "%", f"{len(found.names)} columns")]
    for each in found.together[:-1]:
        spread = f"from {each.least:.2%} to {each.most:.2%} over {each.committees} committees"
        what = "test error of one column" if each.members == 1 else f"test error of {each.members} columns"
        rows.append(Row(what, 100 * each.mean, None, "%", spread))
    rows.append(Row("nobody is right on", 100 * found.nobody_right, None, "%"))
    rows.append(Row("processor time of all stages", seconds / 3600, None, "h", "the sum over all columns"))
    return Report(rows, ["agreement.png"], recipe_for("mcdnn_column", "mnist"))
