"""Regions of interest on feature maps: max pooling of each into a fixed number of bins, and averages of samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.base import Deltas, Gradients, Rule, Saved
from convscope.shapes import pair

Boxes = Tensor | Sequence[Tensor]

#: Numbers that a product of sampling matrices and maps may hold at a time: 64 MiB in float32.
_AT_A_TIME = 1 << 24


@dataclasses.dataclass(frozen=True)
class RoIPool(Rule):
    """y_rj = x_i*(r,j),   i*(r,j) = argmax over bin j of region r;   ∂J/∂x_i = Σ_r Σ_j [i = i*(r,j)]·δ_rj

    Xue 2016, eq. (40); Girshick 2015, eq. (4). x (n, c, h, w), rois (k, 5) of (picture, x1, y1, x2, y2) in pixels of
    the picture, which ``spatial_scale`` takes to the map; y (k, c, *output_size). Corners are rounded to whole places,
    halves away from zero, and both belong to the region, which is at least 1×1. Bin o of m runs over places
    ⌊o·size/m⌋ to ⌈(o+1)·size/m⌉ − 1 from the region's first, as far as they are on the map: neighbours may share a
    row, and a bin beyond the map is 0 and has no maximum. Of equal values the first in row order is it. Where
    regions share a maximum their δ add up; the boxes are held fixed.
    """

    kind = "regions"
    needs = ("size", "places", "found")

    output_size: tuple[int, int]
    spatial_scale: float = 1.0

    def forward(self, x: Tensor, *boxes: Tensor) -> tuple[Tensor, Saved]:
        chosen = maxima(x, together(boxes), self.output_size, self.spatial_scale)
        found = chosen >= 0
        places = chosen.clamp(min=0)
        y = x.reshape(-1)[places] * found
        return y, {"size": (x.shape, len(boxes)), "places": places, "found": found}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        size, inputs = saved["size"]
        delta_x = delta.new_zeros(size.numel())
        delta_x.index_add_(0, saved["places"].flatten(), (delta * saved["found"]).flatten())
        return (delta_x.reshape(size), *[None] * inputs), {}


@dataclasses.dataclass(frozen=True)
class RoIAlign(Rule):
    """y_r = A_r·x·B_rᵀ,   δ_x = Σ_r A_rᵀ·δ_r·B_r

        A_r[o, i] = 1/s·Σ_t (1 − |p_ot − i|)₊,   p_ot = top_r + (o + (t + ½)/s)·height_r/m;   B_r likewise across

    He et al. 2017, Mask R-CNN, 3. x (n, c, h, w), rois (k, 5) of (picture, x1, y1, x2, y2), which ``spatial_scale``
    takes to the map; y (k, c, *output_size): each of the m bins is the mean of s × s bilinear samples, s
    ``sampling_ratio`` or, where that is not positive, ⌈height_r/m⌉ down and ⌈width_r/m⌉ across. With ``aligned`` places
    are moved by −½, so that they count between the centres of pixels; without, regions are at least 1×1. A sample more
    than one place beyond the map is 0, one nearer is taken to the edge. The boxes are held fixed.
    """

    kind = "regions"
    needs = ("size", "pictures", "down", "across")

    output_size: tuple[int, int]
    spatial_scale: float = 1.0
    sampling_ratio: int = -1
    aligned: bool = False

    def forward(self, x: Tensor, *boxes: Tensor) -> tuple[Tensor, Saved]:
        pictures, down, across = samplings(x, together(boxes), self)
        size = (x.shape, len(boxes))
        return sampled(x, pictures, down, across), {
            "size": size, "pictures": pictures, "down": down, "across": across,
        }  # fmt: skip

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        size, inputs = saved["size"]
        height, width = size[2:]
        delta_x = delta.new_zeros(size)
        for picture, of in _groups(saved["pictures"], size[1] * delta.shape[2] * width):
            down, across = saved["down"][of], saved["across"][of]
            rows = delta[of].transpose(1, 2).flatten(1, 2) @ across  # (k, m·c, w)
            share = down.reshape(-1, height).T @ rows.reshape(-1, size[1] * width)  # (h, c·w)
            delta_x[picture] += share.reshape(height, size[1], width).transpose(0, 1)
        return (delta_x, *[None] * inputs), {}


def together(boxes: tuple[Tensor, ...]) -> Boxes:
    """A rule's inputs behind the maps: one (k, 5), or one (l, 4) for each picture."""
    return boxes[0] if len(boxes) == 1 and boxes[0].shape[-1] == 5 else boxes


