"""The picture that a unit would like best: regularised activation maximisation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.graph.training_modes import looking
from convscope.inspect.attribution.checks import blur
from convscope.inspect.attribution.subject import Subject
from convscope.inspect.attribution.target import Index, Place
from convscope.inspect.inputs import InputOfModel, input_of


@dataclasses.dataclass(frozen=True)
class Maximised:
    """``x`` (1, c, h, w) is what the model would be given, ``pixels`` (c, h, w) uint8 the same as a picture;
    ``history`` the unit's value before each step and at the end."""

    x: Tensor
    pixels: Tensor
    history: tuple[float, ...]


@torch.no_grad()
def maximise(
    model: nn.Module,
    layer: str = "",
    unit: int | tuple[Index, ...] = 0,
    *,
    steps: int = 128,
    rate: float = 0.1,
    decay: float = 0.01,
    smooth: float = 0.5,
    jitter: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    takes: InputOfModel | None = None,
    seed: int = 0,
    stopped: Callable[[], bool] | None = None,
    seen: Callable[[Tensor, tuple[float, ...]], None] | None = None,
) -> Maximised:
    """Climb the gradient of a unit's value from faint noise: x ← (1 − λ)·(x + η·g/rms(g)), kept within the pixels'
    range.

    ``layer`` and ``unit`` as in ``Place``: a map's number (its sum over all places), or an index of one unit; the layer
    "" is the model's output. Simonyan et al. 2013 with the regularisers of Yosinski et al. 2015: ``decay`` λ towards
    the baseline 0, every fourth step a blend with the blurred picture (``smooth`` at the start, 0 at the end), and
    ``jitter``, a random shift of up to so many pixels (a sixteenth of the side unless given) before each gradient, so
    that nothing rests on single pixels. ``rate`` η is a share of the input's range; ``takes`` says what the model
    takes, where it does not say so itself. Raises UnknownNameError, ArgumentError, and StoppedError where ``stopped()``
    says so. ``seen(pixels, history)`` is told of every step.
    """
    if steps < 1:
        raise ArgumentError("steps", steps, "an integer ≥ 1")
    takes = input_of(model, input_shape=input_shape) if takes is None else takes
    place = Place(layer, *(unit if isinstance(unit, tuple) else (unit,)))
    stream = torch.Generator().manual_seed(seed)
    low, high = _range(takes)
    reach = max(takes.shape[-1] // 16, 1) if jitter is None else jitter
    x = 0.01 * (high - low) * torch.randn(1, *takes.shape, generator=stream)
    history = []
    with looking(model):
        subject = Subject(model, x.clamp(low, high), place, stopped=stopped)
        x = subject.x
        for number in range(steps):
            history.append(float(subject.values(x)[0]))
            if seen is not None:
                seen(_pixels(takes, x), tuple(history))
            dims = [-2, -1] if x.ndim == 4 else [-1]
            shift = torch.randint(-reach, reach + 1, (len(dims),), generator=stream).tolist()
            gradient = subject.gradient(x.roll(shift, dims)).roll([-each for each in shift], dims)
            size = gradient.square().mean().sqrt()
            if float(size) == 0:  # nothing to climb: a dead unit, or one that has been reached
                break
            x = (1 - decay) * (x + rate * (high - low) * gradient / size)
            left = 1 - number / steps
            if smooth and number % 4 == 3:
                share = smooth * left
                x = (1 - share) * x + share * blur(x, 0.02)
            x = x.clamp(low, high)
        history.append(float(subject.values(x)[0]))
    return Maximised(x, _pixels(takes, x), tuple(history))


def _pixels(takes: InputOfModel, x: Tensor) -> Tensor:
    return takes.preprocessing.denormalise(x.float().reshape(1, *takes.picture_shape))[0]


def _range(takes: InputOfModel) -> tuple[float, float]:
    """The smallest and the largest number that a pixel can become."""
    ends = torch.zeros(2, *takes.picture_shape, dtype=torch.uint8)
    ends[1] = 255
    found = takes.preprocessing.normalise(ends)
    return float(found.min()), float(found.max())
