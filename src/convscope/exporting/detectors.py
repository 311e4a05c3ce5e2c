"""Detectors as ONNX: their own layers as they were recorded, and between them the regions, as nodes written by hand.

A recording knows one number that may change, the batch's. A detector has two, pictures and regions: what is computed of
pictures and what is computed of regions are recorded apart, and pooling stands between them.

| | inputs | outputs |
|---|---|---|
| R-CNN, Fast R-CNN | ``pictures`` (n, c, h, w), ``rois`` (r, 5) | ``scores``, ``differences`` |
| Faster R-CNN | ``pictures``, ``sizes`` (n, 2) | ``rois``, these, ``objectness``, ``anchor_differences``, ``anchors`` |

as ``models.fast_rcnn.Regions`` has them. Anchors become regions by ONNX's TopK and NonMaxSuppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, ExportError
from convscope.exporting.writer import Writer
from convscope.graph.examples import example
from convscope.layers import RoIAlign
from convscope.layers.anchors import anchors
from convscope.layers.box_coding import MOST
from convscope.models.fast_rcnn import FastRCNN, Regions
from convscope.models.faster_rcnn import FasterRCNN, RegionProposalNetwork
from convscope.models.rcnn import RCNN
from convscope.spec import spec_of

Detector = FastRCNN | FasterRCNN | RCNN
_NEVER, _SCARCELY = -1e30, -1e29  # the score of what is no region, and the least that any region has


class OfPictures(nn.Module):
    """Pictures → maps, and of a network that proposes the anchors' logits and differences."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.backbone = model.backbone if not isinstance(model, RCNN) else nn.Identity()
        self.rpn_head = model.rpn.head if isinstance(model, FasterRCNN) else None

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(pictures)
        return (maps,) if self.rpn_head is None else (maps, *self.rpn_head(maps))


class OfRegions(nn.Module):
    """Regions, pooled or warped (r, c, y, x) → scores (r, k + 1) and differences (r, k + 1, 4)."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        if isinstance(model, RCNN):
            self.rcnn = model
        else:
            self.box_head, self.box_predictor = model.roi_heads.box_head, model.roi_heads.box_predictor

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        if hasattr(self, "rcnn"):
            return self.rcnn.answers(*self.rcnn.seen(regions))
        scores, differences = self.box_predictor(self.box_head(regions))
        return scores, differences


def checked(model: Detector) -> None:
    """ExportError for what has no form here."""
    if isinstance(model, FastRCNN) and model.pyramid:
        raise ExportError("", "Fast R-CNN on several scales has no form in ONNX here; predict with scales= alone")
    dtype = next(model.parameters()).dtype
    if dtype != torch.float32:
        raise ExportError("", f"weights of {dtype}; ONNX Runtime pools regions and drops overlapping ones in float32")


def pictures_of(model: Detector, shape: Sequence[Any] | None, inputs: Sequence[Tensor] | None) -> Tensor:
    """Pictures (n, c, h, w) of the size that the file is for: the first of ``inputs``, or one of ``shape`` (that of one
    picture, or those of all inputs) or of the model's description."""
    if inputs:
        return inputs[0]
    described = spec_of(model)
    if shape is None and described is not None:
        shape = described.input_shape
    if shape is not None and len(shape) and isinstance(shape[0], Sequence):
        shape = shape[0]
    if shape is None or len(shape) != 3:
        raise ArgumentError("input_shape", shape, "(channels, height, width) of the pictures")
    return example(model, (1, *shape))


def pooled(write: Writer, model: Detector, maps: str, rois: str) -> str:
    """The nodes that pool, or warp, each region; (r, c, y, x)."""
    write.layer = "regions"
    if isinstance(model, RCNN):
        return _aligned(write, maps, rois, (model.side, model.side), 1.0, 1, True, _around(write, model, rois))
    pool: Any = model.roi_heads.pool
    if isinstance(pool, RoIAlign):
        rest = (pool.output_size, pool.spatial_scale, pool.sampling_ratio, pool.aligned)
        return _aligned(write, maps, rois, *rest)
    shape = list(pool.output_size)
    return str(write.node("MaxRoiPool", maps, rois, pooled_shape=shape, spatial_scale=float(pool.spatial_scale)))


def _aligned(
    write: Writer,
    maps: str,
    rois: str,
    size: tuple[int, int],
    scale: float,
    samples: int,
    aligned: bool,
    boxes: str | None = None,
) -> str:
    boxes = boxes or write.node("Gather", rois, write.integers([1, 2, 3, 4]), axis=1)
    owners = write.node("Squeeze", write.node("Gather", rois, write.integers([0]), axis=1), write.integers([1]))
    owners = write.node("Cast", owners, to=write.kind(torch.int64))
    mode = "half_pixel" if aligned else "output_half_pixel"
    return str(
        write.node(
            "RoiAlign",
            maps,
            boxes,
            owners,
            coordinate_transformation_mode=mode,
            mode="avg",
            output_height=size[0],
            output_width=size[1],
            sampling_ratio=max(0, samples),
            spatial_scale=float(scale),
        )
    )


