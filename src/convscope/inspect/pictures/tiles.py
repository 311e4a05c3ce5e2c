"""From one to a few thousand small maps on one sheet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from convscope.inspect.pictures.canvas import FAINT, Kind, Numbers, Pixels, Sheet, colourise, enlarge, symmetric_limit

_WIDTH, _HEIGHT = 960, 1280  # pixels of an ordinary sheet's maps
_LARGEST = 2400  # pixels a sheet's maps may take either way before only the strongest maps are shown
_LINE = "#c9ced6"
_MARGIN, _HEAD, _FOOT, _ROW_LABEL = 16, 58, 48, 34


@dataclasses.dataclass(frozen=True)
class Grid:
    """``columns`` × ``rows`` tiles, of ``height`` × ``width`` numbers each, enlarged ``zoom`` times, ``gap`` apart."""

    columns: int
    rows: int
    height: int
    width: int
    zoom: int
    gap: int

    @property
    def pixel_width(self) -> int:
        return self.columns * (self.width * self.zoom + self.gap) + self.gap

    @property
    def pixel_height(self) -> int:
        return self.rows * (self.height * self.zoom + self.gap) + self.gap

    def corner(self, index: int) -> tuple[int, int]:
        """(left, top) of a tile within the grid."""
        row, column = divmod(index, self.columns)
        return (
            self.gap + column * (self.width * self.zoom + self.gap),
            self.gap + row * (self.height * self.zoom + self.gap),
        )


def plan(count: int, height: int, width: int, columns: int | None = None) -> Grid:
    """Columns and a whole zoom factor that make a sheet about as wide as high and about 960 pixels wide.

    Small maps are enlarged (many to at most 96 pixels, a single one to 480), large ones are never reduced.
    """
    if columns is None:
        wanted = max(1.0, min(count, math.sqrt(count * height / width * 1.5)))
        near = [item for item in range(1, count + 1) if 0.7 * wanted <= item <= 1.5 * wanted]
        whole = [item for item in near if count % item == 0]  # no ragged last row where that can be had
        columns = min(whole or near or [1], key=lambda item: abs(item - wanted))
    rows = math.ceil(count / columns)
    room = min((_WIDTH / columns - 2) / width, (_HEIGHT / rows - 2) / height)
    largest = 480 if count == 1 else 160 if count <= 16 else 96
    zoom = max(1, min(math.floor(room), largest // max(height, width)))
    smallest = min(height, width) * zoom
    gap = 1 if smallest < 24 else 4 if smallest < 64 else 8
    return Grid(columns, rows, height, width, zoom, gap)


def fitting(count: int, height: int, width: int) -> int:
    """How many maps of that size fit on one sheet."""
    across, down = max(1, _LARGEST // (width + 2)), max(1, _LARGEST // (height + 2))
    return min(count, across * down)


def strongest(tiles: Numbers, count: int) -> list[int]:
    """The ``count`` tiles with the largest mean |number|, in their own order."""
    if count >= len(tiles):
        return list(range(len(tiles)))
    strength = np.nan_to_num(np.abs(tiles)).reshape(len(tiles), -1).mean(axis=1)
    chosen = np.argsort(-strength, kind="stable")[:count]
    return [int(item) for item in np.sort(chosen)]


def assemble(tiles: Pixels, grid: Grid) -> Pixels:
    """(n, h, w, 3) tiles → one picture, a thin line around each."""
    line = [int(_LINE[i : i + 2], 16) for i in (1, 3, 5)]
    picture = np.full((grid.pixel_height, grid.pixel_width, 3), 255, np.uint8)
    for index, tile in enumerate(enlarge(tiles, grid.zoom)):
        left, top = grid.corner(index)
        height, width = tile.shape[:2]
        picture[top - 1 : top + height + 1, left - 1 : left + width + 1] = line
        picture[top : top + height, left : left + width] = tile
    return picture


def sheet_of_tiles(
    tiles: Pixels,
    title: str,
    subtitle: str,
    legend: tuple[Kind, float, str] | None,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    row_title: str = "",
    column_title: str = "",
) -> Figure:
    """Coloured tiles (n, h, w, 3) with title, each row's first number (or ``labels`` by row), and legend."""
    count, height, width = tiles.shape[:3]
    grid = plan(count, height, width, columns)
    left, top = _MARGIN + _ROW_LABEL, _HEAD + (16 if column_title else 0)
    legend_width = left + 170 + 6 * len(legend[2]) + _MARGIN if legend is not None else 0
    text_width = int(max(10.5 * len(title), 6.7 * len(subtitle))) + 2 * _MARGIN
    sheet = Sheet(max(left + grid.pixel_width + _MARGIN, text_width, legend_width), top + grid.pixel_height + _FOOT)
    sheet.text(_MARGIN, 12, title, 12, weight="bold")
    sheet.text(_MARGIN, 34, subtitle, 8.5, FAINT)
    if column_title:
        sheet.text(left, top - 15, column_title, 8, FAINT)
    sheet.image(left, top, assemble(tiles, grid))
    spacing = grid.height * grid.zoom + grid.gap
    every = max(1, math.ceil(11 / spacing))
    for row in range(0, grid.rows, every):
        index = row * grid.columns
        label = labels[row] if labels is not None else str(index)
        middle = top + grid.corner(index)[1] + grid.height * grid.zoom / 2
        sheet.text(left - 5, middle, label, 7.5, FAINT, ha="right", va="center")
    if row_title:
        sheet.text(3, top + grid.pixel_height / 2, row_title, 8, FAINT, rotation=90, va="center")
    if legend is not None:
        sheet.colour_bar(left, top + grid.pixel_height + 14, *legend)
    return sheet.figure()


def maps_sheet(values: Numbers, title: str, subtitle: str, kind: Kind, note: str = "") -> Figure:
    """Maps (n, h, w) on one sheet; of more than fit, the strongest."""
    shown = strongest(values, fitting(*values.shape))
    limit = symmetric_limit(values)
    labels = None
    if len(shown) < len(values):
        subtitle += f" · the {len(shown)} strongest of {len(values)} maps"
        columns = plan(len(shown), *values.shape[1:]).columns
        labels = [str(index) for index in shown[::columns]]
    tiles = colourise(values[shown], kind, limit)
    return sheet_of_tiles(tiles, title, subtitle, (kind, limit, note or kind), labels=labels)
