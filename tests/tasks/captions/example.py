"""A small writer of captions, two of them a picture, for the contract of every task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests.contracts.test_every_task import Example
from tests.tasks.captions.blocks import blocks

from convscope.models import create_model
from convscope.tasks.captions.task import Captioning


def example(folder: Path) -> Example:
    task, data = Captioning({"beam": 2, "smoothing": 0.1}), blocks(8, 5, captions=2)
    torch.manual_seed(0)
    options: dict[str, Any] = {"maps": (4, 6), "size": 8, "heads": 2}
    model = create_model("caption_attention", **options, **task.options(data))
    pictures = data.test.pictures
    return Example(task, model, data, [pictures.picture(place) for place in range(5)], 5)
