"""Inputs made for a model of which none is at hand."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.spec import spec_of

_POSITIONS = 8  # of a sequence whose length the model's description leaves open


def example_inputs(model: nn.Module, input_shape: Sequence[Any] | None = None, batch: int = 2) -> tuple[Tensor, ...]:
    """``batch`` inputs of ``input_shape``, without the batch (None: what the model's own description says), of the
    parameters' type and device: numbers of a fixed normal distribution, or indices where the model begins with a table.

    For a model of several inputs ``input_shape`` is a sequence of shapes; (5,) beside pictures, for a model that pools
    regions, is a box (picture, x1, y1, x2, y2), here the whole of each picture. Raises ArgumentError where nothing
    tells the shape.
    """
    if input_shape is not None:
        several = bool(input_shape) and all(isinstance(each, Sequence) for each in input_shape)
        shapes = [tuple(each) for each in input_shape] if several else [tuple(input_shape)]
        boxes = [len(shapes[0]) == 3 and shape == (5,) and _takes_boxes(model) for shape in shapes]
        return tuple(
            _boxes(model, shapes[0], batch) if is_box else example(model, (batch, *shape))
            for shape, is_box in zip(shapes, boxes, strict=True)
        )
    described = spec_of(model)
    inputs = () if described is None else described.inputs
    if not inputs or any(not each.shape and each.kind != "tokens" for each in inputs):
        raise ArgumentError(
            "input_shape",
            None,
            "(channels, height, width)",
            "The model carries no description of its own input; give the shape of one.",
        )
    return tuple(
        example(model, (batch, *(each.shape or (_POSITIONS,))), indices=each.kind == "tokens" or None)
        for each in inputs
    )


def example(model: nn.Module, shape: Sequence[int], indices: bool | None = None) -> Tensor:
    """A tensor of ``shape``, of the parameters' type and device; whole numbers where ``indices`` says so, or (None) the
    model begins with a table that they are looked up in."""
    like: Any = next((item for item in model.parameters() if item.is_floating_point()), torch.zeros(()))
    with torch.inference_mode(False):
        if takes_indices(model) if indices is None else indices:
            return torch.ones(tuple(shape), dtype=torch.int64, device=like.device)
        generator = torch.Generator().manual_seed(20)
        numbers = torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device="cpu")
        return numbers.to(like.device, like.dtype)


def needed_inputs(model: nn.Module) -> list[str]:
    """The names of the inputs that the model cannot do without."""
    taken = inspect.signature(model.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in taken if each.kind in kinds and each.default is each.empty]


def _takes_boxes(model: nn.Module) -> bool:
    return any(type(module).__name__ in ("RoIPool", "RoIAlign") for module in model.modules())


def _boxes(model: nn.Module, shape: Sequence[int], batch: int) -> Tensor:
    boxes = torch.zeros_like(example(model, (batch, 5)))
    boxes[:, 0] = torch.arange(batch)
    boxes[:, 3], boxes[:, 4] = shape[2] - 1, shape[1] - 1
    return boxes


def takes_indices(model: nn.Module) -> bool:
    """Whether the model begins with a table of embeddings: whether that is its first layer of all."""
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            return True
        if next(module.parameters(recurse=False), None) is not None:
            return False
    return False
