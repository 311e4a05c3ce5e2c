"""Timing of training steps, the native engine beside torch's configurations, after the gradients were verified."""

from __future__ import annotations

from convscope.native.benchmarking.contestants import CONTESTANTS, Contestant, Subject
from convscope.native.benchmarking.measuring import WrongGradientsError, benchmark, verify
from convscope.native.benchmarking.report import Machine, Report, Row

__all__ = [
    "CONTESTANTS",
    "Contestant",
    "Machine",
    "Report",
    "Row",
    "Subject",
    "WrongGradientsError",
    "benchmark",
    "verify",
]
