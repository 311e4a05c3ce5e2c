"""Settings that were measured for readers of lines."""

from __future__ import annotations

from convscope.training.recipes import Recipe

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "crnn-digits",
        "crnn",
        "digit_lines",
        {"small": True},
        {
            "optimiser": "adam",
            "learning_rate": 3e-3,
            "schedule": "one_cycle",
            "batch_size": 32,
            "epochs": 2,
            "gradient_clip": 5.0,
        },
        "two epochs of 20,000 lines, for a computer without a GPU",
    ),
)
