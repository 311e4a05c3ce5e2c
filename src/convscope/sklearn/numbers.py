"""Pictures of floating-point numbers, which need not be pixels: standardised by the training data's own figures."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from convscope import spec
from convscope.data import Dataset, Labelled
from convscope.data.kinds.classes import check_names, check_numbers
from convscope.data.transforms import fitted_by
from convscope.errors import ArgumentError
from convscope.spec import Input
from convscope.tasks.classification.task import Classification
from convscope.training.config import Config
from convscope.training.preparing import description_of, how_to_fit
from convscope.training.task import Prepared


@dataclasses.dataclass(frozen=True, eq=False)
class Numbers(Labelled):
    """``Labelled`` of float64 or float32 (n, c, h, w) in place of pixels."""

    def __post_init__(self) -> None:
        assert self.images.is_floating_point()
        assert self.images.ndim == 4
        check_names(self.classes)
        check_numbers(self.labels, self.classes)

    def statistics(self, channels: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel; 1 for that of a constant one."""
        assert channels in (None, self.channels)
        by_channel = self.images.double().transpose(0, 1).flatten(1)  # (c, n·h·w)
        mean, std = by_channel.mean(1), by_channel.std(1, correction=0)
        # what is left of a constant's own rounding is no deviation
        std = torch.where(std > 1e-12 * by_channel.abs().amax(1), std, torch.ones(()).double())
        return tuple(mean.tolist()), tuple(std.tolist())

    def to(self, device: torch.device | str) -> Numbers:
        return dataclasses.replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def select(self, indices: Tensor) -> Numbers:
        indices = indices.to(self.labels.device)
        return dataclasses.replace(
            self, images=self.images.index_select(0, indices), labels=self.labels.index_select(0, indices)
        )


class NumbersClassification(Classification):
    """Classification of ``Numbers``. What was decided on goes into the model's description: an input of kind "numbers"
    that holds mean, deviation and fit."""

    uses = frozenset({"loss", "fit"})

    def __init__(self, own: Input | None = None) -> None:
        """``own``: the input of a model that was trained before; ``prepare`` notes it there else."""
        super().__init__()
        self.own = own

    def prepare(self, model: nn.Module, dataset: Dataset[Any], config: Config) -> Prepared:
        described = description_of(model, dataset.shape)
        shape: tuple[int, ...] = dataset.shape
        if described is not None and len(described.input_shape) == 3:
            shape = described.input_shape
        if shape[0] != dataset.shape[0]:
            raise ArgumentError("X", f"pictures of {dataset.shape[0]} channels", f"{shape[0]}, as the model takes")
        if self.own is None:
            mean, std = dataset.train.statistics()
            more = {"mean": mean, "std": std, "fit": how_to_fit(dataset.shape, shape, config)}
            self.own = Input("numbers", shape, more=more)
        own = self.own
        if described is not None:
            answers = dataclasses.replace(described.answers, names=dataset.classes)
            spec.attach(model, described.replace(inputs=(own,), answers=answers))
        parts = [
            dataclasses.replace(each, images=standardised(each.images, own)) for each in (dataset.train, dataset.test)
        ]
        return Prepared(parts[0], parts[1], (), (), (Input("numbers", own.shape),))


def standardised(pictures: Tensor, described: Input) -> Tensor:
    """(n, c, h, w) numbers → float32 of the model's size, (x − mean)/std by channel in float64."""
    mean, std = (torch.tensor(described.more[name], dtype=torch.float64)[:, None, None] for name in ("mean", "std"))
    _, height, width = described.shape
    fitted = fitted_by(_resized, pictures, (height, width), described.more["fit"])  # nothing is rounded
    return ((fitted.double() - mean) / std).float()


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    if tuple(x.shape[-2:]) == (height, width):
        return x
    return functional.interpolate(x, (height, width), mode="bilinear", antialias=True, align_corners=False)


def as_tensor(X: np.ndarray[Any, Any]) -> Tensor:
    """Numbers as a tensor of float64, or float32 where they are that already."""
    kind = X.dtype if X.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(X, dtype=kind).copy())
