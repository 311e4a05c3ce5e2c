"""A small translator of a few sentences, for the contract of every task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests.contracts.test_every_task import Example
from tests.tasks.translation.turned import turned

from convscope.models import create_model
from convscope.tasks.translation.task import Translation


def example(folder: Path) -> Example:
    task, data = Translation({"pieces": 60, "beam": 2}), turned(8, 4)
    torch.manual_seed(0)
    options: dict[str, Any] = {"size": 8, "heads": 2, "layers": 1, "hidden": 12, "places": 40}
    model = create_model("transformer", **options, **task.options(data))
    return Example(task, model, data, list(data.test.source_texts), 4)
