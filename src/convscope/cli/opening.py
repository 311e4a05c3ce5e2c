"""What several commands open alike: a model by file or name, a class by name or number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torch import nn


def open_model(model: str, options: dict[str, Any]) -> tuple[nn.Module, str, str | None]:
    """The network, what to call it, and the loss that it was trained with where its file says so."""
    from convscope.models import create_model
    from convscope.training import describe, load

    if model.endswith(".safetensors") or Path(model).is_file():
        if options:
            raise click.UsageError("-o/--option builds a new model; a saved one is built already.")
        description = describe(model)
        described = description.get("model") or {}
        return load(model), f"{described.get('architecture', 'model')}", (description.get("config") or {}).get("loss")
    return create_model(model, **options), model, None


def class_of(target: str, classes: Sequence[str]) -> int:
    """The number of a class of that name; a number where the classes have no names."""
    from convscope.errors import UnknownNameError

    if target in classes:
        return list(classes).index(target)
    if not classes and target.isdigit():
        return int(target)
    raise UnknownNameError("target", target, classes or ["0", "1", "…"])
