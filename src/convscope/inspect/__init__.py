"""Looking inside: traces, receptive fields, counts, pictures."""

from __future__ import annotations

from convscope.inspect.attribution import attribute, honesty, maximise, top_examples
from convscope.inspect.count import Count, Dense, LayerCount, count
from convscope.inspect.receptive_field import ReceptiveField, ReceptiveFields, receptive_field
from convscope.inspect.trace import LayerTrace, Trace, trace

__all__ = [
    "Count",
    "Dense",
    "LayerCount",
    "LayerTrace",
    "ReceptiveField",
    "ReceptiveFields",
    "Trace",
    "attribute",
    "count",
    "honesty",
    "maximise",
    "receptive_field",
    "top_examples",
    "trace",
]
