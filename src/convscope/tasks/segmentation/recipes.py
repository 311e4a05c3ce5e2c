"""Settings that were measured for segmentation."""

from __future__ import annotations

from typing import Any

from convscope.training.recipes import Recipe

#: Options of the builders for a computer without a GPU: CamVid's 240×180 take a twentieth of a second on one thread.
SMALL: dict[str, Any] = {"small": True, "width": 0.5}

CAMVID: dict[str, Any] = {
    "optimiser": "adam", "learning_rate": 2e-3, "weight_decay": 1e-4, "schedule": "cosine", "warmup": 0.5,
    "batch_size": 4, "augment": "flip,scale:0.25,translate:12", "epochs": 48, "evaluate_every": 7,
}  # fmt: skip

_NOTES = {8: "from scratch, 46.6 % mean IoU on the test pictures after 34 minutes on one thread of a busy machine"}

RECIPES: tuple[Recipe, ...] = tuple(
    Recipe(
        f"fcn{stride}s-camvid",
        f"fcn{stride}s",
        "camvid",
        SMALL,
        CAMVID,
        _NOTES.get(stride, "as for fcn8s; not measured"),
    )
    for stride in (32, 16, 8)
)
