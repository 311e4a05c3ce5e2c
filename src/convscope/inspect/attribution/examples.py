"""The pictures of a data set that excite a unit most, with the part of each that it saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from convscope.data import Dataset, load_dataset, prepare
from convscope.errors import ArgumentError, UnknownNameError
from convscope.graph.training_modes import looking
from convscope.inspect.attribution.subject import StoppedError
from convscope.inspect.inputs import InputOfModel, input_of
from convscope.inspect.receptive_field import ReceptiveFields
from convscope.rules import tape
from convscope.spec import spec_of


@dataclasses.dataclass(frozen=True)
class TopExample:
    """``index`` in the pictures gone through, the unit's ``value`` there, and where: ``position`` in its map.

    ``box`` is what the unit sees, (first, last + 1) for each dimension of the input, ``crop`` (c, h, w) uint8 that part
    of the picture as the model takes it.
    """

    index: int
    value: float
    position: tuple[int, ...]
    box: tuple[tuple[int, int], ...]
    crop: Tensor


@torch.no_grad()
def top_examples(
    model: nn.Module,
    data: Dataset[Any] | str | Tensor,
    layer: str,
    unit: int,
    k: int = 9,
    *,
    split: str = "test",
    takes: InputOfModel | None = None,
    batch_size: int = 64,
    stopped: Callable[[], bool] | None = None,
) -> list[TopExample]:
    """The ``k`` pictures in which map (or output) ``unit`` of ``layer`` is largest at some place, the largest first.

    ``data`` is a data set (its ``split``), its name, or pictures, uint8 (n, c, h, w). Each picture counts once, at its
    best place; ``takes`` says what the model takes, where it does not say so itself. Zeiler, Fergus 2014, figure 2.
    Raises UnknownNameError for a layer, ArgumentError for a unit that is not there, StoppedError where ``stopped()``
    says so.
    """
    if not isinstance(k, int) or k < 1:
        raise ArgumentError("k", k, "an integer ≥ 1")
    if split not in ("train", "test"):
        raise ArgumentError("split", split, '"train" or "test"')
    dataset = load_dataset(data) if isinstance(data, str) else data if isinstance(data, Dataset) else None
    if takes is None:
        takes = input_of(model, dataset, _shape(model, data) if isinstance(data, Tensor) else None)
    pictures = data if isinstance(data, Tensor) else getattr(dataset, split)
    values: list[Tensor] = []
    places: list[Tensor] = []
    with looking(model):
        fields = ReceptiveFields(model, takes.shape)
        for start in range(0, len(pictures), batch_size):
            if stopped is not None and stopped():
                raise StoppedError("cancelled")
            rows = torch.arange(start, min(start + batch_size, len(pictures)))
            pixels = prepare(_pixels(pictures, rows), takes.preprocessing)
            x = takes.preprocessing.normalise(pixels).reshape(len(rows), *takes.shape)
            best, place = _best(_output(model, x, layer), layer, unit)
            values.append(best)
            places.append(place)
    every, where = torch.cat(values), torch.cat(places)
    found = []
    for index in every.argsort(descending=True, stable=True)[:k].tolist():
        position = tuple(where[index].tolist())
        box = fields[layer, position or None].box
        pixels = prepare(_pixels(pictures, torch.tensor([index])), takes.preprocessing)[0]
        at: Any = (..., *(slice(first, last) for first, last in box))
        crop = pixels[at]
        found.append(TopExample(index, float(every[index]), position, box, crop))
    return found


def _output(model: nn.Module, x: Tensor, layer: str) -> Tensor:
    parameter = next((each for each in model.parameters() if each.is_floating_point()), x)
    steps = tape.forward(model, x.to(parameter.device, parameter.dtype)).steps
    for step in steps:
        if step.name == layer and isinstance(step.output, Tensor):
            return step.output
    raise UnknownNameError("layer", layer, [step.name for step in steps])


def _best(y: Tensor, layer: str, unit: int) -> tuple[Tensor, Tensor]:
    """The unit's largest value in each example, (n,), and its place in the map, (n, dimensions of the map)."""
    if y.ndim < 2 or not 0 <= unit < y.shape[1]:
        raise ArgumentError("unit", unit, f"a map of {layer}, 0…{y.shape[1] - 1 if y.ndim > 1 else 0}")
    of_map = y[:, unit].reshape(len(y), -1)
    best, flat = of_map.max(1)
    sizes = y.shape[2:]
    place = torch.stack(torch.unravel_index(flat, sizes), 1) if sizes else flat.new_zeros(len(y), 0)
    return best.cpu(), place.cpu()


def _pixels(pictures: Any, rows: Tensor) -> Tensor:
    found: Tensor = pictures[rows] if isinstance(pictures, Tensor) else pictures.select(rows).images
    return found


def _shape(model: nn.Module, pictures: Tensor) -> tuple[int, ...] | None:
    """The pictures' own, for a model that says nothing of its input."""
    described = spec_of(model)
    return None if described is not None and described.input_shape else tuple(pictures.shape[1:])
