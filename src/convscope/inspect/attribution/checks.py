"""How far a map can be trusted: does what it marks decide, does it follow the weights, does it add up?"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.graph.training_modes import looking
from convscope.inspect.attribution.methods.integrated_gradients import baseline_of
from convscope.inspect.attribution.registry import METHODS, attribute
from convscope.inspect.attribution.subject import Subject
from convscope.inspect.attribution.target import Place, Target
from convscope.layers.losses import Loss
from convscope.rules import tape

_POINTS = 32


@dataclasses.dataclass(frozen=True)
class Curve:
    """The score when a ``share`` (0 … 1) of the pixels is changed, the most marked first; ``area`` under it.

    The score of a class is its probability; of a place its value, the undisturbed one taken as 1.
    """

    shares: tuple[float, ...]
    scores: tuple[float, ...]

    @property
    def area(self) -> float:
        return float(np.trapezoid(self.scores, self.shares))


@dataclasses.dataclass(frozen=True)
class Randomised:
    """How alike the map is when ``layer`` and all layers behind it have random weights: the rank correlation of |map|
    with the original's, 1 for the same map, about 0 for one that knows nothing of it."""

    layer: str
    agreement: float


@dataclasses.dataclass(frozen=True)
class Honesty:
    """Checks beside one map.

    ``deletion``: the score falls fast if what the map marks first decides (a small area is good); ``insertion``: it
    rises fast when these pixels are put into the blurred picture (a large area is good); ``by_chance`` are the areas of
    both for pixels in random order. ``randomised`` from the last layer to the first: a map that stays alike does not
    follow the weights. ``gap``: (Σ map − (s(x) − s(x₀)))/|s(x) − s(x₀)|, 0 where the map shares out the score's rise
    from the baseline x₀; None for methods that do not mean to (``Method.adds_up``).
    """

    deletion: Curve
    insertion: Curve
    by_chance: tuple[float, float]
    randomised: tuple[Randomised, ...]
    gap: float | None


@torch.no_grad()
def honesty(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    method: str = "grad_cam",
    layer: str | None = None,
    *,
    baseline: float | Tensor = 0.0,
    found: Tensor | None = None,
    loss: str | Loss | None = None,
    stopped: Callable[[], bool] | None = None,
    **options: Any,
) -> Honesty:
    """All checks for one example ``x`` (c, h, w) or (1, c, h, w); ``found`` is its map where it was made already.

    ``baseline`` is what deleted pixels become, x₀ of ``gap``, and the method's own where it has one. The model is
    not changed; randomising is done on a copy. Raises what ``attribute`` raises.
    """
    with looking(model):
        subject = Subject(model, x, target, loss, stopped)
    if len(subject.x) != 1:
        raise ArgumentError("x", tuple(x.shape), "one example")
    wanted = subject.target  # the class that the model says itself stays meant when weights are random
    settings = {"method": method, "layer": layer, "loss": loss, "stopped": stopped, **options}
    if "baseline" in METHODS[method].options:
        settings["baseline"] = baseline
    if found is None:
        found = attribute(model, subject.x, wanted, **settings)
    original = found.reshape(1, -1, *subject.x.shape[2:])
    start = baseline_of(subject.x, baseline)
    with looking(model):
        deletion, insertion = curves(subject, original, start)
        drawn = torch.rand(original.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(original)
        chance = curves(subject, drawn, start)
        rise = float(subject.value - subject.values(start))
    gap = (float(original.sum()) - rise) / max(abs(rise), 1e-12) if METHODS[method].adds_up else None
    settings = {**METHODS[method].quick, **settings}
    randomised = randomise(model, subject.x, wanted, original, **settings)
    return Honesty(deletion, insertion, (chance[0].area, chance[1].area), randomised, gap)


def curves(subject: Subject, found: Tensor, start: Tensor, points: int = _POINTS) -> tuple[Curve, Curve]:
    """Deletion and insertion (Petsiuk, Das, Saenko 2018): pixels in the order of the map, the largest first, become the
    baseline, or come into the blurred picture."""
    order = found.sum(1).flatten().argsort(descending=True)
    pixels = len(order)
    shares = np.linspace(0, 1, points + 1)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(pixels, device=order.device)
    place = rank.reshape(1, 1, *found.shape[2:]) if subject.x.ndim > 2 else rank.reshape(1, -1)
    blurred = blur(subject.x)
    deleted, inserted = [], []
    for share in shares:
        changed = place < round(share * pixels)
        deleted.append(torch.where(changed, start, subject.x))
        inserted.append(torch.where(changed, subject.x, blurred))
    along = tuple(float(share) for share in shares)
    return Curve(along, _scores(subject, torch.cat(deleted))), Curve(along, _scores(subject, torch.cat(inserted)))


def blur(x: Tensor, radius: float = 0.15) -> Tensor:
    """Each channel of x (n, c, h, w) blurred by a Gaussian whose deviation is ``radius`` of the longer side; rows
    become their mean."""
    if x.ndim != 4:
        return x.mean(tuple(range(2 if x.ndim > 2 else 1, x.ndim)), keepdim=True).expand_as(x)
    deviation = max(1.0, radius * max(x.shape[-2:]))
    reach = int(2 * deviation + 0.5)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device) / deviation) ** 2)
    weights = weights / weights.sum()
    for shape, pad in (((1, 1, -1, 1), (0, 0, reach, reach)), ((1, 1, 1, -1), (reach, reach, 0, 0))):
        kernel = weights.reshape(shape).expand(x.shape[1], -1, -1, -1)
        x = F.conv2d(F.pad(x, pad, mode="replicate"), kernel, groups=x.shape[1])
    return x


