"""What a finished run gives back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import nn

from convscope.training.config import Config
from convscope.training.events import EpochDone
from convscope.training.metrics import Metrics


@dataclasses.dataclass(frozen=True)
class Result:
    """``history`` has one EpochDone an epoch, ``metrics`` are those of the test pictures at the end. ``stopped`` is
    "epochs", "max_steps" or "converged"."""

    model: nn.Module = dataclasses.field(repr=False)
    history: list[EpochDone]
    metrics: Metrics
    run_dir: Path
    config: Config
    stopped: str
    seconds: float  # from the first batch to the end, this process
