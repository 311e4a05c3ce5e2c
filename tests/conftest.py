"""What all tests share."""

from __future__ import annotations

import os
import random

import hypothesis
import pytest

# Tests run side by side, one process a core. With more threads each, OpenMP's waiting threads take the cores from those
# that work: on two cores the suite was more than ten times slower. Subprocesses that tests start inherit this.
os.environ["OMP_NUM_THREADS"] = "1"

# Drawn cases are the same in every run, so that a red run is red again when it is looked into.
hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def _same_chance_in_every_run() -> None:
    """Weights and pictures that a test draws without a seed are the same in whatever order and process tests run."""
    import torch  # not above: OMP_NUM_THREADS must be set before

    random.seed(0)
    torch.manual_seed(0)
