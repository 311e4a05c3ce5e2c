"""A few pictures with boxes and a small network, for what every task must keep."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.contracts.test_every_task import Example
from tests.data.kinds.some import some_boxes

from convscope.data import Dataset
from convscope.models import create_model
from convscope.tasks.registry import TASKS


def example(folder: Path) -> Example:
    whole = some_boxes(folder)
    places = torch.arange(len(whole))
    data = Dataset("few", whole.select(places[:8]), whole.select(places[8:]))
    torch.manual_seed(0)
    task = TASKS["detection"]({"shorter": 32, "longest": 64})
    model = create_model("faster_rcnn", small=True, width=0.25, hidden=16, proposals=8, **task.options(data))
    pictures = [whole.pictures.picture(place) for place in (8, 9, 10)]
    return Example(task, model, data, pictures, 3)
