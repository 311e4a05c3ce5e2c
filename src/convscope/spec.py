"""What a model file must carry beside its weights: architecture, options, task, what goes in and what comes out."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn

from convscope.errors import ArgumentError

Fit = Literal["resize", "pad", "crop"]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How uint8 pictures become the float32 input of a model.

    ``size`` is (height, width) in pixels. ``fit``: "resize" stretches, "pad" centres on zeros (pixel 0), "crop" scales
    the shorter side and cuts the centre. With ``width`` the figure (what is brighter than 0) is then scaled
    horizontally to so many pixels (``data.transforms.normalise_width``). Last, each channel is
    ``(pixel / 255 − mean) / std``.
    """

    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Fit = "resize"
    width: int | None = None

    def __post_init__(self) -> None:
        if not _whole(self.channels):
            raise ArgumentError("channels", self.channels, "a number of channels")
        if len(self.size) != 2 or not all(_whole(side) for side in self.size):
            raise ArgumentError("size", self.size, "(height, width) in pixels")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != self.channels or not all(_finite(value) for value in values):
                raise ArgumentError(name, values, f"{self.channels} numbers, one a channel")
        if any(value <= 0 for value in self.std):
            raise ArgumentError("std", self.std, "positive numbers")
        if self.fit not in get_args(Fit):
            raise ArgumentError("fit", self.fit, f"one of {', '.join(get_args(Fit))}")
        if self.width is not None and not (_whole(self.width) and self.width <= self.size[1]):
            raise ArgumentError("width", self.width, f"a figure's width from 1 to {self.size[1]} pixels, or None")

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (n, c, h, w) already of the model's size → float32 of the same shape."""
        mean, std = _channel_constants(self, pixels.device)
        return (pixels.to(torch.float32) - mean) / std

    def denormalise(self, x: torch.Tensor) -> torch.Tensor:
        """The inverse of ``normalise``: float (n, c, h, w) → uint8, clipped to 0…255."""
        mean, std = _channel_constants(self, x.device)
        return (x * std + mean).round().clamp(0, 255).to(torch.uint8)


def _whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1


