"""A small reader of a few lines of strokes, for the contract of every task."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.contracts.test_every_task import Example
from tests.tasks.lines.strokes import strokes

from convscope.models import create_model
from convscope.tasks.lines.task import LineReading


def example(folder: Path) -> Example:
    task, data = LineReading(), strokes(8, 4)
    torch.manual_seed(0)
    model = create_model("crnn", small=True, hidden=6, **task.options(data))
    return Example(task, model, data, [data.test.picture(place) for place in range(4)], 4)
