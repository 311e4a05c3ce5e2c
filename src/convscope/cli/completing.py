"""What a shell is told when a person presses Tab: names of models, data sets, experiments, engines, and files.

To import the catalogues takes seconds, so that their names are kept in a file, ``$XDG_CACHE_HOME/convscope/names.json``
(below ``~/.cache`` without the variable), which is made anew when a source file of theirs is newer or others are there.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

_REGISTRIES = {
    "models": ("convscope.models.catalog", "MODELS"),
    "data": ("convscope.data.catalog", "SOURCES"),
    "experiments": ("convscope.experiments.base", "EXPERIMENTS"),
    "tasks": ("convscope.tasks.registry", "TASKS"),
    "losses": ("convscope.layers.losses", "LOSSES"),
    "kernels": ("convscope.kernels", "NAMES"),
}
# parameter → which names; a parameter called "name" is of the command it belongs to
_PARAMETERS = {
    "model": "models", "models": "models", "data": "data", "task": "tasks", "loss": "losses", "kernel": "kernels",
}  # fmt: skip
_NAMED = {"models": "models", "datasets": "data", "experiment": "experiments"}
_FIXED = {
    "engine": ["auto", "native", "torch", "rules"],
    "device": ["auto", "cpu", "cuda"],
    "optimiser": ["sgd", "nesterov", "adam", "adamw", "rmsprop", "adagrad"],
    "precision": ["float32", "bfloat16", "float64"],
    "fit": ["auto", "resize", "pad", "crop"],
}


class Completed(click.ParamType[str]):
    """Text, of which some names are known; where none of them begins as typed, a file's name may be meant."""

    name = "text"

    def __init__(self, kind: str, files: bool) -> None:
        self.kind, self.files = kind, files

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        known = _FIXED.get(self.kind) or names().get(self.kind, [])
        found = [CompletionItem(name) for name in known if name.startswith(incomplete)]
        return found or ([CompletionItem(incomplete, type="file")] if self.files else [])


def prepared(command: click.Command) -> click.Command:
    """The command with its text parameters completed; asked only where a shell asks."""
    for parameter in command.params:
        name = str(parameter.name)
        kind = _NAMED.get(str(command.name)) if name == "name" else _PARAMETERS.get(name)
        kind = name if name in _FIXED else kind
        if kind is not None and parameter.type is click.STRING:
            parameter.type = Completed(kind, files=kind in ("models", "data"))
        elif name == "inputs":
            parameter.type = click.Path()
    return command


def prepare_names() -> None:
    """Have the names ready before the first Tab: where they are not kept, a process of its own reads the catalogues."""
    if _kept() is None:
        subprocess.Popen(
            [sys.executable, "-c", "from convscope.cli.completing import names; names()"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def names() -> dict[str, list[str]]:
    """The names in every catalogue."""
    if (kept := _kept()) is not None:
        return kept
    cache, mark = _cache(), _mark()
    found = {kind: sorted(_registry(*place)) for kind, place in _REGISTRIES.items()}
    with contextlib.suppress(OSError):  # without a place for it, it takes longer the next time as well
        from convscope import files

        cache.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(cache, json.dumps({"mark": mark, "names": found}))
    return found


def _kept() -> dict[str, list[str]] | None:
    """The names in the file; None where there is none, or it is of other sources."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        kept = json.loads(_cache().read_text(encoding="utf-8"))
        if kept.get("mark") == _mark():
            return dict(kept["names"])
    return None


def _registry(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convscope" / "names.json"


def _mark() -> list[Any]:
    """How many source files the catalogues have, where, and when the newest was written."""
    root = Path(__file__).parents[1]
    rooms = [root / "models", root / "data" / "sources", root / "experiments", root / "tasks", root / "layers"]
    times = [path.stat().st_mtime for room in rooms for path in room.rglob("*.py")]
    return [str(root), len(times), max(times, default=0.0)]
