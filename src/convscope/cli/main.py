"""Finding commands, and turning what goes wrong into one clear line and an exit code.

0 done · 1 something unforeseen · 2 a wrong argument, file or name · 130 interrupted · 141 nobody reads on
"""

from __future__ import annotations

import contextlib
import difflib
import gc
import importlib
import inspect
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from convscope import __version__
from convscope.cli import commands, terminal
from convscope.errors import ConvscopeError

WRONG, INTERRUPTED = 2, 130
VARIABLE = "_CONVSCOPE_COMPLETE"  # set where a shell asks how to go on


_DOCUMENTED = re.compile(r'^def command\(.*?^    """(.+?)"""', re.DOTALL | re.MULTILINE)


class Commands(click.Group):
    """The group whose commands are the modules of ``convscope.cli.commands``, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{commands.__name__}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        if VARIABLE in os.environ:
            from convscope.cli.completing import prepared

            return prepared(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click writes them, without importing the commands: that was a third of the help's time, more with each."""
        names = self.list_commands(ctx)
        room = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._short(ctx, name, room)) for name in names])

    def _short(self, ctx: click.Context, name: str, room: int) -> str:
        """The first sentence of a command's help, from its file's text; where that cannot be read, from the command."""
        text = None
        with contextlib.suppress(OSError, UnicodeDecodeError, AttributeError):
            file = Path(next(iter(commands.__path__)), name.replace("-", "_") + ".py")
            text = _DOCUMENTED.search(file.read_text(encoding="utf-8"))
        if text is not None:
            return click.Command(name, help=inspect.cleandoc(text[1])).get_short_help_str(room)
        command = self.get_command(ctx, name)
        return "" if command is None else command.get_short_help_str(room)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            close = difflib.get_close_matches(args[0], known, n=2, cutoff=0.5)
            hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint} Commands: {', '.join(known)}.", ctx)
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Click's own, but with our words and codes for what goes wrong."""
        carry_out: Callable[..., Any] = super().main
        if not standalone_mode:
            return carry_out(*args, standalone_mode=False, **extra)
        try:
            result = carry_out(*args, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort) as error:
            cause = error.__cause__ or error.__context__ or error
            message = str(error) or (str(cause) if isinstance(cause, KeyboardInterrupt) else "")
            _say(message or "interrupted")
            sys.exit(INTERRUPTED)
        except (ConvscopeError, OSError, MemoryError) as error:
            if os.environ.get("CONVSCOPE_DEBUG"):
                traceback.print_exc()
            elif not getattr(error, "silent", False):
                _say(f"error: {_in_words(error)}")
            sys.exit(WRONG)
        sys.exit(result if isinstance(result, int) else 0)


def _in_words(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory; a smaller batch size needs less"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _say(text: str) -> None:
    click.echo(f"convscope: {text}", err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="convscope")
def group() -> None:
    """A convolutional-network workbench: train the classic CNNs, use them, and see everything inside them.

    \b
    Examples:
      convscope train                            LeNet-5 on scikit-learn's digits, in seconds
      convscope train lenet5 --data mnist        … on MNIST
      convscope evaluate runs/…/model.safetensors --data mnist
      convscope predict runs/…/model.safetensors picture.png folder/
      convscope inspect runs/…/model.safetensors --data mnist
      convscope models lenet5_1998
    """


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script's entry."""
    terminal.prepare()
    # Commands write pictures and open no window of matplotlib's. A notebook hands its own backend on to what it calls,
    # and where that is not installed matplotlib cannot even be imported.
    os.environ.pop("MPLBACKEND", None)
    # Imports make half a million objects that stay. To look through the new ones for rubbish whenever there are 700
    # took 0.1 s of a command's start.
    gc.set_threshold(100_000, 10, 10)
    try:
        group.main(arguments, prog_name="convscope")
    finally:
        terminal.finish()
        # On its way out Python looks through all objects for rubbish, 0.4 s; those that are frozen it lets be, 0.12 s.
        gc.freeze()
    raise AssertionError("main always exits")
