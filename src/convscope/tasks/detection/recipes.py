"""Settings that were measured for detection."""

from __future__ import annotations

from typing import Any

from convscope.training.recipes import Recipe

#: A cell takes a twelfth to two fifths of the picture's height: 20 pixels of 240, 50 and 95.
BCCD_ANCHORS = (20, 48, 96)

SCALE: dict[str, Any] = {"shorter": 240, "longest": 320, "overlap": 0.5}
SETTINGS: dict[str, Any] = {
    "optimiser": "adam", "learning_rate": 1e-3, "weight_decay": 1e-4, "schedule": "cosine", "warmup": 0.5,
    "batch_size": 4, "augment": "flip", "gradient_clip": 10.0,
}  # fmt: skip
BCCD: dict[str, Any] = {**SETTINGS, "epochs": 10, "evaluate_every": 5, "settings": SCALE}
OWN: dict[str, Any] = {
    **SETTINGS, "epochs": 20, "evaluate_every": 5, "settings": {"shorter": 320, "longest": 480, "overlap": 0.5}
}  # fmt: skip
#: Of a network that answers for 850 regions a picture, the activations of the watched pictures would take 10 GB.
_UNWATCHED: dict[str, Any] = {"watch": False}
_OWN_NOTE = "a network for a computer without a GPU, pictures scaled to 320 pixels; settings as measured on bccd"

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "faster_rcnn-bccd",
        "faster_rcnn",
        "bccd",
        {"small": True, "anchor_sizes": BCCD_ANCHORS},
        BCCD,
        "from scratch, 88.8 % mAP@0.5 on the test pictures after 10 epochs",
    ),
    Recipe(
        "fast_rcnn-bccd",
        "fast_rcnn",
        "bccd",
        {"small": True},
        {**BCCD, **_UNWATCHED},
        "from scratch, on regions of selective search, 82.9 % mAP@0.5 on the test pictures",
    ),
    Recipe(
        "rcnn-bccd",
        "rcnn",
        "bccd",
        {"small": True},
        {**BCCD, **_UNWATCHED, "epochs": 6},
        "fine-tuning alone, softmax scores",
    ),
    Recipe("rcnn", "rcnn", "*", {"small": True}, {**OWN, **_UNWATCHED}, _OWN_NOTE),
    Recipe("faster_rcnn", "faster_rcnn", "*", {"small": True}, OWN, _OWN_NOTE),
    Recipe("fast_rcnn", "fast_rcnn", "*", {"small": True}, {**OWN, **_UNWATCHED}, _OWN_NOTE),
)
