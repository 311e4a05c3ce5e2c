"""Two tiers: ``make test`` runs what is quick, ``make test-long`` what is slow by nature, marked ``long``.

What holds for every architecture is tested in ``make test`` of the one with the fewest parameters of each family,
where a test of one takes seconds, and of the others in ``make test-long``. An architecture of a new family is in
``make test`` by being registered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from convscope.models import MODELS


def by_family(names: Iterable[str]) -> list[Any]:
    """Parameters of a test: of each family the smallest, the others marked as long."""
    names = list(names)
    smallest = {}
    for name in sorted(names, key=lambda name: (MODELS[name].card.parameters, name), reverse=True):
        smallest[MODELS[name].card.family] = name
    return [name if name in smallest.values() else pytest.param(name, marks=pytest.mark.long) for name in names]
