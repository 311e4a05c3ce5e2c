"""``key=value`` arguments, and the training options against the configuration they set."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from convscope.cli.main import group
from convscope.cli.options import parse_pairs
from convscope.cli.training_options import ROWS, given_settings, training_options
from convscope.training import Config


def test_every_setting_has_an_option() -> None:
    fields = {field.name for field in dataclasses.fields(Config)}
    rows = [field for group in ROWS.values() for _, field, *_ in group]
    assert len(rows) == len(set(rows))
    assert fields - set(rows) == {"resume"}  # --resume takes the folder, and is train's own
    assert set(rows) <= fields


def test_defaults_shown_are_those_of_the_configuration() -> None:
    config = Config()
    for rows in ROWS.values():
        for _, field, kind, shown, _ in rows:
            if kind in (int, float) and shown and shown[0].isdigit():
                assert float(shown.split(":")[0]) == getattr(config, field), field
            if kind is str and shown.isidentifier() and shown != "none":
                assert shown == getattr(config, field), field


def test_only_what_was_given_is_set() -> None:
    found: dict[str, object] = {}

    @click.command()
    @training_options
    def command(**values: object) -> None:
        found.update(given_settings(values))

    command.main(
        ["--lr", "0.5", "--no-watch", "--optimiser-option", "betas=[0.9,0.99]", "--learning-rates", "c1=0", "-b", "7"],
        standalone_mode=False,
    )
    assert found == {
        "learning_rate": 0.5,
        "watch": False,
        "optimiser_options": {"betas": [0.9, 0.99]},
        "learning_rates": {"c1": 0},
        "batch_size": 7,
    }
    Config.of(**found)


def test_values_are_read_as_json_where_they_are() -> None:
    pairs = ["a=1", "b=2.5", "c=true", "d=None", "e=[1,2]", "f=relu", "g=a=b", "in-channels=3", "h="]
    assert parse_pairs(pairs, "--option") == {
        "a": 1, "b": 2.5, "c": True, "d": None, "e": [1, 2], "f": "relu", "g": "a=b", "in_channels": 3, "h": "",
    }  # fmt: skip


@pytest.mark.parametrize("pair", ["activation", "=relu", ""])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(click.BadParameter, match="wanted key=value, for example activation=relu"):
        parse_pairs([pair], "--option")


def test_arguments_are_in_the_usage_line_alone() -> None:
    for name in ("evaluate", "inspect", "explore"):
        page = CliRunner().invoke(group, [name, "--help"]).output
        assert re.match(rf"Usage: \w+ {name} \[OPTIONS\] (FILE|MODEL)", page)
        assert not re.search(r"^  (FILE|MODEL|FILE\|MODEL)$", page, re.M)
        assert "--data" in page


def test_the_readme_says_the_same_in_both_languages() -> None:
    def commands(name: str) -> list[str]:
        page = (Path(__file__).parents[2] / name).read_text(encoding="utf-8")
        blocks = re.findall(r"^```\w*\n(.*?)^```", page, re.M | re.S)
        return [re.sub(r" *#.*", "", line) for block in blocks for line in block.splitlines()]

    assert len(commands("README.md")) > 20
    assert commands("README.md") == commands("README.zh-CN.md")
