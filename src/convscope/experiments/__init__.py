"""Published results, reproduced by one command each, with the published figure beside ours."""

from __future__ import annotations

from convscope.experiments.base import EXPERIMENTS, Experiment, Report, Row, Setting, run_experiment

__all__ = ["EXPERIMENTS", "Experiment", "Report", "Row", "Setting", "run_experiment"]
