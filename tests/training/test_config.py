"""Settings are checked at the door, and every refusal names the argument."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import pytest

from convscope.errors import ArgumentError, UnknownNameError
from convscope.training import Config


def test_defaults_are_valid_and_json_keeps_everything() -> None:
    config = Config.of(learning_rates={"0": 0.5}, augment=["flip", "translate:1"], schedule_options={"least": 0.1})
    assert config.augment == "flip,translate:1"
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_setting_is_refused_with_its_neighbour() -> None:
    with pytest.raises(UnknownNameError, match="training option: got 'learning_rat'.*Did you mean 'learning_rate"):
        Config.of(learning_rat=0.1)


@pytest.mark.parametrize(
    ("argument", "value", "wanted"),
    [
        ("epochs", 0, "epochs: got 0, wanted an integer ≥ 1"),
        ("epochs", 2.5, "epochs: got 2.5, wanted an integer"),
        ("epochs", True, "epochs: got True, wanted an integer"),
        ("max_steps", -1, "max_steps: got -1, wanted an integer ≥ 1 or None"),
        ("batch_size", 0, "batch_size: got 0"),
        ("stop_patience", 0, "stop_patience: got 0"),
        ("keep_checkpoints", 0, "keep_checkpoints: got 0"),
        ("checkpoint_batches", 0, "checkpoint_batches: got 0"),
        ("evaluate_every", 0, "evaluate_every: got 0"),
        ("evaluation_batch_size", "many", "evaluation_batch_size: got 'many'"),
        ("threads", 0, "threads: got 0"),
        ("seed", -1, "seed: got -1, wanted an integer ≥ 0"),
        ("learning_rate", -0.1, "learning_rate: got -0.1, wanted a number > 0"),
        ("learning_rate", 0, "learning_rate: got 0, wanted a number > 0"),
        ("learning_rate", float("nan"), "learning_rate: got nan"),
        ("learning_rate", "fast", "learning_rate: got 'fast'"),
        ("momentum", 1.0, "momentum: got 1.0, wanted a number ≥ 0 and < 1"),
        ("weight_decay", -1e-4, "weight_decay: got -0.0001"),
        ("gradient_clip", 0.0, "gradient_clip: got 0.0, wanted a number > 0"),
        ("warmup", -1, "warmup: got -1"),
        ("stop_tolerance", -1, "stop_tolerance: got -1"),
        ("checkpoint_seconds", -1, "checkpoint_seconds: got -1"),
        ("init_scale", 0, "init_scale: got 0, wanted a number > 0"),
        ("learning_rates", {"0": -1.0}, r"learning_rates\['0'\]: got -1.0"),
        ("learning_rates", [1.0], "learning_rates: got .* wanted a dictionary"),
        ("schedule_options", {"least": "low"}, r"schedule_options\['least'\]: got 'low'"),
        ("optimiser_options", [], "optimiser_options: got .* wanted a dictionary"),
        ("engine", "nativ", "engine: got 'nativ'.*Did you mean 'native'"),
        ("precision", "float8", "precision: got 'float8'"),
        ("fit", "stretch", "fit: got 'stretch'"),
        ("watch", "yes", "watch: got 'yes', wanted True or False"),
        ("schedule", 3, "schedule: got 3, wanted a name"),
        ("augment", "flop", "flop.*Did you mean 'flip'"),
        ("device", "gpu0", "device: got 'gpu0', wanted auto, cpu, cuda or cuda:<number>"),
        ("device", "meta", "device: got 'meta'"),
        ("device", "cuda:99", "device: got 'cuda:99', wanted a device that is there"),
        ("resume", True, "run_dir: got None, wanted the folder of the run to resume"),
    ],
)
def test_a_value_that_cannot_work_is_named(argument: str, value: Any, wanted: str) -> None:
    with pytest.raises(ArgumentError, match=wanted):
        Config.of(**{argument: value})


def test_every_field_says_what_it_is() -> None:
    """A comment beside or above each field, since the page is what users read."""
    lines = inspect.getsource(Config).splitlines()
    for field in dataclasses.fields(Config):
        number = next(at for at, line in enumerate(lines) if line.strip().startswith(f"{field.name}:"))
        assert "#" in lines[number] or lines[number - 1].strip().startswith("#"), field.name
