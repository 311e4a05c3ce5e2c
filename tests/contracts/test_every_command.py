"""What every command must keep; a command is enrolled by its file in ``convscope.cli.commands``."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.cli.conftest import call_convscope

from convscope.cli import main
from convscope.cli.main import group

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
COMMANDS = group.list_commands(click.Context(group))


def loaded(name: str) -> click.Command:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return command


def examples(text: str) -> list[str]:
    """The command lines that the help gives as examples."""
    return re.findall(r"^ +(convscope .*?)(?: {2,}.*)?$", text.split("Example", 1)[-1], re.MULTILINE)


def test_the_group_lists_them_all() -> None:
    text = call_convscope("--help").stdout
    assert all(f"  {name} " in text for name in COMMANDS)


def test_help_loads_nothing_heavy() -> None:
    """Help comes at once: to import torch takes seconds."""
    program = """
import sys
from convscope.cli import main
from convscope.cli.main import group
for name in [None, *group.list_commands(None)]:
    try: group.main([*([name] if name else []), "--help"])
    except SystemExit: pass
    heavy = {"torch", "numpy", "matplotlib", "rich", "PIL", "sklearn"} & set(sys.modules)
    if heavy: sys.exit(f"{name}: {heavy}")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: ") == len(COMMANDS) + 1


def test_the_help_imports_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {}
    for name in COMMANDS:
        lines[name] = loaded(name).get_short_help_str(60)
        assert lines[name]
    monkeypatch.setattr(type(group), "get_command", lambda *_: pytest.fail("a command was imported"))
    context = click.Context(group)
    assert {name: group._short(context, name, 60) for name in COMMANDS} == lines
    monkeypatch.undo()
    monkeypatch.setattr(main, "_DOCUMENTED", re.compile("no such text"))
    assert group._short(context, "train", 60) == lines["train"]


@pytest.mark.parametrize("name", COMMANDS)
class TestEveryCommand:
    def test_its_help_says_what_it_does_and_how(self, name: str) -> None:
        text = call_convscope(name, "--help").stdout
        assert loaded(name).get_short_help_str()
        assert text.startswith(f"Usage: convscope {name} ")
        assert len(examples(text)) >= 1
        for parameter in loaded(name).params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert max(parameter.opts, key=len) in text
                if parameter.name not in ("split", "batch_size", "index"):
                    assert parameter.help, parameter.name

    def test_its_examples_parse(self, name: str) -> None:
        for line in examples(call_convscope(name, "--help").stdout):
            _, own, *arguments = shlex.split(line)
            assert own == name, line
            loaded(name).make_context(name, arguments, parent=click.Context(group))

    def test_it_is_in_the_page(self, name: str) -> None:
        assert f"| `{name}` |" in PAGE

    def test_an_unknown_option_is_a_wrong_argument(self, name: str) -> None:
        result = call_convscope(name, "--no-such-option", code=2)
        assert "No such option" in result.stderr
        assert "--no-such-option" in result.stderr
        assert result.stdout == ""
        assert "Traceback" not in result.stderr

    def test_options_are_named_alike(self, name: str) -> None:
        """Lower case with dashes."""
        for parameter in loaded(name).params:
            if isinstance(parameter, click.Option):
                for option in [*parameter.opts, *parameter.secondary_opts]:
                    assert re.fullmatch(r"--[a-z][a-z0-9-]+|-[a-zA-Z]", option), option