def _finite(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


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
class Input:
    """One of a model's inputs.

    ``kind``: "pictures" (uint8 of ``shape`` (channels, height, width), made floats by ``preprocessing``), "tokens"
    (int64, numbers of ``vocabulary``'s entries) or "numbers" (floating point, as they are). ``shape`` is that of one
    example, () where it varies. ``more`` holds JSON values that the task keeps, a tokenizer's merges for one.
    """

    kind: str
    shape: tuple[int, ...] = ()
    preprocessing: Preprocessing | None = None
    vocabulary: tuple[str, ...] = ()
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def ready(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """What a batch holds → what the model takes: pixels normalised, floats of ``dtype``, integers left alone."""
        if x.dtype == torch.uint8 and self.preprocessing is not None:
            x = self.preprocessing.normalise(x)
        return x.to(dtype) if x.is_floating_point() else x


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a model says. ``kind``: "classes", "boxes", "maps" (``names`` are class names), "tokens" (``names`` are a
    vocabulary), "features", "pictures" …; ``more`` holds JSON values that the task keeps, thresholds for one."""

    kind: str = "classes"
    names: tuple[str, ...] = ()
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, init=False)
class ModelSpec:
    """The description that travels with a model.

    ``architecture`` is a catalogue name, or "graph" for a user's own module, whose layers ``options`` then spells out.
    ``task`` says what the model is for, ``inputs`` and ``answers`` what goes in and comes out. For the commonest model,
    one picture in and a class out, three short forms say it all: ``input_shape`` (channels, height, width) of the first
    input, its ``preprocessing``, and ``classes``, the class names in logit order, empty when unknown. ``ranks``: the
    fully connected layers that are two of that rank, by their names (``convscope.compress``).
    """

    architecture: str
    options: dict[str, Any]
    task: str
    inputs: tuple[Input, ...]
    answers: Answers
    ranks: dict[str, int]

    def __init__(
        self,
        architecture: str,
        options: Mapping[str, Any],
        input_shape: Sequence[int] = (),
        classes: Sequence[str] = (),
        preprocessing: Preprocessing | None = None,
        *,
        task: str = "classification",
        inputs: Sequence[Input] | None = None,
        answers: Answers | None = None,
        ranks: Mapping[str, int] | None = None,
    ) -> None:
        if inputs is None:
            kind = "pictures" if len(input_shape) == 3 or preprocessing is not None else "numbers"
            inputs = (Input(kind, tuple(input_shape), preprocessing),)
        values = {
            "architecture": architecture,
            "options": dict(options),
            "task": task,
            "inputs": tuple(inputs),
            "answers": Answers("classes", tuple(classes)) if answers is None else answers,
            "ranks": dict(ranks or {}),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.inputs[0].shape if self.inputs else ()

    @property
    def preprocessing(self) -> Preprocessing | None:
        return self.inputs[0].preprocessing if self.inputs else None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.answers.names

    def replace(self, **changes: Any) -> ModelSpec:
        """The same with other values; ``input_shape`` and ``preprocessing`` change the first input, ``classes`` the
        answers' names."""
        values = dict(vars(self))
        short = {name: value for name, value in changes.items() if name not in values}
        values |= {name: value for name, value in changes.items() if name in values}
        first = {"shape": tuple(short.pop("input_shape"))} if "input_shape" in short else {}
        if "preprocessing" in short:
            first["preprocessing"] = short.pop("preprocessing")
        if first:
            values["inputs"] = (dataclasses.replace(values["inputs"][0], **first), *values["inputs"][1:])
        if "classes" in short:
            values["answers"] = dataclasses.replace(values["answers"], names=tuple(short.pop("classes")))
        assert not short, f"a ModelSpec has no {', '.join(short)}"
        return ModelSpec(**values)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as model files hold them (format 2)."""
        return {
            "architecture": self.architecture,
            "options": self.options,
            "task": self.task,
            "inputs": [_without_defaults(each) for each in self.inputs],
            "answers": _without_defaults(self.answers),
            **({"ranks": self.ranks} if self.ranks else {}),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> ModelSpec:
        """From ``to_json``, or from format 1, which knew classifiers of pictures only (``input_shape``,
        ``preprocessing``, ``classes``). KeyError, TypeError, ValueError or ArgumentError for what is neither."""
        architecture, options = _text(saved["architecture"]), dict(saved["options"])
        if "inputs" not in saved:
            pixels = saved["preprocessing"]
            return cls(
                architecture, options, _sizes(saved["input_shape"]), _texts(saved["classes"]),
                None if pixels is None else _preprocessing(pixels),
            )  # fmt: skip
        inputs = [
            Input(
                _text(each["kind"]),
                _sizes(each.get("shape", ())),
                None if each.get("preprocessing") is None else _preprocessing(each["preprocessing"]),
                _texts(each.get("vocabulary", ())),
                dict(each.get("more", {})),
            )
            for each in saved["inputs"]
        ]
        answers = saved["answers"]
        return cls(
            architecture, options, task=_text(saved["task"]), inputs=inputs,
            answers=Answers(_text(answers["kind"]), _texts(answers.get("names", ())), dict(answers.get("more", {}))),
            ranks=dict(saved.get("ranks", {})),
        )  # fmt: skip


def _without_defaults(item: Input | Answers) -> dict[str, Any]:
    """Plain values; what is empty is left out."""
    return {name: value for name, value in dataclasses.asdict(item).items() if value not in (None, (), {})}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError(f"{values!r} is no list of texts")
    return tuple(map(_text, values))


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list | tuple) or not all(_whole(each) for each in values):
        raise TypeError(f"{values!r} is no list of sizes")
    return tuple(values)


def _preprocessing(saved: Mapping[str, Any]) -> Preprocessing:
    return Preprocessing(
        channels=saved["channels"],
        size=(saved["size"][0], saved["size"][1]),
        mean=tuple(saved["mean"]),
        std=tuple(saved["std"]),
        fit=saved["fit"],
        width=saved.get("width"),
    )


def attach(model: nn.Module, spec: ModelSpec) -> nn.Module:
    """Give ``model`` its description (an attribute, not a submodule or buffer) and return it."""
    model.__dict__["convscope_spec"] = spec
    return model


def spec_of(model: nn.Module) -> ModelSpec | None:
    """The description attached by ``attach``, or None for a module that never had one."""
    found = model.__dict__.get("convscope_spec")
    return found if isinstance(found, ModelSpec) else None
