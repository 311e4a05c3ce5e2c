"""How a layer's maps move when the picture moves, turns or grows.

A layer is equivariant to a change T of the picture when its maps change alike: y(Tx) = T′y(x), T′ the same change in
the layer's own cells (Goodfellow, Bengio, Courville 2016, section 9.2). Where unit i's field is centred at pixel
a + j·i, the point p of the picture lies at the cell i = (p − a)/j. Convolutions keep whole shifts exactly; a stride or
pooling of s keeps those by multiples of s, and between them the map has to be read between its cells, which loses what
is finer (Azulay, Weiss 2019; Zhang 2019). Invariance is another thing: y(Tx) = y(x), which pooling buys for small
shifts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.columns import aligned
from convscope.errors import ArgumentError, UnknownNameError
from convscope.graph.training_modes import looking
from convscope.inspect.receptive_field import ReceptiveField, ReceptiveFields
from convscope.inspect.trace import batched
from convscope.rules import tape

Kind = Literal["shift", "turn", "scale"]
FEW = 4  # places; the correlation of fewer says nothing
SHIFTS, TURNS, SCALES = (1, 2, 3, 4), (5, 15, 45, 90), (1.1, 1.25)


@dataclasses.dataclass(frozen=True)
class Change:
    """What is done to the picture: a ``shift`` by (down, right) pixels, a ``turn`` about its middle by degrees
    counter-clockwise, or a ``scale`` about its middle by a factor."""

    kind: Kind
    amount: float | tuple[int, int]

    def __str__(self) -> str:
        if isinstance(self.amount, tuple):
            return f"shift {self.amount[0]},{self.amount[1]}"
        return f"turn {self.amount:g}°" if self.kind == "turn" else f"scale ×{self.amount:g}"

    def source(self, points: Tensor, middle: Tensor) -> Tensor:
        """Where in the picture (row, column) came from what is at ``points`` (…, 2) after the change."""
        if isinstance(self.amount, tuple):
            return points - torch.tensor(self.amount, dtype=points.dtype)
        away = points - middle
        if self.kind == "scale":
            return away / self.amount + middle
        angle = math.radians(self.amount)
        cosine, sine = math.cos(angle), math.sin(angle)
        row, column = away.unbind(-1)  # rows run downwards: counter-clockwise takes (0, 1) to (−1, 0)
        return torch.stack([cosine * row + sine * column, cosine * column - sine * row], -1) + middle


@dataclasses.dataclass(frozen=True)
class Follows:
    """One layer under one change. ``follows``: the correlation of the changed picture's maps with the maps changed
    alike, None for layers whose units do not lie over the picture, or of which fewer than four places count.
    ``stays``: with the unchanged picture's maps as they are. ``cells`` is how many places of the map count, ``whole``
    whether all that they see was in the picture before and after; elsewhere borders and padding speak as well."""

    layer: str
    change: Change
    follows: float | None
    stays: float
    cells: int
    whole: bool


@dataclasses.dataclass(frozen=True)
class Equivariance:
    """Iterate, ``len``; ``of(layer)`` and ``of(change)`` pick; ``str`` is a table. ``jumps`` by layer: pixels between
    neighbouring units."""

    rows: tuple[Follows, ...]
    jumps: dict[str, tuple[float, ...] | None]

    def __iter__(self) -> Iterator[Follows]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def layers(self) -> list[str]:
        return list(self.jumps)

    @property
    def changes(self) -> list[Change]:
        return list(dict.fromkeys(row.change for row in self.rows))

    def of(self, what: str | Change) -> list[Follows]:
        return [row for row in self.rows if what in (row.layer, row.change)]

    def __str__(self) -> str:
        head = ("layer", "change", "follows", "stays", "cells", "")
        lines = [
            (row.layer, str(row.change), "–" if row.follows is None else f"{row.follows:+.4f}", f"{row.stays:+.4f}",
             str(row.cells), "" if row.whole or row.follows is None else "borders count as well")
            for row in self.rows
        ]  # fmt: skip
        return aligned([head, *lines], left=2)


@torch.no_grad()
def equivariance(
    model: nn.Module,
    x: Tensor,
    layer: str | Sequence[str] | None = None,
    *,
    shifts: Sequence[int | tuple[int, int]] = SHIFTS,
    turns: Sequence[float] = TURNS,
    scales: Sequence[float] = SCALES,
) -> Equivariance:
    """Change the pictures ``x`` (n, c, h, w), or one (c, h, w), in every way asked for, and compare each layer's maps
    with its own maps changed alike: a correlation over all maps and places, the mean of each map taken off before, and
    the mean over the pictures.

    ``layer`` keeps it to one, or several; by default all that the network calls. ``shifts`` are pixels down and right
    alike, or (down, right); ``turns`` degrees, ``scales`` factors, both about the middle, read between the pixels
    (bilinear). What comes in from outside repeats the border. Places count whose whole field was in the picture before
    and after the change; in layers that see too much for that, those whose field's centre was. Raises ArgumentError for
    an input without height and width or a change that is none, UnknownNameError for a layer.
    """
    x = batched(model, x)
    if x.ndim != 4:
        raise ArgumentError("x", tuple(x.shape), "pictures (n, channels, height, width)")
    changes = _changes(shifts, turns, scales, tuple(x.shape[2:]))
    with looking(model):
        before = _maps(model, x)
        names = _names(layer, list(before))
        fields = ReceptiveFields(model, tuple(x.shape[1:]))
        known = set(fields.layers())
        found = {name: fields[name] if name in known else None for name in names}
        rows: dict[str, list[Follows]] = {name: [] for name in names}
        for change in changes:
            after = _maps(model, moved(x, change))
            for name in names:
                rows[name].append(_compared(name, change, found[name], before[name], after[name]))
    jumps = {name: field.jump if (field := found[name]) is not None else None for name in names}
    return Equivariance(tuple(row for name in names for row in rows[name]), jumps)


def moved(x: Tensor, change: Change) -> Tensor:
    """The pictures x (n, c, h, w) changed; what comes in from outside repeats the border."""
    points = _grid(x.shape[2], x.shape[3])
    return _read(x, _settled(change.source(points, _middle(x.shape[2], x.shape[3]))))


def moved_maps(y: Tensor, change: Change, field: ReceptiveField) -> tuple[Tensor, Tensor, bool]:
    """A layer's maps y (n, k, h, w) changed as the picture was; which places count, (h, w); and whether these see
    nothing from outside the picture."""
    assert field.jump is not None
    assert field.start is not None
    height, width = field.input_shape[-2:]
    jump, start = (torch.tensor(each, dtype=torch.float64) for each in (field.jump, field.start))
    cells = _grid(y.shape[2], y.shape[3])
    centres = cells * jump + start  # in pixels
    middle = _middle(height, width)
    source = _settled((change.source(centres, middle) - start) / jump)
    limits = torch.tensor([height, width], dtype=torch.float64)
    half = (torch.tensor(field.size, dtype=torch.float64) - 1) / 2
    corners = [
        centres + half * torch.tensor(sign, dtype=torch.float64) for sign in ((-1, -1), (-1, 1), (1, -1), (1, 1))
    ]
    whole = torch.stack([_within(each, limits) & _within(change.source(each, middle), limits) for each in corners])
    # What is read between cells rests on their neighbours, whose fields must be whole as well.
    low, high = source.floor(), source.ceil()
    for each in (low, high):
        at = each * jump + start
        whole = torch.cat([whole, (_within(at - half, limits) & _within(at + half, limits))[None]])
    counts = whole.all(0)
    if int(counts.sum()) >= FEW:
        return _read(y, source), counts, True
    sizes = torch.tensor(y.shape[2:], dtype=torch.float64)
    return _read(y, source), _within(change.source(centres, middle), limits) & _within(source, sizes), False


def correlation(one: Tensor, other: Tensor) -> float:
    """Of each example's numbers (n, k, …), the mean of each map taken off; 1 where both do not vary at all, 0 where one
    does not; the mean over the examples."""
    raw = [each.detach().double().flatten(2) for each in (one, other)]
    first, second = ((each - each.mean(2, keepdim=True)).flatten(1) for each in raw)
    sizes = first.norm(dim=1), second.norm(dim=1)
    # What the mean leaves of equal numbers is rounding: 1e-7 of them in float32.
    flat = [size <= 1e-6 * each.flatten(1).norm(dim=1) for size, each in zip(sizes, raw, strict=True)]
    found = (first * second).sum(1) / (sizes[0] * sizes[1]).clamp_min(1e-300)
    found = torch.where(flat[0] & flat[1], torch.ones_like(found), torch.where(flat[0] | flat[1], 0 * found, found))
    return float(found.mean())


def _compared(name: str, change: Change, field: ReceptiveField | None, before: Tensor, after: Tensor) -> Follows:
    flat = [each.flatten(1)[:, None] for each in (before, after)]  # all numbers of an example together
    over_picture = field is not None and field.jump is not None and before.ndim == 4
    if not over_picture or field is None:
        return Follows(name, change, None, correlation(*flat), 0, False)
    alike, counts, whole = moved_maps(before, change, field)
    cells = int(counts.sum())
    if cells < FEW:
        return Follows(name, change, None, correlation(*flat), cells, False)
    follows = correlation(alike[..., counts], after[..., counts].to(alike))
    return Follows(name, change, follows, correlation(before[..., counts], after[..., counts]), cells, whole)


def _maps(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    steps = tape.forward(model, x).steps
    return {
        step.name: step.output.clone()
        for step in steps
        if isinstance(step.output, Tensor) and step.output.is_floating_point() and len(step.output) == len(x)
    }


def _names(layer: str | Sequence[str] | None, known: list[str]) -> list[str]:
    wanted = known if layer is None else [layer] if isinstance(layer, str) else list(layer)
    for name in wanted:
        if name not in known:
            raise UnknownNameError("layer", name, known)
    return wanted


def _changes(
    shifts: Sequence[int | tuple[int, int]], turns: Sequence[float], scales: Sequence[float], size: tuple[int, ...]
) -> list[Change]:
    found: list[Change] = []
    for shift in shifts:
        pair = (shift, shift) if isinstance(shift, int) else tuple(shift)
        fits = len(pair) == 2 and all(isinstance(n, int) and abs(n) < side for n, side in zip(pair, size, strict=True))
        if not fits or pair == (0, 0):
            raise ArgumentError("shifts", shift, f"pixels other than 0, less than the picture's {size[0]}×{size[1]}")
        found.append(Change("shift", (pair[0], pair[1])))
    for turn in turns:
        if not math.isfinite(turn) or turn % 360 == 0:
            raise ArgumentError("turns", turn, "degrees other than 0")
        found.append(Change("turn", float(turn)))
    for scale in scales:
        if not 0.1 <= scale <= 10 or scale == 1:
            raise ArgumentError("scales", scale, "factors from 0.1 to 10 other than 1")
        found.append(Change("scale", float(scale)))
    if not found:
        raise ArgumentError("shifts", [], "at least one shift, turn or scale")
    return found


def _grid(height: int, width: int) -> Tensor:
    """(h, w, 2): row and column of every cell."""
    axes = torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def _middle(height: int, width: int) -> Tensor:
    return torch.tensor([(height - 1) / 2, (width - 1) / 2], dtype=torch.float64)


def _settled(points: Tensor) -> Tensor:
    """Places that miss a cell by rounding (a quarter turn by 1e-15) are that cell's, and rest on no neighbour."""
    near = points.round()
    return torch.where((points - near).abs() < 1e-9, near, points)


def _within(points: Tensor, sizes: Tensor) -> Tensor:
    """Whether (row, column) lie on the cells 0 … size − 1; 1e-6 for the rounding of a quarter turn."""
    return ((points >= -1e-6) & (points <= sizes - 1 + 1e-6)).all(-1)


def _read(y: Tensor, points: Tensor) -> Tensor:
    """y (n, k, h, w) at points (h′, w′, 2) in cells, between them bilinear, beyond them the border's value; float64
    within, so that whole cells come out as they are but for rounding."""
    sizes = torch.tensor(y.shape[2:], dtype=torch.float64)
    grid = ((2 * points + 1) / sizes - 1).flip(-1)[None].expand(len(y), -1, -1, -1)
    found = F.grid_sample(y.double().cpu(), grid, padding_mode="border", align_corners=False)
    return found.to(y)
