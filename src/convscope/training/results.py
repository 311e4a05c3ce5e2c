"""What a finished run gives back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import nn

from convscope.training.config import Config
from convscope.training.events import EpochDone
from convscope.training.figures import Figures


@dataclasses.dataclass(frozen=True)
class Result:
    """``history`` has one EpochDone an epoch, ``metrics`` are the task's figures on the test examples at the end.
    ``stopped`` is "epochs", "max_steps" or "converged"."""

    model: nn.Module = dataclasses.field(repr=False)
    task: str
    history: list[EpochDone]
    metrics: Figures
    run_dir: Path
    config: Config
    stopped: str
    seconds: float  # from the first batch to the end, this process
