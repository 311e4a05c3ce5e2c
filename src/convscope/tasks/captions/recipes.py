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
            "epochs": 4,
            "gradient_clip": 1.0,
        },
        "91.6 % of 1,000 test scenes described word for word, BLEU-4 97.2, after two epochs of 20,000 scenes and two "
        "more by --resume -e 4, on one core of a busy machine in 19 minutes",
    ),
)
