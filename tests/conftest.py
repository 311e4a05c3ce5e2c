"""What all tests share."""

from __future__ import annotations

import os

import hypothesis

# Tests run side by side, one process a core. With more threads each, OpenMP's waiting threads take the cores from those
# that work: on two cores the suite was more than ten times slower. Subprocesses that tests start inherit this.
os.environ["OMP_NUM_THREADS"] = "1"

# Drawn cases are the same in every run, so that a red run is red again when it is looked into.
hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.load_profile("fixed")
