"""The slides' CIFAR-10 network: Xue, Convolutional Neural Networks (2016), the author's own attempts."""

from __future__ import annotations

from convscope.experiments.base import Outcomes, Report, Row, Setting, register, trained
from convscope.experiments.pictures import grouped_bars
from convscope.tasks.recipes import recipe_for
from convscope.tasks.stages import Stage

_MODEL = "slides_cifar10"

# Accuracy per class as the slides print it, in per cent; their mean is 66.3.
SLIDES = {
    "airplane": 70.6,
    "automobile": 76.3,
    "bird": 56.5,
    "cat": 52.3,
    "deer": 56.8,
    "dog": 49.7,
    "frog": 74.0,
    "horse": 67.9,
    "ship": 82.5,
    "truck": 77.0,
}


def stages(setting: Setting) -> list[Stage]:
    """Two convolution stages and one linear layer, trained on the 50,000 pictures, tested on the 10,000."""
    return [trained(_MODEL, _MODEL, "cifar10", recipe_for(_MODEL, "cifar10"), setting)]


@register(
    "slides_cifar10",
    title="The slides' network on CIFAR-10",
    published="66.3 %, the mean of the per-class accuracies (Xue 2016)",
    stages=stages,
)
def report(setting: Setting, outcomes: Outcomes) -> Report:
    outcome = outcomes[_MODEL]
    names, shares = outcome.metrics["classes"], outcome.metrics["per_class"]
    per_class = {name: 100 * float(share) for name, share in zip(names, shares, strict=True)}
    rows = [Row("mean of the per-class accuracies", sum(per_class.values()) / len(per_class), 66.3, "%")]
    rows += [Row(name, accuracy, SLIDES.get(name), "%") for name, accuracy in per_class.items()]
    grouped_bars(
        setting.out / "per_class.png",
        groups=list(per_class),
        series={"slides": [SLIDES.get(name, 0.0) for name in per_class], "convscope": list(per_class.values())},
        label="accuracy, %",
        title="CIFAR-10, accuracy per class",
    )
    return Report(rows, ["per_class.png", *outcome.pictures(setting.out)], recipe_for(_MODEL, "cifar10"))
