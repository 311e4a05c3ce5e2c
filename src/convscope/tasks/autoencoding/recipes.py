"""Settings that were tried for autoencoders."""

from __future__ import annotations

from typing import Any

from convscope.training.recipes import Recipe

SETTINGS: dict[str, Any] = {
    "optimiser": "adam",
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "batch_size": 500,  # ρ̂ is estimated from the batch
    "epochs": 30,
    "weight_decay": 3e-5,
}

RECIPES: tuple[Recipe, ...] = (
    Recipe("sparse_autoencoder", "sparse_autoencoder", "*", {}, {**SETTINGS, "settings": {"rho": 0.05, "beta": 1.0}}),
)
