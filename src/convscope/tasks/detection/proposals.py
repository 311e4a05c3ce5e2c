"""Regions proposed without a network: selective search where OpenCV has it, else a plain grid; kept on disk.

Uijlings, van de Sande, Gevers, Smeulders: Selective search for object recognition, IJCV 2013.
"""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from convscope.data.picture_stores import PictureStore
from convscope.errors import ArgumentError, CheckpointError, UnknownNameError
from convscope.spec import Preprocessing
from convscope.tasks.detection.scaling import Scale, scaled
from convscope.tensorfile import read_tensors, write_tensors

METHODS = ("auto", "selective_search", "grid")
#: What selective search begins with: small first regions, since on blood cells k = 150 finds 76 % of the red ones at
#: an overlap of 0.5, k = 80 89 %, and k = 50 with σ = 0.5 95 %, in 460, 630 and 850 boxes a picture.
_FIRST, _STEP, _SIGMA = 50, 150, 0.5
_SHARES = (1 / 12, 1 / 8, 1 / 5, 1 / 3, 1 / 2, 4 / 5)  # of the grid's boxes in the shorter side
_RATIOS = (0.5, 1.0, 2.0)
_TOLD_SECONDS = 30.0
_KEPT = 1  # the format of the files
_INSTALL = "pip install 'convscope[detection]' installs it"

_log = logging.getLogger("convscope.tasks")


def method_of(asked: str) -> str:
    """The method meant by "auto"; the grid is said. UnknownNameError for another name."""
    if asked not in METHODS:
        raise UnknownNameError("proposals", asked, METHODS)
    if asked != "auto":
        return asked
    if _opencv() is not None:
        return "selective_search"
    _log.warning(
        "regions are proposed by a plain grid, which finds less: selective search needs OpenCV with its contributed "
        "modules. %s",
        _INSTALL,
    )
    return "grid"


def _opencv() -> Any:
    """OpenCV where it has selective search, else None."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2 if hasattr(cv2, "ximgproc") else None


def propose(picture: Tensor, method: str, most: int = 2000) -> Tensor:
    """float32 (k, 4), k ≤ ``most``: regions of a picture, uint8 (c, h, w), in its own pixels; at least one."""
    height, width = picture.shape[1:]
    boxes = selective_search(picture) if method == "selective_search" else grid(height, width)
    return boxes[:most] if len(boxes) else torch.tensor([[0.0, 0.0, width, height]])


def selective_search(picture: Tensor) -> Tensor:
    """float32 (k, 4): what regions grown together by colour, texture, size and fill have around them, in the order of
    OpenCV's fast mode; none on a picture too small to have any. ArgumentError where OpenCV does not have it."""
    cv2 = _opencv()
    if cv2 is None:
        raise ArgumentError("proposals", "selective_search", "OpenCV with its contributed modules", _INSTALL)
    colours = picture.expand(3, -1, -1) if picture.shape[0] == 1 else picture[:3]
    if min(picture.shape[1:]) < 8:
        return torch.zeros(0, 4)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(numpy.ascontiguousarray(colours.permute(1, 2, 0).numpy()[:, :, ::-1]))
    search.switchToSelectiveSearchFast(_FIRST, _STEP, _SIGMA)
    found = torch.from_numpy(numpy.asarray(search.process()).reshape(-1, 4).astype(numpy.float32))
    found[:, 2:] += found[:, :2]  # x, y, width, height → corners
    return found


def grid(height: int, width: int) -> Tensor:
    """float32 (k, 4): boxes of six sizes and three shapes, half a box apart, largest first."""
    rows: list[Tensor] = []
    for share in reversed(_SHARES):
        for ratio in _RATIOS:
            side = share * min(height, width)
            tall, wide = min(side * ratio**0.5, height), min(side / ratio**0.5, width)
            ys = torch.linspace(0, height - tall, max(1, round(2 * (height - tall) / tall) + 1))
            xs = torch.linspace(0, width - wide, max(1, round(2 * (width - wide) / wide) + 1))
            y, x = torch.meshgrid(ys, xs, indexing="ij")
            corner = torch.stack((x.flatten(), y.flatten()), 1)
            rows.append(torch.cat((corner, corner + torch.tensor([wide, tall])), 1))
    return torch.cat(rows)


class KeptProposals:
    """The regions of pictures as a detector works in them, each computed once: a small file a picture, named by its
    pixels and the method, in ``folder``."""

    def __init__(self, method: str, most: int = 2000, folder: Path | None = None) -> None:
        self.method, self.most = method, most
        self.folder = folder or Path.home() / ".cache" / "convscope" / "proposals"

    def of(self, picture: Tensor) -> Tensor:
        """float32 (k, 4) of a picture, uint8 (c, h, w)."""
        path = self.folder / f"{self._name(picture)}.safetensors"
        if path.is_file():
            try:
                return read_tensors(path)[0]["boxes"]
            except (CheckpointError, KeyError):
                _log.warning("%s is damaged; its regions are searched anew", path)
        boxes = propose(picture, self.method, self.most)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_tensors(path, {"boxes": boxes}, {"format": _KEPT, "kind": "proposals", "method": self.method})
        except (OSError, CheckpointError) as problem:
            _log.warning("regions cannot be kept, so each start searches anew (%s)", problem)
        return boxes

    def _name(self, picture: Tensor) -> str:
        said = f"{_KEPT} {self.method} {self.most} {_FIRST} {_STEP} {_SIGMA} {tuple(picture.shape)}"
        digest = hashlib.sha256(said.encode())
        digest.update(picture.contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


def of_store(pictures: PictureStore, kept: KeptProposals, scale: Scale, preprocessing: Preprocessing) -> list[Tensor]:
    """The regions of every picture of a store, in its own pixels; they are searched in the model's size. What takes
    long is said every half minute."""
    rows: list[Tensor] = []
    told = time.monotonic()
    for place in range(len(pictures)):
        picture = pictures.picture(place)
        small = scaled(picture, scale, preprocessing)
        factors = torch.tensor(picture.shape[1:]) / torch.tensor(small.shape[1:])
        rows.append(kept.of(small) * factors.flip(0).repeat(2).to(torch.float32))
        if time.monotonic() - told > _TOLD_SECONDS:
            told = time.monotonic()
            _log.warning("regions are searched: %d of %d pictures", place + 1, len(pictures))
    return rows
