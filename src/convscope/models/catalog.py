"""The catalogue: a builder and a card for every architecture, enrolled by one decorator."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from convscope import shapes, spec
from convscope.errors import ArgumentError, UnknownNameError
from convscope.registry import Registry

Builder = Callable[..., nn.Module]


@dataclasses.dataclass(frozen=True)
class Card:
    """What one should know of an architecture before using it.

    ``input_shape`` is (channels, height, width) of the default build, ``parameters`` its exact number of trained
    parameters, ``published`` the paper's own result, ``note`` what differs between editions, ``loss`` the name of the
    loss it is trained with, ``small_size`` the picture size that ``small=True`` builds for, where there is that option.
    """

    title: str
    year: int
    paper: str
    input_shape: tuple[int, ...]
    classes: int
    parameters: int
    published: str
    note: str = ""
    family: str = ""
    loss: str = "cross_entropy"
    small_size: int = 32


@dataclasses.dataclass(frozen=True)
class Entry:
    name: str
    card: Card
    build: Builder

    def option_names(self) -> list[str]:
        """The builder's own options, beside ``classes`` and ``in_channels``."""
        return list(self.options())

    def options(self) -> dict[str, Any]:
        """The builder's own options with their defaults."""
        parameters = inspect.signature(self.build).parameters
        return {name: each.default for name, each in parameters.items() if name not in ("classes", "in_channels")}

    def input_shape(self, in_channels: int, options: Mapping[str, Any]) -> tuple[int, ...]:
        """(channels, height, width) of a build with ``options``: the option ``input_size`` decides where it is given,
        then ``small=True``, then the card."""
        if options.get("input_size") is not None:
            return (in_channels, *shapes.pair(options["input_size"], "input_size"))
        if options.get("small"):
            return (in_channels, self.card.small_size, self.card.small_size)
        return (in_channels, *self.card.input_shape[1:])


MODELS: Registry[Entry] = Registry("model", "convscope.models")


def register(name: str, card: Card) -> Callable[[Builder], Builder]:
    """Enrol ``build(classes, in_channels, **options) → nn.Module`` under ``name``."""

    def enrol(build: Builder) -> Builder:
        MODELS.add(name, Entry(name, card, build))
        return build

    return enrol


def list_models() -> list[str]:
    """Names that ``create_model`` takes, sorted."""
    return MODELS.names()


def create_model(name: str, classes: int | None = None, in_channels: int | None = None, **options: Any) -> nn.Module:
    """Build a catalogue model with fresh random weights.

    ``classes`` and ``in_channels`` default to the paper's. Raises UnknownNameError for an unknown name or option and
    ArgumentError for a value that cannot work. The result carries a ``ModelSpec`` (see ``convscope.spec``).
    """
    entry = MODELS[name]
    classes = entry.card.classes if classes is None else classes
    in_channels = entry.card.input_shape[0] if in_channels is None else in_channels
    for argument, value in (("classes", classes), ("in_channels", in_channels)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ArgumentError(argument, value, "an integer ≥ 1")
    for option in options:
        if option not in entry.option_names():
            raise UnknownNameError(f"option of {name}", option, entry.option_names())
    model = entry.build(classes=classes, in_channels=in_channels, **options)
    described = spec.ModelSpec(
        architecture=name,
        options={"classes": classes, "in_channels": in_channels, **options},
        input_shape=entry.input_shape(in_channels, options),
    )
    return spec.attach(model, described)
