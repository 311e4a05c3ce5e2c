"""What a model file must carry beside its weights: architecture, options, preprocessing and class names."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import torch
from torch import nn

from convscope.errors import ArgumentError

Fit = Literal["resize", "pad", "crop"]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How uint8 pictures become the float32 input of a model.

    ``size`` is (height, width) in pixels. ``fit``: "resize" stretches, "pad" centres on zeros (pixel 0), "crop" scales
    the shorter side and cuts the centre. Then each channel is ``(pixel / 255 − mean) / std``.
    """

    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Fit = "resize"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != self.channels:
                raise ArgumentError(name, values, f"{self.channels} numbers, one a channel")
        if any(value <= 0 for value in self.std):
            raise ArgumentError("std", self.std, "positive numbers")

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (n, c, h, w) already of the model's size → float32 of the same shape."""
        mean, std = _channel_constants(self, pixels.device)
        return (pixels.to(torch.float32) - mean) / std

    def denormalise(self, x: torch.Tensor) -> torch.Tensor:
        """The inverse of ``normalise``: float (n, c, h, w) → uint8, clipped to 0…255."""
        mean, std = _channel_constants(self, x.device)
        return (x * std + mean).round().clamp(0, 255).to(torch.uint8)


@functools.lru_cache(maxsize=64)
def _channel_constants(preprocessing: Preprocessing, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation in grey values, each (1, c, 1, 1). Kept, since making them anew costs 12 µs on a CPU and a
    wait on a GPU; and made as ordinary tensors also where inference mode is on."""
    shape = (1, preprocessing.channels, 1, 1)
    with torch.inference_mode(False):
        return (
            torch.tensor(preprocessing.mean, dtype=torch.float32, device=device).reshape(shape) * 255,
            torch.tensor(preprocessing.std, dtype=torch.float32, device=device).reshape(shape) * 255,
        )


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The description that travels with a model.

    ``architecture`` is a catalogue name, or "graph" for a user's own module, whose layers ``options`` then spells out.
    ``input_shape`` is (channels, height, width). ``classes`` are the class names in logit order, empty when unknown.
    """

    architecture: str
    options: dict[str, Any]
    input_shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    def replace(self, **changes: Any) -> ModelSpec:
        return dataclasses.replace(self, **changes)


def attach(model: nn.Module, spec: ModelSpec) -> nn.Module:
    """Give ``model`` its description (an attribute, not a submodule or buffer) and return it."""
    model.__dict__["convscope_spec"] = spec
    return model


def spec_of(model: nn.Module) -> ModelSpec | None:
    """The description attached by ``attach``, or None for a module that never had one."""
    found = model.__dict__.get("convscope_spec")
    return found if isinstance(found, ModelSpec) else None