def _scores(subject: Subject, batch: Tensor) -> tuple[float, ...]:
    if isinstance(subject.target, Place):
        values = subject.values(batch)
        return tuple((values / subject.value.abs().clamp_min(1e-12)).tolist())
    found = [subject.probabilities(part) for part in subject.parts(batch)]
    return tuple(torch.cat(found).tolist())


@torch.no_grad()
def randomise(
    model: nn.Module, x: Tensor, target: Tensor | Place, original: Tensor, seed: int = 0, **settings: Any
) -> tuple[Randomised, ...]:
    """Cascading randomisation (Adebayo et al. 2018): from the last layer to the first, the parameters are drawn anew,
    each tensor normal with its own mean and deviation, and the map is made again."""
    changed = copy.deepcopy(model)
    stream = torch.Generator().manual_seed(seed)
    found = []
    for name, parameters in reversed(_parameters_in_order(changed, x)):
        for parameter in parameters:
            _draw_anew(parameter, stream)
        again = attribute(changed, x, target, **settings)
        found.append(Randomised(name, rank_correlation(original, again.reshape(original.shape))))
    return tuple(found)


def _parameters_in_order(model: nn.Module, x: Tensor) -> list[tuple[str, list[nn.Parameter]]]:
    """Modules that hold parameters themselves, in the order in which they are used, whatever order they are defined in;
    what is used twice counts where it is used last, what is not used not at all."""
    graph = tape.forward(model, x).graph
    order = {node: number for number, node in enumerate(graph.graph.nodes)}
    last: dict[int, int] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            found: Any = graph.get_submodule(str(node.target)).parameters()
            place = order[node]
        elif node.op == "get_attr":
            found = [functools.reduce(getattr, str(node.target).split("."), graph)]
            place = max((order[user] for user in node.users), default=order[node])
        else:
            continue
        last |= {id(each): max(place, last.get(id(each), 0)) for each in found}
    owners = [(name or "model", list(module.parameters(recurse=False))) for name, module in model.named_modules()]
    used = [owner for owner in owners if any(id(each) in last for each in owner[1])]
    return sorted(used, key=lambda owner: max(last.get(id(each), 0) for each in owner[1]))


def _draw_anew(parameter: nn.Parameter, stream: torch.Generator) -> None:
    drawn = torch.randn(parameter.shape, generator=stream, dtype=torch.float64).to(parameter)
    deviation = parameter.std(correction=0) if parameter.numel() > 1 else parameter.abs().squeeze()
    parameter.copy_(parameter.mean() + deviation * drawn)


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's, of the absolute values; 0 where one of the two is the same everywhere."""
    first, second = (_ranks(each.detach().abs().double().flatten().cpu().numpy()) for each in (one, other))
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 0, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: npt.NDArray[np.float64] = (last - (counts + 1) / 2)[inverse]
    return mean
