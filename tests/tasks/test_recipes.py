"""Recipes: every one names a model, options and settings that exist, and the right one is found."""

from __future__ import annotations

import pytest

from convscope.data import list_datasets
from convscope.errors import UnknownNameError
from convscope.models import MODELS, create_model
from convscope.tasks.recipes import all_recipes, find_recipe, recipe_for, recipe_named
from convscope.training import Config
from convscope.training.recipes import Recipe


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_every_recipe_can_be_carried_out(recipe: Recipe) -> None:
    assert recipe.model in MODELS
    assert recipe.data == "*" or recipe.data in list_datasets()
    create_model(recipe.model, **recipe.options)
    Config.of(**recipe.settings)


def test_names_are_unique() -> None:
    assert len({recipe.name for recipe in all_recipes()}) == len(all_recipes())


def test_the_plain_command_trains_relu_and_max_pooling() -> None:
    for data in ("mnist", "digits", "my_pictures"):
        found = find_recipe("lenet5", data)
        assert found is not None
        assert dict(found.options) == {"activation": "relu", "pool": "max"}


def test_options_asked_for_choose_the_recipe() -> None:
    found = find_recipe("lenet5", "mnist", {"activation": "sigmoid"})
    assert found is not None
    assert found.name == "lenet5-sigmoid"
    assert recipe_for("lenet5", "mnist", activation="sigmoid", pool="mean") == dict(found.settings)
    assert recipe_for("lenet5", "mnist", activation="relu") != recipe_for("lenet5", "mnist", activation="sigmoid")


def test_no_recipe_means_the_defaults() -> None:
    assert find_recipe("zfnet", "my_pictures") is None
    assert recipe_for("zfnet", "my_pictures") == {}


def test_by_name() -> None:
    assert recipe_named("lenet5_1998").model == "lenet5_1998"
    with pytest.raises(UnknownNameError, match="recipe: got 'lenet5_1989'.*Did you mean 'lenet5_1998'"):
        recipe_named("lenet5_1989")
