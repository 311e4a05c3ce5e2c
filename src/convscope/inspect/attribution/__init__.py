"""Which part of the input speaks for a class, a unit, a map or a box; and how far such a picture can be trusted."""

from __future__ import annotations

from convscope.inspect.attribution.checks import Honesty, honesty
from convscope.inspect.attribution.examples import TopExample, top_examples
from convscope.inspect.attribution.maximising import Maximised, maximise
from convscope.inspect.attribution.registry import METHODS, Method, attribute, method
from convscope.inspect.attribution.subject import StoppedError, Subject
from convscope.inspect.attribution.target import Place, Target, place_of

__all__ = [
    "METHODS",
    "Honesty",
    "Maximised",
    "Method",
    "Place",
    "StoppedError",
    "Subject",
    "Target",
    "TopExample",
    "attribute",
    "honesty",
    "maximise",
    "method",
    "place_of",
    "top_examples",
]
