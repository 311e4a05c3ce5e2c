"""The catalogue: a builder and a card for every architecture, enrolled by one decorator."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from convscope import shapes, spec
from convscope.errors import ArgumentError, CheckpointError, UnknownNameError
from convscope.layers.conv import whole_number
from convscope.models import weights as files
from convscope.registry import Registry

Builder = Callable[..., nn.Module]


@dataclasses.dataclass(frozen=True)
class Card:
    """What one should know of an architecture before using it.

    ``input_shape`` is (channels, height, width) of the default build, or (tokens,), ``parameters`` its exact number of
    trained parameters, ``published`` the paper's own result, ``note`` what differs between editions, ``loss`` the name
    of the loss it is trained with, ``task`` that of the task it is for, ``small_size`` the picture size that
    ``small=True`` builds for, where there is that option.

    ``minimum_size``: the model takes pictures of any size from this on, so that ``input_size`` can be given. ``shapes``
    are the maps (channels, height, width) that the paper or the textbook prints, by module name. ``economical`` are
    options of the cheapest build that still has every kind of layer, for trying a model out.
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
    task: str = "classification"
    small_size: int = 32
    minimum_size: int | None = None
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    economical: tuple[tuple[str, Any], ...] = ()

    @property
    def channels(self) -> int:
        """Of the default build: those of its pictures; 1 where texts go in."""
        return self.input_shape[0] if len(self.input_shape) > 1 else 1


@dataclasses.dataclass(frozen=True)
class Entry:
    name: str
    card: Card
    build: Builder

    def create(self, classes: int, in_channels: int, options: Mapping[str, Any]) -> nn.Module:
        """Check the arguments and build: the model with fresh weights, without a ModelSpec."""
        whole_number(classes, "classes")
        whole_number(in_channels, "in_channels")
        for option in options:
            if option not in self.option_names():
                raise UnknownNameError(f"option of {self.name}", option, self.option_names())
        for option in ("small", "auxiliary"):
            if not isinstance(options.get(option, False), bool | None):
                raise ArgumentError(option, options[option], "True or False")
        if options.get("hidden") is not None:
            whole_number(options["hidden"], "hidden")
        given = dict(options)
        if self.card.minimum_size is not None and given.pop("input_size", None) is not None:
            self._check_size(options)
        return self.build(classes=classes, in_channels=in_channels, **given)

    def _check_size(self, options: Mapping[str, Any]) -> None:
        assert self.card.minimum_size is not None
        least = min(self.card.minimum_size, self.card.small_size) if options.get("small") else self.card.minimum_size
        if min(shapes.pair(options["input_size"], "input_size")) < least:
            raise ArgumentError("input_size", options["input_size"], f"at least {least}: {self.name} halves it often")

    def option_names(self) -> list[str]:
        """The builder's own options, beside ``classes`` and ``in_channels``."""
        return list(self.options())

    def options(self) -> dict[str, Any]:
        """The builder's own options with their defaults."""
        parameters = inspect.signature(self.build).parameters
        own = {name: each.default for name, each in parameters.items() if name not in ("classes", "in_channels")}
        return own | ({"input_size": self.card.input_shape[1:]} if self.card.minimum_size else {})

    def input_shape(self, in_channels: int, options: Mapping[str, Any]) -> tuple[int, ...]:
        """(channels, height, width) of a build with ``options``: the option ``input_size`` decides where it is given,
        then ``small=True``, then the card. A model of texts has the card's (tokens,)."""
        if len(self.card.input_shape) == 1:
            return self.card.input_shape
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


def create_model(
    name: str,
    classes: int | None = None,
    in_channels: int | None = None,
    *,
    weights: str | Path | None = None,
    freeze: int | str | Sequence[str] | None = None,
    **options: Any,
) -> nn.Module:
    """Build a catalogue model, with fresh random weights or those of a file.

    ``classes`` and ``in_channels`` default to the paper's. ``weights`` is a safetensors file (ours or another) or a
    state dict written by ``torch.save``, such as torchvision's: all its entries must fit, only a last layer for another
    number of classes than ``classes``, or that the file lacks, is left at its random start; without ``classes`` the
    file's number is taken.
    ``freeze``: module names, or a number of layers, that are not to be trained (see ``weights.freeze``).

    Raises UnknownNameError for an unknown name or option, ArgumentError for a value that cannot work, CheckpointError
    for a file that does not fit. The result carries a ``ModelSpec`` (see ``convscope.spec``).
    """
    entry = MODELS[name]
    state = None if weights is None else files.read_state(weights)
    chosen = entry.card.classes if classes is None else classes
    in_channels = entry.card.channels if in_channels is None else in_channels
    model = entry.create(chosen, in_channels, options)
    if state is not None and weights is not None:
        state = files.fit_names(state, model, weights)
        found = files.class_count(model, state, chosen) if classes is None else None
        if found is not None:
            chosen = found
            model = entry.create(chosen, in_channels, options)
        if isinstance(model, files.CarriesOver):
            state = model.carried_over(state)
        fresh = files.put_state(model, state, weights, chosen)
        if fresh and classes is None:
            raise CheckpointError(
                weights,
                f"it has no last layer ({fresh[0]!r})",
                "Give the number of classes: that layer then begins anew",
            )
    if freeze is not None:
        files.freeze(model, freeze)
    described = spec.ModelSpec(
        architecture=name,
        options={"classes": chosen, "in_channels": in_channels, **options},
        input_shape=entry.input_shape(in_channels, options),
        task=entry.card.task,
    )
    return spec.attach(model, described)


def default_loss(model: nn.Module) -> str:
    """The loss on the card of the model's architecture, else cross-entropy."""
    described = spec.spec_of(model)
    if described is not None and described.architecture in MODELS:
        return MODELS[described.architecture].card.loss
    return "cross_entropy"
