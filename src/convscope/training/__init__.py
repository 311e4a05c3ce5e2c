"""Training: one loop for every engine, told as events, kept in a run folder, resumable exactly."""

from convscope.training.api import fit, run
from convscope.training.checkpoints import describe, load, load_weights, save
from convscope.training.config import Config
from convscope.training.evaluation import evaluate
from convscope.training.metrics import Metrics
from convscope.training.results import Result

__all__ = ["Config", "Metrics", "Result", "describe", "evaluate", "fit", "load", "load_weights", "run", "save"]
