"""Training: one loop for every engine and every task, told as events, kept in a run folder, resumable exactly."""

from convscope.models.modelfile import describe, load, load_weights, save
from convscope.training.config import Config
from convscope.training.events import Result
from convscope.training.figures import Figures

__all__ = ["Config", "Figures", "Result", "describe", "load", "load_weights", "save"]