def _around(write: Writer, model: RCNN, rois: str) -> str:
    """What is warped of each region: ``RCNN.windows``."""
    low = write.node("Gather", rois, write.integers([1, 2]), axis=1)
    high = write.node("Gather", rois, write.integers([3, 4]), axis=1)
    share = torch.tensor(model.context / (model.side - 2 * model.context))
    grown = write.node("Mul", write.node("Sub", high, low), share)
    return str(write.node("Concat", write.node("Sub", low, grown), write.node("Add", high, grown), axis=1))


def proposed(write: Writer, rpn: RegionProposalNetwork, logits: str, differences: str, sizes: str, own: Tensor) -> str:
    """Regions (r, 5) of anchors ``own`` (a, 4): ``RegionProposalNetwork.proposed`` of every picture."""
    write.layer, how = "rpn", rpn.proposing
    best, which = write.node("TopK", logits, write.integers([min(how.before, len(own))]), axis=1, outputs=2)
    wide = own[:, 2:] - own[:, :2]
    from_ = write.node("Gather", torch.cat((own[:, :2] + wide / 2, wide), 1), which, axis=0)  # (n, k, 4)
    four = write.node("Tile", write.node("Unsqueeze", which, write.integers([2])), write.integers([1, 1, 4]))
    moves = write.node("GatherElements", differences, four, axis=1)
    place, side = write.node("Split", from_, axis=2, num_outputs=2, outputs=2)
    there, larger = write.node("Split", moves, axis=2, num_outputs=2, outputs=2)
    centre = write.node("Add", place, write.node("Mul", there, side))
    grown = write.node("Exp", write.node("Min", larger, torch.tensor(MOST, dtype=torch.float32)))
    half = write.node("Mul", write.node("Mul", side, grown), torch.tensor(0.5))
    numbers = write.node("Cast", sizes, to=write.kind(torch.float32))
    limit = write.node("Unsqueeze", write.node("Gather", numbers, write.integers([1, 0]), axis=1), write.integers([1]))
    low, high = (
        write.node("Min", write.node("Max", write.node(kind, centre, half), torch.tensor(0.0)), limit)
        for kind in ("Sub", "Add")
    )
    narrow = write.node("ReduceMin", write.node("Sub", high, low), write.integers([2]), keepdims=0)
    usable = write.node("GreaterOrEqual", narrow, torch.tensor(how.smallest))
    score = write.node("Where", usable, best, torch.tensor(_NEVER))
    # the picture as a whole, where no region is left
    some = write.node("ReduceMax", score, write.integers([1]), keepdims=1)
    some = write.node("Greater", some, torch.tensor(_SCARCELY))
    last = write.node("Where", some, torch.tensor(_NEVER), torch.tensor(0.0))
    whole = write.node("Concat", write.node("Mul", limit, torch.tensor(0.0)), limit, axis=2)
    boxes = write.node("Concat", write.node("Concat", low, high, axis=2), whole, axis=1)
    scores = write.node("Unsqueeze", write.node("Concat", score, last, axis=1), write.integers([1]))
    chosen = write.node(
        "NonMaxSuppression", boxes, scores, write.integers([how.after]), torch.tensor([how.overlap]),
        torch.tensor([_SCARCELY]),
    )  # fmt: skip
    owners = write.node("Cast", write.node("Gather", chosen, write.integers([0]), axis=1), to=write.kind(torch.float32))
    kept = write.node("GatherND", boxes, write.node("Gather", chosen, write.integers([0, 2]), axis=1))
    return str(write.node("Concat", owners, kept, axis=1))


def places_of(model: FasterRCNN, maps: Sequence[Any], dtype: torch.dtype) -> Tensor:
    """The anchors (a, 4) on maps of shape ``maps``, (n, c, y, x)."""
    rpn = model.rpn
    return anchors(rpn.shapes, rpn.stride, int(maps[2]), int(maps[3])).to(dtype)


def some_regions(pictures: Tensor, each: int = 7) -> Tensor:
    """Regions (n · each, 5) of all sizes, some over the edge, for a comparison."""
    generator = torch.Generator().manual_seed(5)
    height, width = pictures.shape[2:]
    limit = torch.tensor([width, height, width, height])
    corners = torch.rand(len(pictures) * each, 2, 2, generator=generator).sort(1).values.flatten(1)
    owners = torch.arange(len(pictures)).repeat_interleave(each)
    return torch.cat((owners[:, None], (corners * 1.2 - 0.1) * limit), 1)


def reference(model: Detector, pictures: Tensor, sizes: Tensor, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """What ``model`` answers, for what the runtime has ``found``, by the same names. A region that rounding takes for
    another has other scores: regions are made of the runtime's own anchors, and scores of its own regions."""
    if not isinstance(model, FasterRCNN):
        answers: Regions = model(pictures, sizes, found["rois"])
        return {"scores": answers.scores, "differences": answers.differences}
    maps = model.backbone(pictures)
    logits, differences = model.rpn.head(maps)
    own = places_of(model, maps.shape, maps.dtype)
    each = zip(found["objectness"], found["anchor_differences"], sizes, strict=True)
    rows = [model.rpn.proposed(*given, own) for given in each]
    rois = torch.cat([nn.functional.pad(row, (1, 0), value=float(n)) for n, row in enumerate(rows)])
    scores, moves = model.roi_heads(maps, found["rois"])
    return {
        "rois": rois, "scores": scores, "differences": moves, "objectness": logits,
        "anchor_differences": differences, "anchors": own,
    }  # fmt: skip
