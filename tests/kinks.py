"""Gradients beside float64 where they jump: at the kink of a ReLU, at a tie of two candidates of a maximum.

A unit whose input is within rounding of a kink may be on either side of it, and either side's gradient is right. Such
units are looked for in float64; ``settle`` then finds which sides the other program must have taken and gives the exact
gradients *for these sides*. Nothing is forgiven: with the sides settled, the comparison is as sharp as on a smooth
network, and only decisions that rounding can turn may be turned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

#: In float32 a unit's input is off by the same order of magnitude whoever sums it; Winograd's forms are up to 8 times
#: as far off as a plain sum.
ROUNDING = 16
#: At most this share of all decisions may be open (and 16 more), or the comparison says nothing.
OPEN = 1e-3
_ROUNDS = 6
_SAMPLE = 40_000  # places at which the effects of decisions are compared

_ELEMENTWISE = {
    "abs", "clamp", "clamp_max", "clamp_min", "elu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "relu",
    "relu6", "selu",
}  # fmt: skip
_MAXIMA = {"max_pool2d", "adaptive_max_pool2d"}


class Settled(NamedTuple):
    """Exact gradients, by "input gradient" and the parameters' names.

    ``turned`` of ``open`` decisions (within rounding of a kink; of ``decisions`` in all) were taken the other way.
    """

    gradients: dict[str, Tensor]
    turned: int
    open: int
    decisions: int


def settle(
    model: nn.Module,
    x: Tensor,
    objective: Callable[[Any], Tensor],
    got: Mapping[str, Tensor],
    scales: Mapping[str, float],
    tolerance: float,
) -> Settled:
    """The gradients of ``objective(model(x))`` in float64 whose open decisions bring them nearest to ``got``.

    ``model`` and ``x`` are float32, in the mode to compare in, and stay as they are. ``scales`` say what each
    gradient's differences are measured in; the search ends as soon as all are below ``tolerance``. Raises
    AssertionError where more than the share ``OPEN`` of all decisions are open.
    """
    listened = _Sites()
    with torch.no_grad(), listened:
        copy.deepcopy(model)(x.clone())
    exact = copy.deepcopy(model).double()
    leaf = x.double().requires_grad_()
    sites = _Sites(listened.heard)
    with sites:
        # a clone, since a model may begin by a function in place
        total = objective(exact(leaf.clone()))
    named = {"input gradient": leaf, **{name: p for name, p in exact.named_parameters() if p.requires_grad}}
    named = {name: each for name, each in named.items() if name in got}

    def gradients() -> dict[str, Tensor]:
        found = torch.autograd.grad(total, list(named.values()), retain_graph=True, allow_unused=True)
        return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), found, strict=True)}

    decisions = sum(site.decisions for site in sites.sites)
    choices = [(site, index) for site in sites.sites for index in range(site.open)]
    assert len(choices) <= OPEN * decisions + 16, f"{len(choices)} of {decisions} decisions are within rounding"
    wanted = {name: got[name].double() for name in named}
    # Without statistics of the batch, examples do not meddle with each other: those whose own gradient is right need no
    # turn, and of 100 open decisions of 17 pictures some 6 are left to try.
    wrong = (wanted["input gradient"] - gradients()["input gradient"]).abs().flatten(1).amax(1)
    examples = set((wrong > tolerance / 10 * scales["input gradient"]).nonzero()[:, 0].tolist())
    likely = [choice for choice in choices if choice[0].example(choice[1], len(x)) in (None, *examples)]
    turned = _search(gradients, likely, wanted, scales, tolerance)
    if len(likely) < len(choices):
        turned += _search(gradients, choices, wanted, scales, tolerance)  # at once done where all is right
    return Settled(gradients(), turned, len(choices), decisions)


def _search(
    gradients: Callable[[], dict[str, Tensor]],
    choices: Sequence[tuple[_Site, int]],
    got: Mapping[str, Tensor],
    scales: Mapping[str, float],
    tolerance: float,
) -> int:
    """Turn decisions until ``gradients()`` are within ``tolerance`` of ``got``, or no turn brings them nearer.

    What one decision adds to the gradients is found by turning it alone. Effects of decisions on different paths add
    up; those on one path do not quite, so after each round of turns the effects are found anew.
    """

    def flat(each: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([(each[name] / scales[name]).flatten() for name in got])

    wanted, now = flat(got), flat(gradients())
    turned: set[int] = set()
    for _ in range(_ROUNDS):
        left = wanted - now
        if not choices or float(left.abs().max()) <= tolerance:
            break
        places = left.abs().topk(min(_SAMPLE, len(left))).indices
        effects = []
        for site, index in choices:
            site.turn(index)
            effects.append(flat(gradients())[places] - now[places])
            site.turn(index)
        again = _greedy(torch.stack(effects), left[places])
        if not again:
            break
        for number in again:
            choices[number][0].turn(choices[number][1])
        turned ^= again
        now = flat(gradients())
    return len(turned)


def _greedy(effects: Tensor, left: Tensor) -> set[int]:
    """The effects whose sum is nearest to ``left``, each the one that brings it nearest at its turn."""
    chosen: set[int] = set()
    sizes = effects.square().sum(1)
    for _ in range(len(effects)):
        gains = 2 * effects @ left - sizes  # |left|² − |left − effect|²
        gains[list(chosen)] = 0
        best = int(gains.argmax())
        if float(gains[best]) <= 1e-9 * float(left.square().sum()):
            break
        chosen.add(best)
        left = left - effects[best]
    return chosen


class _Site:
    """One call of a function with kinks, in float64: its value, and its gradient by decisions that can be turned."""

    decisions: int
    open: int
    value: Tensor
    _where: Tensor  # flat places of the open decisions among all

    def example(self, index: int, count: int) -> int | None:
        """Which of ``count`` examples the ``index``-th open decision belongs to; None: it cannot be told."""
        if self.value.shape[0] != count:
            return None
        return int(self._where[index]) // (self.decisions // count)

    def turn(self, index: int) -> None:
        """Take the ``index``-th open decision the other way, or back again."""
        raise AssertionError

    def delta(self, delta: Tensor) -> Tensor:
        """The sensitivity of the input from that of the output."""
        raise AssertionError


class _Elementwise(_Site):
    """y = f(u); near a kink of f, f'(u) may be that of the other side."""

    def __init__(self, function: Callable[[Tensor], Tensor], u: Tensor, rounding: float) -> None:
        self.value = function(u)
        self.slope, below, above = (self._slope(function, u + shift) for shift in (0.0, -rounding, rounding))
        jumps = (below - above).abs() > 1e-3 * (below.abs() + above.abs())
        self._where = jumps.flatten().nonzero()[:, 0]
        other = torch.where((self.slope - below).abs() > (self.slope - above).abs(), below, above)
        self._others = other.flatten()[self._where]
        self.decisions, self.open = u.numel(), len(self._where)

    @staticmethod
    def _slope(function: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = u.clone().requires_grad_()
            (slope,) = torch.autograd.grad(function(leaf).sum(), leaf)
        return slope

    def turn(self, index: int) -> None:
        slopes, where = self.slope.view(-1), self._where[index]
        before = slopes[where].clone()
        slopes[where] = self._others[index]
        self._others[index] = before

    def delta(self, delta: Tensor) -> Tensor:
        return delta * self.slope


class _Maximum(_Site):
    """Maxima over windows of a picture; where the second largest is within rounding, it may be the one."""

    def __init__(self, x: Tensor, taken_from: Tensor, rounding: float) -> None:
        """``taken_from`` are the flat places in a map (positions, taps) of every window's elements, −1 outside."""
        self._shape = x.shape
        flat = x.flatten(-2)
        values = flat[..., taken_from.clamp(min=0)].masked_fill(taken_from < 0, -torch.inf)  # (…, positions, taps)
        self.decisions = values.shape[:-1].numel()
        first = values.argmax(-1, keepdim=True)
        self.value = values.gather(-1, first)[..., 0]
        second = values.scatter(-1, first, -torch.inf).max(-1)
        gap = self.value - second.values
        # In float64 two candidates are equal only where they are by construction, as zeros behind a ReLU are: either
        # program sees them equal, and its convention decides, not rounding.
        self._where = ((gap <= rounding) & (gap > 0)).flatten().nonzero()[:, 0]
        self.chosen = self._place(taken_from, first[..., 0])
        self._others = self._place(taken_from, second.indices).flatten()[self._where]
        self.open = len(self._where)

    @staticmethod
    def _place(taken_from: Tensor, tap: Tensor) -> Tensor:
        return taken_from.expand(*tap.shape, -1).gather(-1, tap[..., None])[..., 0]

    def turn(self, index: int) -> None:
        chosen, where = self.chosen.view(-1), self._where[index]
        before = chosen[where].clone()
        chosen[where] = self._others[index]
        self._others[index] = before

    def delta(self, delta: Tensor) -> Tensor:
        flat = delta.new_zeros((*self._shape[:-2], self._shape[-2] * self._shape[-1]))
        return flat.scatter_add(-1, self.chosen, delta.reshape(self.chosen.shape)).reshape(self._shape)


class _Decided(torch.autograd.Function):
    """The value of a site, and its sensitivity by the decisions as they stand when the backward pass comes by."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, site: _Site, shape: torch.Size) -> Tensor:
        ctx.site = site
        return site.value.reshape(shape)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None, None]:
        return ctx.site.delta(delta), None, None


class _Sites(TorchFunctionMode):
    """Hears what every function with kinks is given; with ``heard`` of a pass in float32, decides in its place."""

    def __init__(self, heard: Sequence[Tensor] | None = None) -> None:
        self.heard: list[Tensor] = []
        self.sites: list[_Site] = []
        self._other = heard

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        plain = name.removesuffix("_")
        if plain not in _ELEMENTWISE | _MAXIMA or not isinstance(args[0], Tensor) or name.startswith("__"):
            return function(*args, **kwargs)
        x, number = args[0], len(self.heard)
        self.heard.append(x.detach().clone())
        if self._other is None:
            return function(*args, **kwargs)
        error = (self._other[number] - x.detach()).abs().max()
        rounding = max(ROUNDING * float(error), 4 * torch.finfo(torch.float32).eps * float(x.detach().abs().max()))
        site, shape = _site(function, plain, x.detach().clone(), args[1:], kwargs, rounding)
        self.sites.append(site)
        in_place = name.endswith("_") or kwargs.get("inplace", False)
        y = _Decided.apply(x.clone() if in_place else x, site, shape)  # type: ignore[no-untyped-call]
        return x.copy_(y) if in_place else y


def _site(
    function: Any, name: str, x: Tensor, more: Sequence[Any], kwargs: dict[str, Any], rounding: float
) -> tuple[_Site, torch.Size]:
    with torch.no_grad():
        shape = function(x.clone(), *more, **kwargs).shape
        if name in _ELEMENTWISE:
            return _Elementwise(lambda u: function(u.clone(), *more, **kwargs), x, rounding), shape
        if name == "max_pool2d":
            sizes = dict(zip(("kernel_size", "stride", "padding", "dilation"), more, strict=False)) | kwargs
            return _Maximum(x, _windows(x, shape, **sizes), rounding), shape
        return _Maximum(x, _adaptive_windows(x, shape), rounding), shape


def _windows(
    x: Tensor, shape: torch.Size, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, **_: Any
) -> Tensor:
    """Flat places (positions, taps) in a map of what every window covers, −1 outside the picture."""
    lines = []
    for axis in (0, 1):
        k, s, p, d = (
            each[axis] if isinstance(each, tuple | list) else each
            for each in (kernel_size, stride or kernel_size, padding, dilation)
        )
        place = torch.arange(shape[axis - 2])[:, None] * s - p + torch.arange(k) * d  # (positions, taps)
        lines.append(place.masked_fill((place < 0) | (place >= x.shape[axis - 2]), -1))
    return _crossed(lines[0], lines[1], x.shape[-1])


def _adaptive_windows(x: Tensor, shape: torch.Size) -> Tensor:
    lines = []
    for axis in (-2, -1):
        size, out = x.shape[axis], shape[axis]
        spans = [range(u * size // out, -(-(u + 1) * size // out)) for u in range(out)]
        longest = max(map(len, spans))
        lines.append(torch.tensor([[*span, *[-1] * (longest - len(span))] for span in spans]))
    return _crossed(lines[0], lines[1], x.shape[-1])


def _crossed(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    both = rows[:, None, :, None] * width + columns[None, :, None, :]
    outside = (rows < 0)[:, None, :, None] | (columns < 0)[None, :, None, :]
    taps = rows.shape[1] * columns.shape[1]
    return both.masked_fill(outside, -1).reshape(-1, taps)