def as_rois(x: Tensor, boxes: Boxes) -> Tensor:
    """Boxes as (k, 5) of (picture, x1, y1, x2, y2) in x's type; ``boxes`` may be that, or one (l, 4) for each picture.

    Raises ArgumentError for other shapes, numbers that are not finite, and pictures that x does not have.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise ArgumentError("input", f"{x.dtype} {tuple(x.shape)}", "floating-point maps (n, channels, height, width)")
    if isinstance(boxes, Tensor):
        if boxes.ndim != 2 or boxes.shape[1] != 5:
            raise ArgumentError("boxes", tuple(boxes.shape), "(k, 5): picture, x1, y1, x2, y2; or a list of (l, 4)")
        rois = boxes.detach().to(x)
    else:
        if len(boxes) > len(x):
            raise ArgumentError("boxes", f"{len(boxes)} lists", f"one of boxes for each of {len(x)} pictures")
        for each in boxes:
            if not isinstance(each, Tensor) or each.ndim != 2 or each.shape[1] != 4:
                got = tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__
                raise ArgumentError("boxes", got, "(l, 4) for each picture: x1, y1, x2, y2")
        rows = [
            torch.cat((x.new_full((len(each), 1), picture), each.detach().to(x)), 1)
            for picture, each in enumerate(boxes)
        ]
        rois = torch.cat(rows) if rows else x.new_zeros(0, 5)
    if not rois.isfinite().all():
        raise ArgumentError("boxes", "numbers that are not finite", "finite corners")
    if len(rois) and not 0 <= float(rois[:, 0].min()) <= float(rois[:, 0].max()) < len(x):
        named = f"picture {float(rois[:, 0].min()):g} to {float(rois[:, 0].max()):g}"
        raise ArgumentError("boxes", named, f"pictures 0 to {len(x) - 1}, as many as the input has")
    return rois


def _half_away(value: Tensor) -> Tensor:
    """To the nearest whole number, halves away from zero."""
    whole = value.trunc()
    return whole + torch.where((value - whole).abs() >= 0.5, value.sign(), 0)


def pool_bins(start: Tensor, end: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """First place of each bin and the one behind its last, (k, bins), of regions from ``start`` to ``end`` (k,)."""
    first = _half_away(start).double()
    extent = (_half_away(end).double() - first + 1).clamp(min=1).to(start)
    each = (extent / torch.full_like(extent, bins)).unsqueeze(1)
    place = torch.arange(bins, dtype=start.dtype, device=start.device)
    low = (place * each).floor().double() + first.unsqueeze(1)
    high = ((place + 1) * each).ceil().double() + first.unsqueeze(1)
    return low.clamp(0, size).long(), high.clamp(0, size).long()


@torch.no_grad()
def bins_of(
    x: Tensor, boxes: Boxes, output_size: tuple[int, int], spatial_scale: float
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Pictures (k,), and top, bottom (k, m), left and right (k, m′) of the bins of each region; see ``pool_bins``."""
    rois = as_rois(x, boxes)
    x1, y1, x2, y2 = (rois[:, 1:] * spatial_scale).unbind(1)
    down = pool_bins(y1, y2, output_size[0], x.shape[2])
    return rois[:, 0].long(), (*down, *pool_bins(x1, x2, output_size[1], x.shape[3]))


