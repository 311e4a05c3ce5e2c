"""Which settings train which model well on which data: what ``convscope train`` uses unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convscope.errors import UnknownNameError
from convscope.models.catalog import MODELS
from convscope.tasks.registry import TASKS
from convscope.training.recipes import Recipe


def all_recipes() -> list[Recipe]:
    """Those of every task."""
    return [recipe for name in TASKS for recipe in TASKS[name].recipes]


def find_recipe(model: str, data: str, options: Mapping[str, Any] | None = None) -> Recipe | None:
    """The recipe for a catalogue model on a data set, None where there is none.

    One for just this data goes before one for any; among equals that which contradicts the model options asked for
    least, then the first. Looked through are those of the task that the model is for: the other tasks' folders, 90
    modules, are a tenth of a second.
    """
    if model not in MODELS or (task := MODELS[model].card.task) not in TASKS:
        return None
    recipes = TASKS[task].recipes
    fitting = [recipe for recipe in recipes if recipe.model == model and recipe.data in (data, "*")]
    if not fitting:
        return None
    asked = options or {}
    return min(fitting, key=lambda recipe: (recipe.contradictions(asked), recipe.data == "*"))


def recipe_named(name: str) -> Recipe:
    """A recipe by its own name; UnknownNameError with close matches."""
    for recipe in all_recipes():
        if recipe.name == name:
            return recipe
    raise UnknownNameError("recipe", name, [recipe.name for recipe in all_recipes()])


def recipe_for(model: str, data: str, **options: Any) -> dict[str, Any]:
    """The training settings (keywords of ``fit``) for ``model`` with these builder options on ``data``; empty where
    there is no recipe and the defaults of ``Config`` are meant."""
    found = find_recipe(model, data, options)
    return dict(found.settings) if found is not None else {}
