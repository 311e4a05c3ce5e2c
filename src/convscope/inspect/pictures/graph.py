"""A drawing of a model's graph: one box a layer, what follows it without changing shape inside the same box."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path
from torch import nn

from convscope import layers
from convscope.graph.calls import Shape, Step, Walk
from convscope.inspect.pictures.canvas import FAINT, INK, PAPER, new_figure
from convscope.inspect.pictures.layout import Layout, lay_out

# family → (fill, edge)
FAMILIES = {
    "input": ("#f3f4f6", "#6b7280"),
    "convolution": ("#dbe8f6", "#1f5fa8"),
    "pooling": ("#dcefe3", "#3a8f5c"),
    "linear": ("#f8e3dc", "#c8553d"),
    "join": ("#efe5f5", "#8a5aa8"),
    "other": ("#f6f0da", "#a07c10"),
}
_JOINS = frozenset({"add", "iadd", "cat", "mul", "imul", "sub", "matmul"})
_WIDTH, _LINE, _PAD, _SPACE = 2.15, 0.17, 0.09, 0.34  # inches: box, line of text, inside the box, between ranks
_RANKS = 26  # ranks a column before the drawing is folded


@dataclasses.dataclass
class Box:
    """One box: ``lines`` of text, the first its name; ``shape`` of what leaves it."""

    name: str
    family: str
    lines: list[str]
    shape: Shape | None
    followers: list[str] = dataclasses.field(default_factory=list)

    @property
    def height(self) -> float:
        return 2 * _PAD + _LINE * (len(self.lines) + bool(self.followers))


def graph_figure(walk: Walk, title: str) -> Figure:
    """The graph from top to bottom; long graphs are folded into columns where only one edge goes on."""
    boxes, edges = _boxes(walk)
    placed = lay_out(list(boxes), edges, dict.fromkeys(boxes, _WIDTH), gap=0.22)
    return _draw(boxes, placed, _columns(placed), title)


def _boxes(walk: Walk) -> tuple[dict[str, Box], list[tuple[str, str]]]:
    """Boxes and edges, followers (activations, normalisation, dropout, reshaping) merged into the box before them."""
    users: dict[str, int] = {}
    for step in walk:
        for source in dict.fromkeys(step.input_names):
            users[source] = users.get(source, 0) + 1
    shape = "×".join(map(str, walk.input_shape))
    boxes = {walk.input_name: Box(walk.input_name, "input", ["input", shape], walk.input_shape)}
    home = {walk.input_name: walk.input_name}
    edges: list[tuple[str, str]] = []
    for step in walk:
        sources = [home[source] for source in dict.fromkeys(step.input_names) if source in home]
        if not sources or (step.output_shape is None and step.kind not in ("chunk", "split")):
            continue
        single = len(sources) == 1 and users.get(step.input_names[0]) == 1
        if single and (word := _follower(step)) is not None and boxes[sources[0]].family != "input":
            box = boxes[sources[0]]
            box.followers.append(word)
            box.shape = step.output_shape[1:] if step.output_shape is not None else box.shape
            home[step.name] = box.name
            continue
        boxes[step.name] = _box(step)
        home[step.name] = step.name
        edges += [(source, step.name) for source in dict.fromkeys(sources)]
    return boxes, edges


def _box(step: Step) -> Box:
    module, kind = step.module, step.kind
    shape = step.output_shape[1:] if step.output_shape is not None else None
    family, detail = "other", kind
    if kind in _JOINS:
        words = {"iadd": "add", "cat": "concatenate", "mul": "multiply", "imul": "multiply", "sub": "subtract"}
        return Box(step.name, "join", [words.get(kind, kind)], shape)
    if isinstance(module, nn.Linear | layers.RBF):
        family, detail = "linear", f"{kind} {module.in_features} → {module.out_features}"
    elif hasattr(module, "kernel_size") and hasattr(module, "weight") and not isinstance(module, layers.Subsample2d):
        family, detail = "convolution", _window(kind, module)
    elif hasattr(module, "kernel_size"):
        family, detail = "pooling", _window(kind, module)
    elif "Pool" in kind or "pool" in kind or kind == "mean":
        family = "pooling"
    if kind == "getitem" and isinstance(step.arguments[1], int):
        detail = f"part {step.arguments[1] + 1}"
    elif kind in ("chunk", "split"):
        detail = f"{kind} {step.arguments[1]}" if len(step.arguments) > 1 else kind
    own = [step.name] if module is not None else []
    weights = sum(item.numel() for item in module.parameters()) if module is not None else 0
    return Box(step.name, family, [*own, detail, *([f"{weights:,} parameters"] if weights else [])], shape)


def _window(kind: str, module: Any) -> str:
    """For example "Conv2d 3×3 /2 ×64", stride after the slash, number of maps at the end."""
    size = _short(module.kernel_size, kind)
    text = f"{kind} {size}"
    stride = _short(getattr(module, "stride", 1) or module.kernel_size, kind)
    if stride not in ("1", "1×1", "1×1×1"):
        text += f" /{stride.split('×')[0] if len(set(stride.split('×'))) == 1 else stride}"
    dilation = getattr(module, "dilation", 1)
    if isinstance(dilation, tuple) and any(item != 1 for item in dilation):
        text += f" d{dilation[0]}"
    groups = getattr(module, "groups", 1)
    if groups > 1:
        text += " depthwise" if groups == getattr(module, "in_channels", 0) else f" g{groups}"
    return text


def _short(value: Any, kind: str) -> str:
    if isinstance(value, tuple):
        return "×".join(map(str, value))
    dims = 1 if "1d" in kind else 3 if "3d" in kind else 2
    return "×".join([str(value)] * dims)


def _follower(step: Step) -> str | None:
    module, kind = step.module, step.kind
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "BN"
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return f"dropout {module.p:g}"
    if isinstance(module, nn.LocalResponseNorm):
        return "LRN"
    if isinstance(module, nn.Flatten) or kind in ("flatten", "view", "reshape"):
        return "flatten" if len(step.output_shape or ()) == 2 else None
    if kind in ("relu", "relu_", "sigmoid", "tanh", "relu6", "hardtanh", "softmax"):
        return {"relu": "ReLU", "relu_": "ReLU", "relu6": "ReLU6", "hardtanh": "Hardtanh"}.get(kind, kind.title())
    if isinstance(module, nn.Identity):
        return "identity"
    if module is not None and not list(module.parameters()) and not hasattr(module, "kernel_size"):
        source = step.inputs[0].shape if len(step.inputs) == 1 else None
        return kind if source == step.output_shape else None
    return None


def _columns(placed: Layout) -> list[tuple[int, int]]:
    """(first rank, last rank + 1) of every column; folded at the cuts that make columns of about equal length."""
    wanted = math.ceil(placed.ranks / _RANKS)
    length = placed.ranks / wanted
    bounds = [0]
    for column in range(1, wanted):
        target = round(column * length)
        near = [cut + 1 for cut in placed.cuts if bounds[-1] < cut + 1 < placed.ranks]
        if not near:
            break
        best = min(near, key=lambda rank: abs(rank - target))
        if abs(best - target) < length * 0.6 and best > bounds[-1]:
            bounds.append(best)
    return list(zip(bounds, [*bounds[1:], placed.ranks], strict=True))


def _draw(boxes: dict[str, Box], placed: Layout, columns: Sequence[tuple[int, int]], title: str) -> Figure:
    rank_height = [0.0] * placed.ranks
    for name, (_, rank) in placed.centre.items():
        rank_height[rank] = max(rank_height[rank], boxes[name].height)
    rank_height = [height or _LINE for height in rank_height]
    lanes: list[float] = []  # x of the free lane left of every column
    middle = [0.0] * placed.ranks  # y of a rank's middle, downwards from the top
    shift = [0.0] * placed.ranks  # x to add
    right, tallest = 0.35, 0.0
    for first, last in columns:
        points = [x for x, rank in _points(placed) if first <= rank < last]
        low, high = min(points) - _WIDTH / 2, max(points) + _WIDTH / 2
        y = 0.75
        for rank in range(first, last):
            y += rank_height[rank] / 2
            middle[rank], shift[rank] = y, right - low
            y += rank_height[rank] / 2 + _SPACE
        lanes.append(right - 0.3)
        right += high - low + 0.6
        tallest = max(tallest, y)
    used = [family for family in FAMILIES if any(box.family == family for box in boxes.values())]
    width, height = max(right - 0.25, 0.1 * len(title) + 0.7, 0.98 * len(used) + 0.5), tallest + 0.45
    if len(columns) == 1:
        shift = [item + (width - right + 0.25) / 2 for item in shift]
    drawn = new_figure(width, height, layout=None)
    axes = drawn.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.text(0.35, 0.3, title, fontsize=13, weight="bold", color=INK, va="center")
    drawn_links: set[tuple[str, str]] = set()
    for (source, target), route in placed.routes.items():
        path = [(x + shift[rank], middle[rank], rank) for x, rank in route]
        _draw_edge(axes, boxes, source, target, path, rank_height, columns, lanes, drawn_links)
    for name, (x, rank) in placed.centre.items():
        _draw_box(axes, boxes[name], x + shift[rank], middle[rank])
    for index, family in enumerate(used):
        x = 0.35 + 0.98 * index
        fill, edge = FAMILIES[family]
        axes.add_artist(
            FancyBboxPatch((x, height - 0.33), 0.13, 0.13, "round,pad=0,rounding_size=0.03", fc=fill, ec=edge)
        )
        axes.text(x + 0.2, height - 0.265, family, fontsize=7.5, color=FAINT, va="center")
    return drawn


def _points(placed: Layout) -> list[tuple[float, int]]:
    return [*placed.centre.values(), *(point for route in placed.routes.values() for point in route)]


def _draw_box(axes: Any, box: Box, x: float, y: float) -> None:
    fill, edge = FAMILIES[box.family]
    height = box.height
    shape = "round,pad=0,rounding_size=0.07"
    axes.add_artist(
        FancyBboxPatch((x - _WIDTH / 2, y - height / 2), _WIDTH, height, shape, fc=fill, ec=edge, lw=1.1, zorder=3)
    )
    top = y - height / 2 + _PAD + _LINE / 2
    lines = [*box.lines, *([" · ".join(box.followers)] if box.followers else [])]
    for index, line in enumerate(lines):
        weight = "bold" if index == 0 else "normal"
        small = 7.6 if index == 0 else 7
        room = 27 if index == 0 else 34
        text = line if len(line) <= room else "…" + line[1 - room :]  # the end of a path tells layers apart
        ink = INK if index < len(box.lines) else FAINT
        axes.text(
            x, top + index * _LINE, text, ha="center", va="center", fontsize=small, weight=weight, color=ink, zorder=4
        )
    if box.shape is not None and box.family != "input":
        label = "×".join(map(str, box.shape))
        paper = {"fc": PAPER, "ec": "none", "pad": 0.6}
        axes.text(x + 0.06, y + height / 2 + 0.09, label, fontsize=6.3, color=FAINT, va="center", zorder=4, bbox=paper)


def _draw_edge(
    axes: Any,
    boxes: dict[str, Box],
    source: str,
    target: str,
    route: Sequence[tuple[float, float, int]],
    rank_height: Sequence[float],
    columns: Sequence[tuple[int, int]],
    lanes: Sequence[float],
    drawn: set[tuple[str, str]],
) -> None:
    """A smooth line from the lower edge of one box to the upper edge of the other, straight past the ranks between.

    ``drawn`` keeps the parts that are there already: edges of one source share their lane.
    """
    column = {rank: index for index, (first, last) in enumerate(columns) for rank in range(first, last)}
    style = {"fc": "none", "ec": "#7a808c", "lw": 1.0, "zorder": 2, "capstyle": "round"}
    points: list[tuple[float, float]] = [(route[0][0], route[0][1] + boxes[source].height / 2)]
    vertices, codes = [points[0]], [Path.MOVETO]
    for (_, y0, r0), (x1, y1, r1) in itertools.pairwise(route):
        leave = vertices[-1]
        is_last = (x1, y1, r1) == route[-1]
        half = boxes[target].height / 2 if is_last else rank_height[r1] / 2
        arrive = (x1, y1 - half)
        link = (f"{source} {r0}", target if is_last else f"{source} {r1}")
        if link in drawn:
            vertices.append((x1, y1 + rank_height[r1] / 2))
            codes.append(Path.MOVETO)
            continue
        drawn.add(link)
        if column[r0] != column[r1]:  # round the fold: down, between the columns, up and in from above
            lane = lanes[column[r1]]
            low, high = y0 + rank_height[r0] / 2 + 0.2, y1 - rank_height[r1] / 2 - 0.2
            bends = [leave, (leave[0], low), (lane, low), (lane, high), (x1, high), arrive]
            vertices += bends[1:]
            codes += [Path.LINETO] * 5
        else:
            bend = (arrive[1] - leave[1]) / 2
            vertices += [(leave[0], leave[1] + bend), (arrive[0], arrive[1] - bend), arrive]
            codes += [Path.CURVE4] * 3
        if not is_last:
            vertices.append((x1, y1 + rank_height[r1] / 2))
            codes.append(Path.LINETO)
    axes.add_artist(PathPatch(Path(vertices, codes), **style))
    x, y = vertices[-1]
    head = Path([(x - 0.04, y - 0.08), (x, y), (x + 0.04, y - 0.08)], [Path.MOVETO, Path.LINETO, Path.LINETO])
    axes.add_artist(PathPatch(head, **style))
