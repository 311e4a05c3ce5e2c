"""The page about the command line tells the truth: its commands and options exist, its figures are measured."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from torch import nn

from convscope.cli.main import group
from convscope.inspect import count

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
LINES = re.findall(r"^convscope .*$", PAGE, re.M) + re.findall(r"`(convscope [a-z]+ [^`]+)`", PAGE)


@pytest.mark.parametrize("line", LINES)
def test_every_line_is_a_command_that_parses(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    context = click.Context(group)
    command = group.get_command(context, name)
    assert command is not None
    if arguments != ["--help"]:
        command.make_context(name, arguments, parent=context, resilient_parsing=False)


def test_the_textbook_example_is_as_counted() -> None:
    layer = count(nn.Sequential(nn.Conv2d(1, 1, (1, 2), bias=False)), (1, 280, 320))[0]
    for number in (layer.operations, layer.dense.operations, layer.dense.elements, layer.dense.nonzero):
        assert f"{number:,}" in PAGE
