"""Face verification on the ORL faces: DeepID with joint Bayesian, Pyramid CNN, and what they must beat.

Sun, Wang, Tang: Deep Learning Face Representation from Predicting 10,000 Classes (2014); Fan, Cao, Jiang, Yin: Learning
Deep Face Representation (2014).
"""

from __future__ import annotations

from collections.abc import Sequence

from convscope.experiments.base import Outcomes, Report, Row, Setting, register
from convscope.tasks.jobs import JOBS, Asked, TrainingJob
from convscope.tasks.stages import Stage
from convscope.tasks.verification.face_verification import METHODS
from convscope.tasks.verification.protocol import mean_and_error

_PUBLISHED = {"bayesian": 97.45, "pyramid": 97.3}  # on Labeled Faces in the Wild


def stages(setting: Setting) -> list[Stage]:
    """Ten folds of four people each; for each the networks learn from the 36 others."""
    return _job(setting).stages()


def _job(setting: Setting) -> TrainingJob:
    asked = Asked("orl_faces", setting.root, {}, {}, setting.changes, setting.seed, setting.engine, setting.threads)
    return JOBS["face_verification"](asked)


@register(
    "faces_orl",
    title="Face verification on ORL, people not learned from",
    published="97.45 % (DeepID, Sun et al. 2014) and 97.3 % (Pyramid CNN, Fan et al. 2014), on LFW",
    stages=stages,
)
def report(setting: Setting, outcomes: Outcomes) -> Report:
    finished = _job(setting).finish(setting.out, outcomes)
    rows = []
    base = finished.figures["eigenfaces"]["folds"]
    for name, title in METHODS.items():
        found = finished.figures[name]
        note = f"± {100 * found['standard_error']:.2f} over {len(found['folds'])} folds"
        note += "; published on LFW" if name in _PUBLISHED else ""
        rows.append(Row(f"accuracy, {title}", 100 * found["accuracy"], _PUBLISHED.get(name), "%", note))
        equal = f"equal error {100 * found['equal_error']:.2f} %"
        if name != "eigenfaces":
            ahead, error = paired(found["folds"], base)
            note = f"± {100 * error:.2f}, paired over the folds"
            rows.append(Row(f"{title}, ahead of eigenfaces by", 100 * ahead, None, "points", note))
        rows.append(Row(f"area below the ROC, {title}", found["auc"], None, "", equal))
    return Report(rows, ["roc.png"], {"job": "face_verification"})


def paired(ones: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """The mean of the folds' differences and its standard error, 0 of one fold."""
    return mean_and_error([one - other for one, other in zip(ones, others, strict=True)])
