"""A stacked sparse autoencoder on MNIST: Xue: Convolutional Neural Networks (2016), the last of its attempts."""

from __future__ import annotations

from convscope.experiments.base import Outcomes, Report, Row, Setting, register
from convscope.tasks.jobs import JOBS, Asked, TrainingJob
from convscope.tasks.stages import Stage


def stages(setting: Setting) -> list[Stage]:
    """Two layers of 784 units trained one by one without classes, a softmax on top, and all together."""
    return _job(setting).stages()


def _job(setting: Setting) -> TrainingJob:
    asked = Asked("mnist", setting.root, {}, {}, setting.changes, setting.seed, setting.engine, setting.threads or 1)
    return JOBS["stacked_autoencoder"](asked)


@register(
    "stacked_autoencoder_mnist",
    title="A stacked sparse autoencoder on MNIST",
    published="89.34 % (Xue 2016, 784-784-784-softmax)",
    stages=stages,
)
def report(setting: Setting, outcomes: Outcomes) -> Report:
    _job(setting).finish(setting.out, outcomes)
    before, after = (100 * outcomes[name].metrics["accuracy"] for name in ("softmax", "fine"))
    rows = [
        Row("accuracy, the layers as they were learned without classes", before, 89.34, "%", "softmax alone trained"),
        Row("accuracy after fine-tuning", after, None, "%", "aim: 97.5 %"),
    ]
    for name in ("layer1", "layer2"):
        found = outcomes[name].metrics
        note = f"mean activation {found['activation']:.4f}, {found['silent']} of {found['units']} units silent"
        rows.append(Row(f"½‖y − x‖² of {name}", found["error"], None, "", note))
    pictures = ["filters.png", "reconstructions.png", *outcomes["fine"].pictures(setting.out)]
    return Report(rows, pictures, {"job": "stacked_autoencoder"})
