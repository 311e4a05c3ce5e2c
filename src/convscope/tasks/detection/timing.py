"""How long a detector takes for a picture, and what of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median_high

import torch
from torch import Tensor, nn

from convscope.data.kinds.boxes import Boxes
from convscope.graph.training_modes import looking
from convscope.tasks.detection.proposals import method_of, propose
from convscope.tasks.detection.scaling import Scale, on_canvas, on_one, scaled
from convscope.tasks.detection.settings import DetectionSettings
from convscope.training.preparing import preprocessing_for


def seconds_a_picture(
    model: nn.Module, examples: Boxes, settings: DetectionSettings, count: int = 5
) -> tuple[float, float]:
    """(seconds that proposing regions takes, seconds of the network) for one picture: the medians of ``count`` evenly
    spaced ones, each by itself, after one that makes everything ready. The first is 0 of a network that proposes."""
    preprocessing, scale = preprocessing_for(model), Scale(settings.shorter, settings.longest)
    method = None if getattr(model, "proposes", False) else method_of(settings.proposals)
    proposing, network = [], []
    places = torch.linspace(0, len(examples) - 1, count).round().long().tolist()
    with looking(model), torch.inference_mode():
        for place in [places[0], *places]:
            picture = scaled(examples.pictures.picture(place), scale, preprocessing)
            begun = time.perf_counter()
            rois = [] if method is None else [nn.functional.pad(propose(picture, method, settings.regions), (1, 0))]
            proposing.append(time.perf_counter() - begun)
            height, width = picture.shape[1:]
            canvas = preprocessing.normalise(on_one([picture], preprocessing, (on_canvas(height), on_canvas(width))))
            begun = time.perf_counter()
            model(canvas, torch.tensor([[height, width]]), *rois)
            network.append(time.perf_counter() - begun)
    return (median_high(proposing[1:]) if method is not None else 0.0), median_high(network[1:])


def head_seconds(models: Sequence[nn.Module], features: int, regions: int = 1000, rounds: int = 7) -> list[float]:
    """Seconds that the two fully connected layers of each detector's head take for so many regions; measured in turn,
    the median of ``rounds``."""
    x = torch.randn(regions, features, generator=torch.Generator().manual_seed(0))
    calls: list[Callable[[Tensor], Tensor]] = [model.get_submodule("roi_heads.box_head").eval() for model in models]
    taken: list[list[float]] = [[] for _ in calls]
    with torch.inference_mode():
        for turn in range(rounds + 1):
            for place, call in enumerate(calls):
                begun = time.perf_counter()
                call(x)
                if turn:
                    taken[place].append(time.perf_counter() - begun)
    return [median_high(each) for each in taken]
