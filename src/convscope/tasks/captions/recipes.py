"""Settings that were measured for writers of captions."""

from __future__ import annotations

from convscope.training.recipes import Recipe

RECIPES: tuple[Recipe, ...] = ()
