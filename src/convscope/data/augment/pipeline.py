"""An augmentation: operations written as "translate:2,elastic:34:4", parsed once, applied to whole batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy
import torch

from convscope.data.augment.colour import Colour, mean_colour, principal_colours
from convscope.data.augment.erase import cutout
from convscope.data.augment.geometry import Sample, Shift
from convscope.data.augment.moves import Move
from convscope.data.augment.operations import KINDS, Operation, parse_operation
from convscope.errors import ArgumentError

_LOOKED_AT = 10_000
_COLOUR_ONLY = ("saturation", "hue", "pca")
Step = Callable[[torch.Tensor, torch.Generator, list[Move] | None], torch.Tensor]


class Pictures(Protocol):
    """Examples that have pictures, of whatever kind."""

    @property
    def channels(self) -> int: ...

    def some_pictures(self, most: int) -> Iterator[torch.Tensor]:
        """About ``most`` of them, evenly spaced: uint8 (m, c, h, w) each time."""
        ...


class Augmentation:
    """Operations in the order in which they act. ``str()`` gives the text that parses to the same again.

    Neighbouring geometric operations are composed and sampled once, neighbouring operations of colour likewise.
    cutout's mean colour and pca's principal colours are those of the split given to ``fitted``.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        mean: torch.Tensor | None = None,
        principal: numpy.ndarray | None = None,
    ) -> None:
        self.operations = tuple(operations)
        self._mean, self._principal = mean, principal
        self._steps = [
            self._step(stage, list(group))
            for stage, group in itertools.groupby(self.operations, lambda operation: operation.kind.stage)
        ]

    def __str__(self) -> str:
        return ",".join(map(str, self.operations))

    def __repr__(self) -> str:
        return f"Augmentation({str(self)!r})"

    def fitted(self, examples: Pictures) -> Augmentation:
        """The same with the mean and principal colours of the ``examples``' pictures, where an operation needs them:
        of about 10,000 of them, evenly spaced, since more do not change the first four digits."""
        names = {operation.name for operation in self.operations}
        self._check_channels(examples.channels)
        mean = principal = None
        if "cutout" in names:
            mean = mean_colour(examples.some_pictures(_LOOKED_AT))
        if "pca" in names:
            principal = principal_colours(examples.some_pictures(_LOOKED_AT))
        return Augmentation(self.operations, mean, principal)

    def __call__(
        self, images: torch.Tensor, generator: torch.Generator, moves: list[Move] | None = None
    ) -> torch.Tensor:
        """uint8 (n, c, h, w) → the same, augmented, on the same device.

        ``moves``, where given, is told how the pictures were moved, for what must move with them.
        ``generator`` is a CPU generator; the result depends on it, the device's kind and the pictures alone.
        Raises ArgumentError for grey pictures where colour is needed, and for pca without ``fitted``.
        """
        if images.dtype != torch.uint8 or images.ndim != 4:
            kind = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            raise ArgumentError("images", kind, "a uint8 tensor of shape (n, c, h, w)")
        self._check_channels(images.shape[1])
        if len(images):
            for step in self._steps:
                images = step(images, generator, moves)
        return images

    def _check_channels(self, channels: int) -> None:
        for operation in self.operations:
            if operation.name in _COLOUR_ONLY and channels != 3:
                raise ArgumentError(
                    "augment", operation.name, f"operations for pictures of {channels} channel(s)", "It needs colour"
                )
            if operation.kind.stage == "colour" and channels not in (1, 3):
                raise ArgumentError("augment", operation.name, f"no operation of colour on {channels} channels")

    def _step(self, stage: str, operations: list[Operation]) -> Step:
        if stage == "shift":
            return Shift(operations)
        if stage == "sample":
            if sum(operation.name == "elastic" for operation in operations) > 1:
                raise ArgumentError("augment", ",".join(map(str, operations)), "elastic once")
            return Sample(operations)
        if stage == "colour":
            return self._colour(Colour(operations))
        return self._cutout([int(operation.values[0]) for operation in operations])

    def _colour(self, colour: Colour) -> Step:
        if any(operation.name == "pca" for operation in colour.operations) and self._principal is None:

            def refuse(images: torch.Tensor, generator: torch.Generator, moves: list[Move] | None) -> torch.Tensor:
                raise ArgumentError("augment", "pca", "principal colours", "Call fitted(split) with the training split")

            return refuse
        return lambda images, generator, moves: colour(images, generator, self._principal)

    def _cutout(self, sides: list[int]) -> Step:
        def erase(images: torch.Tensor, generator: torch.Generator, moves: list[Move] | None) -> torch.Tensor:
            fill = torch.zeros(images.shape[1], dtype=torch.uint8) if self._mean is None else self._mean
            for side in sides:
                images = cutout(images, side, fill, generator)
            return images

        return erase


def parse_augmentation(spec: str | Sequence[str] | Augmentation) -> Augmentation:
    """ "translate:2,rotate:10,elastic:34:4" or a list of such → Augmentation.

    Raises UnknownNameError (close matches offered) for an unknown operation, ArgumentError for its numbers.
    """
    if isinstance(spec, Augmentation):
        return spec
    texts = spec.split(",") if isinstance(spec, str) else [part for text in spec for part in text.split(",")]
    operations = [parse_operation(text) for text in texts if text.strip()]
    if not operations:
        raise ArgumentError("augment", spec, f"operations among {', '.join(KINDS)}, for example 'flip,crop:4'")
    return Augmentation(operations)
