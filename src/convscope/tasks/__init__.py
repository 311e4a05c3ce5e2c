"""Whole jobs, one folder a task, and ``fit``, ``evaluate`` and ``predict``, which ask the task."""

from __future__ import annotations

from convscope.tasks import displays as displays
from convscope.tasks.dispatch import evaluate, fit, predict, run
from convscope.tasks.registry import TASKS, task_of
from convscope.tasks.run_pictures import RunPictures, draw_run

__all__ = ["TASKS", "RunPictures", "draw_run", "evaluate", "fit", "predict", "run", "task_of"]