@torch.no_grad()
def maxima(x: Tensor, boxes: Boxes, output_size: tuple[int, int], spatial_scale: float) -> Tensor:
    """i*(r, j) as a place in the flattened x, (k, c, *output_size); −1 where a bin is empty.

    A range's maximum is that of four windows, 2^a × 2^b each, which overlap; the maxima of all windows of one size come
    from those of half the size. So 2,000 regions of 7 × 7 bins cost a handful of looks a bin, whatever their size.
    """
    _, c, h, w = x.shape
    picture, (top, bottom, left, right) = bins_of(x, boxes, output_size, spatial_scale)
    chosen = torch.full((len(picture), *output_size, c), -1, dtype=torch.int64, device=x.device)
    tall, wide = bottom - top, right - left
    level_h = torch.where(tall > 0, tall.clamp(min=1).double().log2().floor().long(), -1)
    level_w = torch.where(wide > 0, wide.clamp(min=1).double().log2().floor().long(), -1)
    for a, b, value, place in _windows(x, level_h, level_w):
        k, o, q = torch.nonzero((level_h == a).unsqueeze(2) & (level_w == b).unsqueeze(1), as_tuple=True)
        best: tuple[Tensor, Tensor] | None = None
        for i in (top[k, o], bottom[k, o] - (1 << a)):
            for j in (left[k, q], right[k, q] - (1 << b)):
                looked = value[picture[k], i, j], place[picture[k], i, j]
                best = looked if best is None else _larger(best, looked)
        assert best is not None
        chosen[k, o, q] = best[1].long()
    inside = chosen >= 0
    maps = (picture[:, None] * c + torch.arange(c, device=x.device))[:, None, None] * (h * w)
    return torch.where(inside, chosen + maps, -1).permute(0, 3, 1, 2).contiguous()


def _windows(x: Tensor, level_h: Tensor, level_w: Tensor) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """(a, b, maxima, their places in a map) of all windows 2^a × 2^b, channels last, for the sizes that are asked for;
    only two sizes are held at a time."""
    if not level_h.numel() or not level_w.numel():
        return
    both = level_h.unsqueeze(2) * 64 + level_w.unsqueeze(1)  # (k, bins down, bins across)
    seen = (level_h >= 0).unsqueeze(2) & (level_w >= 0).unsqueeze(1)
    wanted = [divmod(code, 64) for code in sorted(set(both[seen].tolist()))]
    if not wanted:
        return
    h, w = x.shape[2:]
    column = x.permute(0, 2, 3, 1).contiguous(), _places(x, h, w)
    for a in range(max(a for a, _ in wanted) + 1):
        if a:
            column = _joined(column, 1, 1 << (a - 1))
        across = [b for aa, b in wanted if aa == a]
        now = column
        for b in range(max(across, default=-1) + 1):
            if b:
                now = _joined(now, 2, 1 << (b - 1))
            if b in across:
                yield a, b, *now


def _places(x: Tensor, h: int, w: int) -> Tensor:
    place = torch.arange(h * w, dtype=torch.int32, device=x.device).reshape(1, h, w, 1)
    return place.expand(len(x), h, w, x.shape[1])


def _joined(one: tuple[Tensor, Tensor], dim: int, step: int) -> tuple[Tensor, Tensor]:
    """Windows twice as long along ``dim``: of each and the one ``step`` on."""
    value, place = one
    rest = value.shape[dim] - step
    return _larger(
        (value.narrow(dim, 0, rest), place.narrow(dim, 0, rest)),
        (value.narrow(dim, step, rest), place.narrow(dim, step, rest)),
    )


