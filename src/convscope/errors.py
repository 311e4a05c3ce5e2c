"""Errors that name the argument, say what came and what was wanted, and offer the close match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class ConvscopeError(Exception):
    """Base of every error that convscope raises on purpose; the command line prints it without a traceback."""


class ArgumentError(ConvscopeError, ValueError):
    """An argument has a value that cannot work.

    ``argument`` is the public name, ``got`` the value as given, ``wanted`` a noun phrase, ``hint`` a full sentence.
    """

    def __init__(self, argument: str, got: object, wanted: str, hint: str = "") -> None:
        self.argument, self.got, self.wanted, self.hint = argument, got, wanted, hint
        super().__init__(f"{argument}: got {got!r}, wanted {wanted}" + (f". {hint}" if hint else ""))


class UnknownNameError(ArgumentError):
    """A name that no registry entry has; the nearest entries are offered."""

    def __init__(self, kind: str, name: object, choices: Iterable[str]) -> None:
        known = sorted(choices)
        close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else ""
        shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
        super().__init__(kind, name, f"one of {shown}", hint)


class DataError(ConvscopeError):
    """A data file or folder is missing, damaged or not what its name says."""

    def __init__(self, path: str | Path, problem: str, remedy: str = "") -> None:
        self.path, self.problem, self.remedy = Path(path), problem, remedy
        super().__init__(f"{path}: {problem}" + (f". {remedy}" if remedy else ""))


class CheckpointError(ConvscopeError):
    """A saved model or checkpoint is damaged, cut short, or belongs to another architecture or version."""

    def __init__(self, path: str | Path, problem: str, remedy: str = "") -> None:
        self.path, self.problem, self.remedy = Path(path), problem, remedy
        super().__init__(f"{path}: {problem}" + (f". {remedy}" if remedy else ""))


class TrainingError(ConvscopeError):
    """Training cannot go on: the loss is not a number, exploded, or no memory is left."""


class LostProcessError(TrainingError):
    """Another process of the same job has ended, or cannot be reached. ``silent``: one of those that are left has said
    so already."""

    def __init__(self, message: str, silent: bool = False) -> None:
        self.silent = silent
        super().__init__(message)


class LoweringError(ConvscopeError):
    """The native engine cannot run a layer; ``layer`` is its name in the model, ``reason`` says why."""

    def __init__(self, layer: str, reason: str) -> None:
        self.layer, self.reason = layer, reason
        super().__init__(f"layer {layer!r}: {reason}")


class ExportError(ConvscopeError):
    """A model cannot be written in another format; ``layer`` is the layer's name in the model ("" where the whole model
    is meant), ``reason`` says why."""

    def __init__(self, layer: str, reason: str) -> None:
        self.layer, self.reason = layer, reason
        super().__init__(f"layer {layer!r}: {reason}" if layer else f"the model: {reason}")
