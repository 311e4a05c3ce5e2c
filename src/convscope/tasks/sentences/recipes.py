"""Settings that were measured for sentence classifiers."""

from __future__ import annotations

from convscope.training.recipes import Recipe

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "text_cnn-paper",
        "text_cnn",
        "rt_polarity",
        {},
        {
            "optimiser": "Adadelta",
            "learning_rate": 1.0,
            "optimiser_options": {"rho": 0.95, "eps": 1e-6},
            "schedule": "constant",
            "batch_size": 50,
            "epochs": 10,
        },
        "Kim 2014: Adadelta, batches of 50, dropout 0.5, rows of the last layer at most 3 long; 76.7 and 76.9 % "
        "right on folds 1 and 2 of ten",
    ),
)
