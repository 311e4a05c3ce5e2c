"""Looking inside: traces, receptive fields, counts, pictures."""

from __future__ import annotations

from convscope.inspect import displays as displays
from convscope.inspect.attribution import attribute, honesty, maximise, top_examples
from convscope.inspect.count import Count, Dense, LayerCount, count
from convscope.inspect.equivariance import Equivariance, equivariance
from convscope.inspect.receptive_field import ReceptiveField, ReceptiveFields, receptive_field
from convscope.inspect.trace import LayerTrace, Trace, trace

__all__ = [
    "Count",
    "Dense",
    "Equivariance",
    "LayerCount",
    "LayerTrace",
    "ReceptiveField",
    "ReceptiveFields",
    "Trace",
    "attribute",
    "count",
    "equivariance",
    "honesty",
    "maximise",
    "receptive_field",
    "top_examples",
    "trace",
]
