"""Settings that were measured for writers of captions."""

from __future__ import annotations

from convscope.training.recipes import Recipe

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "caption_attention-scenes",
        "caption_attention",
        "digit_scenes",
        {"maps": (8, 16, 32, 64)},
        {
            "optimiser": "adam",
            "learning_rate": 3e-3,
            "schedule": "one_cycle",
            "batch_size": 32,
            "epochs": 2,
            "gradient_clip": 1.0,
        },
        "86.3 % of 1,000 test scenes described word for word, BLEU-4 95.5, after two epochs of 20,000 scenes, on one "
        "core of a busy machine in 13 minutes",
    ),
)
