"""Fully convolutional networks on CamVid from scratch, in stages: 32, then 16, then 8 pixels a score.

Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR 2015, section 4.2.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from convscope.experiments.base import Outcomes, Report, Row, Setting, data_set, register, trained
from convscope.tasks.segmentation.drawing import sheet
from convscope.tasks.segmentation.predict import predict
from convscope.tasks.segmentation.recipes import CAMVID, SMALL
from convscope.tasks.stages import Stage

_STRIDES = (32, 16, 8)
_SHOWN = 6
# Published on CamVid's 11 classes: a U-Net from scratch on 480×360, and FCN-16s with ImageNet's weights.
_PUBLISHED = {16: 40.9, 8: 45.1}


def stages(setting: Setting) -> list[Stage]:
    """Three networks, each beginning where the coarser one ended."""
    found: list[Stage] = []
    for stride, before in zip(_STRIDES, (None, *_STRIDES), strict=False):
        recipe = CAMVID if before is None else {**CAMVID, "learning_rate": CAMVID["learning_rate"] / 2}
        said: dict[str, Any] = {"model_options": SMALL}
        after = [] if before is None else [f"fcn{before}s"]
        found.append(
            trained(
                f"fcn{stride}s", f"fcn{stride}s", "camvid", recipe, setting, threads=1, after=after, described=said,
                model_options=partial(_options, before),
            )
        )  # fmt: skip
    return found


def _options(before: int | None, earlier: Outcomes) -> dict[str, Any]:
    return dict(SMALL) if before is None else {**SMALL, "weights": str(earlier[f"fcn{before}s"].weights)}


@register(
    "camvid_fcn",
    title="Fully convolutional networks on CamVid",
    published="a U-Net from scratch at twice the resolution 45.1 % mean IoU, FCN-16s with ImageNet's weights 40.9 %",
    stages=stages,
)
def report(setting: Setting, outcomes: Outcomes) -> Report:
    rows = []
    for stride in _STRIDES:
        figures = outcomes[f"fcn{stride}s"].metrics
        note = f"{outcomes[f'fcn{stride}s'].seconds / 60:.0f} minutes"
        rows.append(Row(f"FCN-{stride}s, mean IoU", 100 * figures["mean_iou"], _PUBLISHED.get(stride), "%", note))
        rows.append(Row(f"FCN-{stride}s, pixel accuracy", 100 * figures["pixel_accuracy"], None, "%"))
    data = data_set("camvid", setting)
    places = torch.linspace(0, len(data.test) - 1, min(_SHOWN, len(data.test))).round().long()
    shown = [data.test.pictures.picture(place) for place in places.tolist()]  # type: ignore[attr-defined]
    answers = [list(predict(outcomes[f"fcn{stride}s"].model(), shown, engine="torch")) for stride in _STRIDES]
    maps = [data.test.maps.picture(place)[0] for place in places.tolist()]  # type: ignore[attr-defined]
    columns = [("truth", maps), *zip((f"FCN-{stride}s" for stride in _STRIDES), _labels(answers), strict=True)]
    first = answers[0][0]
    sheet(setting.out / "overlays.png", shown, columns, first.classes, first.palette)
    return Report(rows, ["overlays.png"], {**CAMVID, **setting.changes})


def _labels(answers: list[Any]) -> list[list[torch.Tensor]]:
    return [[answer.labels for answer in column] for column in answers]
