"""A detector's ONNX file: its parts put together, run, and compared with the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ExportError
from convscope.exporting import detectors
from convscope.exporting.checking import TOLERANCE, Session, relative
from convscope.exporting.detectors import Detector
from convscope.exporting.graphs import as_model, info, names_of, recorded, scaled
from convscope.exporting.recording import Recording
from convscope.exporting.writer import Writer
from convscope.models.faster_rcnn import FasterRCNN
from convscope.models.rcnn import RCNN
from convscope.spec import Preprocessing

Names = tuple[tuple[str, ...], tuple[str, ...]]
End = tuple[str, str, Sequence[int | str]]  # an output: its name, the value that it is, its shape


def written(
    onnx: Any, model: Detector, pictures: Tensor, any_batch: bool, scaling: Preprocessing | None
) -> tuple[Any, Names]:
    """The ModelProto, and the names of its inputs and outputs (see ``detectors``). ``pictures`` (n, c, h, w) tell the
    size, and with ``any_batch=False`` how many there always are."""
    detectors.checked(model)
    of_pictures = recorded(detectors.OfPictures(model), None, [pictures], any_batch)
    name = "pictures" if scaling is None else "pixels"
    write = Writer(onnx, names_of(model), name)
    given = write.fresh(name)
    inputs = [info(write, given, of_pictures.inputs[0], scaling is not None)]
    seen = given
    if scaling is not None:
        write.layer = "preprocessing"
        seen = scaled(write, given, scaling)
    maps, *anchored = _layers(write, of_pictures, seen) if not isinstance(model, RCNN) else (seen,)
    many = "batch" if any_batch else len(pictures)
    outputs: list[End] = []
    of_anchors: list[End] = []
    if isinstance(model, FasterRCNN):
        own = detectors.places_of(model, of_pictures.outputs[0].shape, torch.float32)
        sizes = write.fresh("sizes")
        inputs.append(onnx.helper.make_tensor_value_info(sizes, write.kind(torch.int64), [many, 2]))
        rois = detectors.proposed(write, model.rpn, anchored[0], anchored[1], sizes, own)
        outputs += [("rois", rois, ["regions", 5])]
        of_anchors = [
            ("objectness", anchored[0], [many, len(own)]), ("anchor_differences", anchored[1], [many, len(own), 4]),
            ("anchors", write.value(own), [len(own), 4]),
        ]  # fmt: skip
    else:
        rois = write.fresh("rois")
        inputs.append(onnx.helper.make_tensor_value_info(rois, write.kind(torch.float32), ["regions", 5]))
    pooled = detectors.pooled(write, model, maps, rois)
    of_regions = recorded(detectors.OfRegions(model), None, [_one_region(model, of_pictures, pictures)], True)
    write.count_by(rois)
    scores, differences = _layers(write, of_regions, pooled)
    classes = of_regions.outputs[0].shape[1]
    outputs += [("scores", scores, ["regions", classes]), ("differences", differences, ["regions", classes, 4])]
    ends = [_end(write, *each) for each in (*outputs, *of_anchors)]
    made = as_model(onnx, write, type(model).__name__, inputs, ends)
    return made, (tuple(each.name for each in inputs), tuple(each.name for each in ends))


def _layers(write: Writer, recording: Recording, given: str) -> tuple[str, ...]:
    """The recorded steps on the value ``given``; the names of what comes out."""
    write.bind(recording.inputs[0], given)
    for step in recording.steps:
        write.write(step)
    return tuple(write.value(each) for each in recording.outputs)


def _one_region(model: Detector, of_pictures: Recording, pictures: Tensor) -> Tensor:
    """A region as it is pooled or warped, (1, c, y, x)."""
    if isinstance(model, RCNN):
        return torch.randn(1, pictures.shape[1], model.side, model.side)
    pool: Any = model.roi_heads.pool
    return torch.randn(1, of_pictures.outputs[0].shape[1], *pool.output_size)


def _end(write: Writer, name: str, value: str, shape: Sequence[int | str]) -> Any:
    """The output ``name``, float32 of ``shape``."""
    write.layer = ""
    own = write.fresh(name)
    write.nodes.append(write.onnx.helper.make_node("Identity", [value], [own], name=write.fresh(f"{own}/Identity")))
    return write.onnx.helper.make_tensor_value_info(own, write.kind(torch.float32), list(shape))


def compare(
    model: Detector, content: bytes, pictures: Tensor, batches: Sequence[int], scaling: Preprocessing | None
) -> tuple[float | None, str]:
    """The largest difference over batches of so many pictures, relative to the largest answer; or None and why nothing
    was compared. Raises ExportError above ``TOLERANCE`` and where the runtime fails."""
    session = Session.of(content)
    if isinstance(session, str):
        return None, session
    worst = 0.0
    for batch in batches:
        given = fed = torch.cat([pictures] * (-(-batch // len(pictures))))[:batch]
        given = fed = given + 0.1 * torch.randn(given.shape, generator=torch.Generator().manual_seed(batch))
        if scaling is not None:
            fed = torch.randint(0, 256, given.shape, generator=torch.Generator().manual_seed(batch), dtype=torch.uint8)
            given = scaling.normalise(fed).to(given)
        sizes = torch.tensor(given.shape[2:]).expand(batch, 2) - torch.arange(batch)[:, None] % 3
        rois = detectors.some_regions(given)
        found = session.run([fed, sizes if isinstance(model, FasterRCNN) else rois])
        with torch.no_grad():
            wanted = detectors.reference(model, given, sizes, {"rois": rois, **found})
        worst = max(worst, *(relative(found[name], wanted[name]) for name in found))
    if not worst <= TOLERANCE:
        raise ExportError("", f"ONNX Runtime's answers differ from the model's by {worst:.2g}, wanted ≤ {TOLERANCE:g}")
    return worst, ""
