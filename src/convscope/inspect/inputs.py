"""What a model that is looked into takes: the shape of one input, and how a picture becomes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from convscope.data import Dataset
from convscope.errors import ArgumentError
from convscope.graph.calls import input_shape_of
from convscope.spec import Preprocessing, spec_of

_NOTES = {
    "model": "",
    "data": "The model does not say how its input was normalised; the data set's mean and deviation are taken.",
    "nothing": "The model does not say how its input was normalised; pixel / 255 is assumed.",
}


@dataclasses.dataclass(frozen=True)
class InputOfModel:
    """``shape`` of one example, without the batch; ``preprocessing`` for pictures of it, and where that comes from: the
    model's own description, the data set's figures, or nothing, so that pixels go in as 0 … 1."""

    shape: tuple[int, ...]
    preprocessing: Preprocessing
    known_from: Literal["model", "data", "nothing"]

    @property
    def note(self) -> str:
        """A sentence for people; empty where the model says it all."""
        return _NOTES[self.known_from]

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """(channels, height, width): an input of fewer dimensions is drawn as one row, or one map."""
        return _as_picture(self.shape)


def input_of(
    model: nn.Module, data: Dataset[Any] | None = None, input_shape: Sequence[int] | None = None
) -> InputOfModel:
    """``input_shape`` as given, else the model's own, else that of the data set's pictures; preprocessing the model's
    own, else by the data set's figures in the model's channels where it has them, else pixels as 0 … 1.

    Everything that looks into a model asks here, so that it is shown the same input wherever it is looked at. Raises
    ArgumentError where nothing tells the shape, or it has more than three dimensions.
    """
    described = spec_of(model)
    own = tuple(described.input_shape) if described is not None else ()
    if input_shape is None and not own and data is not None:
        input_shape = data.shape
    shape = own if input_shape is None and own else input_shape_of(model, input_shape)
    channels, height, width = _as_picture(shape)
    if described is not None and described.preprocessing is not None:
        return InputOfModel(shape, described.preprocessing, "model")
    if data is not None and (channels in (1, 3) or data.shape[0] == channels):
        return InputOfModel(shape, data.preprocessing((height, width), channels), "data")
    plain = Preprocessing(channels, (height, width), (0.0,) * channels, (1.0,) * channels)
    return InputOfModel(shape, plain, "nothing")


def _as_picture(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) > 3:
        raise ArgumentError("input_shape", shape, "at most (channels, height, width)")
    padded = (1,) * (3 - len(shape)) + tuple(shape)
    return padded[0], padded[1], padded[2]
