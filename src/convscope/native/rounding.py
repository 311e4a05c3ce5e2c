"""Whether two programs answer the same but for rounding, with what rounding can do measured on the program itself.

A bound that is right for one network is loose or too tight for another: a deep one makes much of any rounding, a
gradient that cancels out is nothing but rounding, and a unit within rounding of a kink (a rectifier's 0, a tie of a
maximum) may be on either side of it. What is not plainly the same is therefore compared with what torch itself answers
when every result on the way, forward and back, is off by as much as a sum in float32 may be: kinks turn there as they
may turn in the other program, and where nothing turns the bound is a few times the rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from convscope.graph import structure

Answers = Mapping[str, Tensor]

_SAME = 1e-5  # parts of a tensor's length: sums of a few thousand products differ by some 1e-6 with their order
# Of the root of a result's mean square. Winograd's forms are up to 8 times as far off as a plain sum.
_ROUNDING = 16 * torch.finfo(torch.float32).eps
_OF_TERMS = 2 * torch.finfo(torch.float32).eps  # of each parameter, which is off alike wherever it is used
_TIMES = 4.0  # of the largest effect met in so many runs
_RUNS = 12  # as long as they leave a doubt: a turn that one run in four shows is missed by 12 in 30
#: These choose among their inputs, move or copy them, and round nothing.
_EXACT = frozenset((
    "__get__", "abs", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "amax", "amin",
    "bernoulli", "cat", "chunk", "clamp", "clamp_max", "clamp_min", "clone", "concat", "concatenate", "contiguous",
    "copy_", "detach", "dropout", "embedding", "flatten", "flip", "float", "gather", "grad", "hstack",
    "index_select", "leaky_relu", "masked_fill", "max", "max_pool1d", "max_pool2d", "max_pool3d", "maximum", "min",
    "minimum", "neg", "ones_like", "pad", "pixel_shuffle", "pixel_unshuffle", "rand_like", "randn_like", "relu",
    "relu6", "repeat", "reshape", "roll", "sign", "sort", "stack", "take", "threshold", "tile", "to", "topk",
    "type", "vstack", "where", "zeros_like",
))  # fmt: skip


def differing(own: Answers, by_torch: Callable[[], Answers], right: Answers | None = None) -> list[str]:
    """The names under which ``own`` is not what ``by_torch()`` answers but for rounding.

    ``by_torch`` is called once where everything is plainly the same, else a few times, and must answer alike each time.
    ``right``: what it has answered already.
    """
    right = by_torch() if right is None else right
    if own.keys() != right.keys() or any(own[name].shape != right[name].shape for name in right):
        return [name for name in right if name not in own or own[name].shape != right[name].shape] or [*own][:1]
    gaps = {name: _gap(own[name], right[name]) for name in right}
    left = [name for name, (whole, _) in gaps.items() if not whole <= _SAME * _length(right[name])]
    reach = dict.fromkeys(left, (0.0, 0.0))
    for number in range(_RUNS):  # what one run shows, more runs cannot unsay
        if not left:
            break
        with Rounding(number):
            rough = by_torch()
        for name in left:
            found = _gap(rough[name], right[name])
            reach[name] = max(reach[name][0], found[0]), max(reach[name][1], found[1])
        left = [name for name in left if not all(g <= _TIMES * r for g, r in zip(gaps[name], reach[name], strict=True))]
    return left


def _gap(one: Tensor, other: Tensor) -> tuple[float, float]:
    """(length of the difference, its largest number); what is not finite differs by nothing from its like."""
    if one.dtype == torch.bool or other.dtype == torch.bool or not one.numel():
        return (float((one != other).sum()),) * 2
    same = (one == other) | ((one != one) & (other != other))
    difference = torch.where(same, 0, one - other).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)
    return float(torch.linalg.vector_norm(difference.double())), float(difference.abs().max())


def _length(tensor: Tensor) -> float:
    if not tensor.is_floating_point():
        return 0.0
    return float(torch.linalg.vector_norm(tensor[torch.isfinite(tensor)].double()))


class Rounding(TorchFunctionMode):
    """While entered, every result of a function of torch, and every sensitivity on its way back, is off by rounding."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = torch.Generator().manual_seed(seed + 1)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in _EXACT or (name.endswith("_") and not name.startswith("__")) or kwargs.get("out") is not None:
            return function(*args, **kwargs)
        given = structure.tensors((args, kwargs))
        if any(isinstance(each, nn.Parameter) for each in given):
            # sums that cancel out are off by rounding of their terms
            args, kwargs = structure.transform((args, kwargs), self._rough_parameter)
        known = {id(tensor) for tensor in structure.tensors((args, kwargs))}
        result = function(*args, **kwargs)
        return structure.transform(result, lambda leaf: self._rough(leaf, known)) if given else result

    def _rough_parameter(self, leaf: Any) -> Any:
        """A parameter each of whose numbers is off by rounding of its own."""
        if not isinstance(leaf, nn.Parameter) or not leaf.is_floating_point():
            return leaf
        noise = torch.empty(leaf.shape, dtype=leaf.dtype).uniform_(-_OF_TERMS, _OF_TERMS, generator=self._chance)
        return leaf + leaf.detach() * noise

    def _rough(self, leaf: Any, known: set[int]) -> Any:
        """``leaf`` with rounding, unless it is one of the arguments or lies in another tensor's memory."""
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or id(leaf) in known or leaf._is_view():
            return leaf
        return _Rough.apply(leaf, self._chance)  # type: ignore[no-untyped-call]


class _Rough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, chance: torch.Generator) -> Tensor:
        ctx.chance = chance
        return _off(y, chance)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None]:
        return _off(delta, ctx.chance), None


def _off(tensor: Tensor, chance: torch.Generator) -> Tensor:
    """A tensor whose numbers, but for zeros, are off by rounding."""
    if not tensor.numel():
        return tensor.clone()
    filled = tensor != 0
    size = torch.linalg.vector_norm(torch.where(torch.isfinite(tensor), tensor, 0)) / filled.sum().clamp(min=1).sqrt()
    noise = torch.empty(tensor.shape, dtype=tensor.dtype).uniform_(-1, 1, generator=chance)
    return torch.where(filled, tensor + noise * (_ROUNDING * size), tensor)