def _larger(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The larger of two, of equals the one that comes first; what is no number is larger than all."""
    (value, place), (another, there) = one, other
    takes = (another > value) | ((another == value) & (there < place)) | (another != another)
    return torch.where(takes, another, value), torch.where(takes, there, place)


@torch.no_grad()
def samplings(x: Tensor, boxes: Boxes, rule: RoIAlign) -> tuple[Tensor, Tensor, Tensor]:
    """(pictures (k,), A (k, m, h), B (k, m′, w)) of ``RoIAlign``."""
    rois = as_rois(x, boxes)
    x1, y1, x2, y2 = (rois[:, 1:] * rule.spatial_scale - (0.5 if rule.aligned else 0.0)).unbind(1)
    tall, wide = y2 - y1, x2 - x1
    if not rule.aligned:
        tall, wide = tall.clamp(min=1), wide.clamp(min=1)
    (m, across), (h, w) = rule.output_size, x.shape[2:]
    return (
        rois[:, 0].long(),
        sampling_matrix(y1, tall, m, rule.sampling_ratio, h),
        sampling_matrix(x1, wide, across, rule.sampling_ratio, w),
    )


def sampling_matrix(start: Tensor, extent: Tensor, bins: int, ratio: int, size: int) -> Tensor:
    """How much of each of ``size`` places each bin takes, (k, bins, size), for regions from ``start`` on, ``extent``
    long (k,)."""
    each = extent / torch.full_like(extent, bins)
    samples = torch.full_like(each, ratio) if ratio > 0 else each.ceil().clamp(min=0)
    matrix = start.new_zeros(len(start), bins, size)
    most = int(samples.max()) if len(start) else 0
    if most == 0:
        return matrix
    begin = start.unsqueeze(1) + torch.arange(bins, dtype=start.dtype, device=start.device) * each.unsqueeze(1)
    divisor, step = samples.clamp(min=1)[:, None, None], each[:, None, None]
    if ratio <= 0 and most > 2 * size + 8:
        # samples are then ½ to 1 apart: of a region far larger than the map only those that can reach it are looked at
        first = ((-2 - begin) / (step / divisor).squeeze(2).clamp(min=0.5)).floor().clamp(min=0).unsqueeze(2)
        most = 2 * size + 8
    else:
        first = begin.new_zeros(1, 1, 1)
    index = first + torch.arange(most, dtype=start.dtype, device=start.device)
    place = begin.unsqueeze(2) + (index + 0.5) * step / divisor  # (k, bins, samples)
    counts = ((place >= -1) & (place <= size) & (index < samples[:, None, None])) / divisor
    place = place.clamp(0, size - 1)
    low = place.floor()
    share = place - low
    matrix.scatter_add_(2, low.long(), (1 - share) * counts)
    matrix.scatter_add_(2, (low + 1).clamp(max=size - 1).long(), share * counts)
    return matrix


def sampled(x: Tensor, pictures: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """A_r·x·B_rᵀ for each region, (k, c, m, m′); plain products, which autograd can go back through."""
    _, c, height, width = x.shape
    m, m_across = down.shape[1], across.shape[1]
    parts, order = [], []
    for picture, of in _groups(pictures, c * m * width):
        map_rows = x[picture].transpose(0, 1).reshape(height, c * width)
        rows = (down[of].reshape(-1, height) @ map_rows).reshape(len(of), m * c, width)
        parts.append((rows @ across[of].transpose(1, 2)).reshape(len(of), m, c, m_across).transpose(1, 2))
        order.append(of)
    if not parts:
        return x.new_zeros(len(pictures), c, m, m_across) + 0 * x.sum()
    if len(parts) == 1 and len(order[0]) == len(pictures):
        return parts[0].contiguous()
    return torch.cat(parts)[torch.cat(order).argsort()]


def _groups(pictures: Tensor, numbers: int) -> Iterator[tuple[int, Tensor]]:
    """(picture, indices of its regions), few enough that ``numbers`` for each fit into memory at a time."""
    most = max(1, _AT_A_TIME // max(1, numbers))
    for picture in sorted(set(pictures.tolist())):
        of = torch.nonzero(pictures == picture).flatten()
        for begin in range(0, len(of), most):
            yield picture, of[begin : begin + most]


def checked(output_size: int | Sequence[int], spatial_scale: float, sampling_ratio: int = -1) -> tuple[int, int]:
    """``output_size`` as (height, width); ArgumentError for what cannot be."""
    if not 0 < spatial_scale < float("inf"):
        raise ArgumentError("spatial_scale", spatial_scale, "a number above 0: places of the map a pixel")
    if not isinstance(sampling_ratio, int):
        raise ArgumentError("sampling_ratio", sampling_ratio, "a whole number of samples; 0 or less: by each region")
    return pair(output_size, "output_size")
