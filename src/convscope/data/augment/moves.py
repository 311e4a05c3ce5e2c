"""What a geometric operation did to a batch of pictures, to be done to their boxes and maps as well.

Boxes are float32 (k, 4), x₁, y₁, x₂, y₂ in pixels from the left and upper edge; maps int64 (n, h, w).
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy
import torch
from torch import Tensor
from torch.nn import functional


class Move(Protocol):
    """One operation, as drawn for each picture of a batch."""

    def maps(self, maps: Tensor, ignored: int) -> Tensor:
        """The maps moved as the pictures were, each pixel taking the nearest one's class; ``ignored`` from outside."""
        ...

    def boxes(self, boxes: Tensor, owners: Tensor, size: tuple[int, int]) -> Tensor:
        """The boxes around what was in ``boxes``, not yet cut at the edges of pictures of ``size`` (height, width);
        ``owners``, int64 (k,), says which picture each is in. What is nowhere in the result has no area."""
        ...


@dataclasses.dataclass(frozen=True)
class Flipped:
    """Pictures mirrored left to right where ``drawn``, bool (n,)."""

    drawn: Tensor

    def maps(self, maps: Tensor, ignored: int) -> Tensor:
        return torch.where(self.drawn.to(maps.device).reshape(-1, 1, 1), maps.flip(2), maps)

    def boxes(self, boxes: Tensor, owners: Tensor, size: tuple[int, int]) -> Tensor:
        x1, y1, x2, y2 = boxes.unbind(1)
        mirrored = torch.stack([size[1] - x2, y1, size[1] - x1, y2], 1)
        return torch.where(self.drawn.to(boxes.device)[owners].unsqueeze(1), mirrored, boxes)


@dataclasses.dataclass(frozen=True)
class Shifted:
    """Pictures moved up and left by whole pixels, ``shifts`` int64 (n, 2)."""

    shifts: Tensor

    def maps(self, maps: Tensor, ignored: int) -> Tensor:
        _, height, width = maps.shape
        result = torch.full_like(maps, ignored)
        for place, (up, left) in enumerate(self.shifts.tolist()):
            rows, columns = slice(max(up, 0), height + min(up, 0)), slice(max(left, 0), width + min(left, 0))
            to_rows, to_columns = slice(max(-up, 0), height - max(up, 0)), slice(max(-left, 0), width - max(left, 0))
            if abs(up) < height and abs(left) < width:
                result[place, to_rows, to_columns] = maps[place, rows, columns]
        return result

    def boxes(self, boxes: Tensor, owners: Tensor, size: tuple[int, int]) -> Tensor:
        return boxes - self.shifts.flip(1).repeat(1, 2).to(boxes)[owners]


@dataclasses.dataclass(frozen=True)
class Warped:
    """Pictures sampled anew: the pixel at x of the result is taken from ``matrices``·x + d(x), both in pixels from the
    centre. ``grid`` (n, h, w, 2) are these places in ``grid_sample``'s units; ``bent`` says whether d is not 0."""

    matrices: numpy.ndarray  # (n, 3, 3)
    grid: Tensor
    bent: bool

    def maps(self, maps: Tensor, ignored: int) -> Tensor:
        # classes up to 255 are exact in float32; what comes from outside is 0, so that 1 is added meanwhile
        raised = (maps + 1).unsqueeze(1).to(torch.float32)
        sampled = functional.grid_sample(raised, self.grid, mode="nearest", align_corners=False)
        classes = sampled[:, 0].to(torch.int64) - 1
        return torch.where(classes < 0, ignored, classes)

    def boxes(self, boxes: Tensor, owners: Tensor, size: tuple[int, int]) -> Tensor:
        return self._around_pixels(boxes, owners, size) if self.bent else self._around_corners(boxes, owners, size)

    def _around_corners(self, boxes: Tensor, owners: Tensor, size: tuple[int, int]) -> Tensor:
        """Straight lines stay straight, so the box around the four moved corners is exact."""
        centre = torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64)
        back = torch.linalg.inv(torch.from_numpy(self.matrices).double())[owners.cpu()]  # from source to result
        corners = boxes.cpu().double()[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2) - centre
        moved = corners @ back[:, :2, :2].transpose(1, 2) + back[:, None, :2, 2] + centre
        return torch.cat([moved.amin(1), moved.amax(1)], 1).to(boxes)

    def _around_pixels(self, boxes: Tensor, owners: Tensor, size: tuple[int, int]) -> Tensor:
        """Around all pixels of the result that were taken from inside; exact to a pixel."""
        height, width = size
        scale = torch.tensor([width / 2, height / 2], device=self.grid.device)
        places = (self.grid + 1) * scale  # in pixels from the upper left edge
        result = torch.zeros_like(boxes)
        for row, (owner, box) in enumerate(zip(owners.tolist(), boxes, strict=True)):
            x, y = places[owner].unbind(2)
            inside = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
            rows, columns = (torch.nonzero(inside.any(dim)).flatten() for dim in (1, 0))
            if len(rows):
                edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
                result[row] = torch.stack(edges).to(result)
        return result


def moved_boxes(moves: list[Move], boxes: Tensor, owners: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """``boxes`` after all ``moves``, cut at the edges; and which of them still have a pixel's breadth, bool (k,)."""
    for move in moves:
        boxes = move.boxes(boxes, owners, size)
    limits = torch.tensor([size[1], size[0]] * 2).to(boxes)
    cut = torch.minimum(boxes.clamp(min=0), limits)
    return cut, ((cut[:, 2:] - cut[:, :2]) >= 1).all(1)
