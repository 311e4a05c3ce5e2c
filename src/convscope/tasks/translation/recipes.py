"""Settings that were measured for translators."""

from __future__ import annotations

from convscope.training.recipes import Recipe

RECIPES: tuple[Recipe, ...] = ()
