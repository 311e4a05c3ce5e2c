"""Figures of a reader of lines."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from convscope.data.examples import Batch
from convscope.errors import ArgumentError
from convscope.tasks.lines.decoding import edits
from convscope.tasks.lines.objective import LineObjective
from convscope.training.figures import Figures


@dataclasses.dataclass(frozen=True)
class LineFigures(Figures):
    """``line_error``: share of lines not read exactly; ``character_error``: characters to be put in, taken out or
    exchanged, as a share of those there are (above 1 where far too many are read). ``loss`` is the mean over the lines
    that can be spelled in their steps; ``impossible`` counts the others."""

    headline = "line_error"
    higher_is_better = False
    counted = "lines"

    lines: int
    loss: float
    line_error: float
    character_error: float
    characters: int
    impossible: int


class LineTally:
    """Reads every line by ``objective``'s way of decoding and counts what is wrong."""

    def __init__(self, objective: LineObjective) -> None:
        self.objective = objective
        self.lines = self.wrong = self.edited = self.characters = self.impossible = 0
        self.loss = 0.0

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Scores (n, t, classes) of a batch of lines."""
        each = self.objective.losses(outputs.float(), batch.targets)
        possible = each.isfinite()
        self.loss += float(each[possible].sum())
        self.impossible += int((~possible).sum())
        texts, lengths = batch.targets["texts"], batch.targets["lengths"]
        for place, found in enumerate(self.objective.read(outputs, batch.targets)):
            wanted = texts[place, : int(lengths[place])].tolist()
            self.lines += 1
            self.wrong += found != wanted
            self.edited += edits(found, wanted)
            self.characters += len(wanted)

    def figures(self) -> LineFigures:
        """ArgumentError when nothing was added."""
        if not self.lines:
            raise ArgumentError("split", "no lines", "at least one line to evaluate")
        return LineFigures(
            lines=self.lines,
            loss=self.loss / max(self.lines - self.impossible, 1),
            line_error=self.wrong / self.lines,
            character_error=self.edited / self.characters,
            characters=self.characters,
            impossible=self.impossible,
        )
