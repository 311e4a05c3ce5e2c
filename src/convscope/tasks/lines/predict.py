"""What a picture of a line says, character by character."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope import spec
from convscope.columns import shown
from convscope.data.kinds.lines import as_line, side_by_side
from convscope.data.pictures import find_pictures_below, load_picture
from convscope.errors import ArgumentError, DataError
from convscope.tasks.lines.decoding import alignment
from convscope.tasks.lines.objective import LineObjective
from convscope.tasks.lines.preparing import stride_of
from convscope.training.inference import Inference, prepare_inference


@dataclasses.dataclass(frozen=True)
class LinePrediction:
    """``text`` is what was read, ``probability`` that of its likeliest path. ``spans`` are the columns (first, last) of
    the line's picture in which each character was read, where the text can be spelled in so many steps."""

    source: str
    text: str
    probability: float
    spans: tuple[tuple[int, int], ...]
    picture: Tensor = dataclasses.field(repr=False, compare=False)
    probabilities: Tensor = dataclasses.field(repr=False, compare=False)
    alphabet: tuple[str, ...] = dataclasses.field(repr=False, default=())

    def line(self, most: int) -> str:
        return f"{shown(self.source)}: {shown(self.text)}"

    def to_json(self) -> dict[str, Any]:
        spans = [[character, *span] for character, span in zip(self.text, self.spans, strict=False)]
        return {"source": self.source, "text": self.text, "probability": self.probability, "columns": spans}

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        return [(self.source, self.text, f"{self.probability:.6f}")]

    def save(self, folder: Path) -> list[Path]:
        """The line with the columns of each character, and the probabilities at every step."""
        from convscope.tasks.lines.drawing import draw_line

        name = re.sub(r"[^\w.-]+", "-", Path(self.source).stem).strip("-.") or "line"
        path = folder / f"{name}-read.png"
        draw_line(path, self)
        return [path]


def predict(
    model: nn.Module,
    inputs: Any,
    batch_size: int = 64,
    engine: str = "auto",
    told: Callable[[Inference], object] = lambda inference: None,
    beam: int | None = None,
) -> Iterator[LinePrediction]:
    """The text of every line, batch by batch.

    ``inputs``: picture files, folders of them (searched through all levels), uint8 tensors (c, h, w), or a sequence of
    these. Pictures of any height are brought to the model's, and turned round where those that it learned from were.
    ``beam``: how many beginnings are kept while reading, None: as many as in training. DataError for an unreadable
    picture, ArgumentError for an empty request and a model without an alphabet.
    """
    described = spec.spec_of(model)
    if described is None or described.preprocessing is None or not described.classes:
        raise ArgumentError("model", type(model).__name__, "a model that was trained on lines, with its alphabet")
    sources = list(_sources(inputs))
    if not sources:
        raise ArgumentError("inputs", inputs, "at least one picture of a line")
    reading = LineObjective(int(described.answers.more.get("beam", 1)) if beam is None else beam)
    dark = bool(described.inputs[0].more.get("dark", False))
    inference = prepare_inference(model, described.inputs, engine, len(sources))
    told(inference)
    stride, height = stride_of(model), described.preprocessing.size[0]
    for start in range(0, len(sources), batch_size):
        part = sources[start : start + batch_size]
        lines = [as_line(load_picture(each) if isinstance(each, Path) else each, height, dark) for _, each in part]
        pictures, widths = side_by_side(lines)
        outputs = inference.outputs((pictures, widths)).float().cpu()
        for (name, _), line, scores, width in zip(part, lines, outputs, widths.tolist(), strict=True):
            yield _answer(name, line, scores[: width // stride], reading, described.classes, stride)


def _answer(
    name: str, line: Tensor, scores: Tensor, objective: LineObjective, alphabet: tuple[str, ...], stride: int
) -> LinePrediction:
    numbers = objective.read_one(scores)
    logs = torch.log_softmax(scores, 1)
    spans = alignment(logs, numbers) or []
    return LinePrediction(
        source=name,
        text="".join(alphabet[number - 1] for number in numbers),
        probability=float(logs.amax(1).sum().exp()),
        spans=tuple((first * stride, min((last + 1) * stride, line.shape[2]) - 1) for first, last in spans),
        picture=line,
        probabilities=logs.exp(),
        alphabet=alphabet,
    )


def _sources(inputs: Any) -> Iterator[tuple[str, Path | Tensor]]:
    several = isinstance(inputs, Sequence) and not isinstance(inputs, str)
    for place, item in enumerate(inputs if several else [inputs]):
        if isinstance(item, torch.Tensor):
            if item.dtype != torch.uint8 or item.ndim != 3:
                raise ArgumentError("inputs", f"{item.dtype} {tuple(item.shape)}", "pictures, uint8 (c, h, w)")
            yield str(place), item
        elif isinstance(item, str | Path):
            path = Path(item)
            if path.is_dir():
                found = find_pictures_below(path)
                if not found:
                    raise DataError(path, "no pictures in this folder")
                yield from ((str(each), each) for each in found)
            else:
                yield str(path), path
        else:
            raise ArgumentError("inputs", type(item).__name__, "names of picture files or folders, or uint8 tensors")
