"""What all tests share."""

from __future__ import annotations

import os

# Tests run side by side, one process a core. With more threads each, OpenMP's waiting threads take the cores from those
# that work: on two cores the suite was more than ten times slower. Subprocesses that tests start inherit this.
os.environ["OMP_NUM_THREADS"] = "1"
