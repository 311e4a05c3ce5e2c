"""Jobs of several stages (trainings, features, fits) that go on after a kill at any moment."""

from __future__ import annotations

from convscope.tasks.stages.events import JobEvent, JobListener
from convscope.tasks.stages.folder import StageError
from convscope.tasks.stages.job import Job, run_job
from convscope.tasks.stages.stage import Here, Outcome, Stage, training

__all__ = ["Here", "Job", "JobEvent", "JobListener", "Outcome", "Stage", "StageError", "run_job", "training"]
