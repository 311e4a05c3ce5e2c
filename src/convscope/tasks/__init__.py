"""Whole jobs: from pictures to answers."""

from __future__ import annotations

from convscope.tasks.classification import Prediction, predict, report
from convscope.tasks.recipes import RECIPES, Recipe, find_recipe, recipe_for
from convscope.tasks.run_pictures import RunPictures, draw_run

__all__ = [
    "RECIPES",
    "Prediction",
    "Recipe",
    "RunPictures",
    "draw_run",
    "find_recipe",
    "predict",
    "recipe_for",
    "report",
]
