"""Settings that were measured for detection."""

from __future__ import annotations

from typing import Any

from convscope.training.recipes import Recipe

#: A cell takes a fifteenth to a third of the picture's height: 20 pixels of 240, 50 and 95.
BCCD_ANCHORS = (20, 48, 96)

SCALE: dict[str, Any] = {"shorter": 240, "longest": 320, "overlap": 0.5}
BCCD: dict[str, Any] = {
    "optimiser": "adam", "learning_rate": 1e-3, "weight_decay": 1e-4, "schedule": "cosine", "warmup": 0.5,
    "batch_size": 4, "augment": "flip", "epochs": 16, "evaluate_every": 4, "gradient_clip": 10.0, "settings": SCALE,
    "evaluation_batch_size": 4,
}  # fmt: skip

RECIPES: tuple[Recipe, ...] = (
    Recipe("faster_rcnn-bccd", "faster_rcnn", "bccd", {"small": True, "anchor_sizes": BCCD_ANCHORS}, BCCD, ""),
    Recipe("fast_rcnn-bccd", "fast_rcnn", "bccd", {"small": True}, BCCD, ""),
)
