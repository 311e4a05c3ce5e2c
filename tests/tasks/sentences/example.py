"""A small sentence classifier on a few sentences, for the contract of every task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests.contracts.test_every_task import Example
from tests.data.kinds.some import KINDS

from convscope.data import Dataset
from convscope.models import create_model
from convscope.tasks.sentences.task import SentenceClassification


def example(folder: Path) -> Example:
    whole = KINDS["sentences"](folder)
    places = torch.arange(len(whole))
    data: Dataset[Any] = Dataset("few", whole.select(places[:8]), whole.select(places[8:]))
    task = SentenceClassification()
    torch.manual_seed(0)
    model = create_model("text_cnn", size=6, maps=4, **task.options(data))
    return Example(task, model, data, list(data.test.texts), len(data.test))
