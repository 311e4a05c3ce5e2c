"""Training: one loop for every engine, told as events, kept in a run folder, resumable exactly."""

from convscope.models.modelfile import describe, load, load_weights, save
from convscope.training.config import Config
from convscope.training.evaluation import evaluate
from convscope.training.metrics import Metrics
from convscope.training.results import Result
from convscope.training.run import fit, run

__all__ = ["Config", "Metrics", "Result", "describe", "evaluate", "fit", "load", "load_weights", "run", "save"]
