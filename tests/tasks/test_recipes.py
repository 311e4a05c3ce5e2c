"""Recipes: every one names a model, options and settings that exist, and the right one is found."""

from __future__ import annotations

import subprocess
import sys

import pytest

from convscope.data import list_datasets
from convscope.errors import UnknownNameError
from convscope.models import MODELS, create_model
from convscope.tasks.recipes import all_recipes, find_recipe, recipe_for, recipe_named
from convscope.tasks.registry import TASKS
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


def test_a_recipe_lies_with_the_task_that_its_model_is_for() -> None:
    for name in TASKS:
        assert {MODELS[recipe.model].card.task for recipe in TASKS[name].recipes} <= {name}


def test_a_classifier_s_recipe_is_found_without_the_other_tasks() -> None:
    script = """if True:
        import sys
        from convscope.tasks.recipes import find_recipe
        assert find_recipe("lenet5", "mnist") is not None and find_recipe("no_such_file.safetensors", "mnist") is None
        print([name for name in sys.modules if name.startswith(("convscope.tasks.detection", "convscope.tasks.lines"))])
    """
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


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
