"""What the calls of a recording put out, kept beside its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from convscope.graph import structure
from convscope.graph.values import version


class Kept:
    """The numbers that a call put out. They are copied before anything writes over them; where that was not foreseen,
    they are gone."""

    def __init__(self, tensor: Tensor, written: int) -> None:
        self._tensor: Tensor | None = tensor
        self._written: int | None = written

    def copy(self) -> None:
        if self._tensor is not None and self._written is not None:
            if version(self._tensor) == self._written:
                self._tensor = self._tensor.clone()
                self._written = None
            else:
                self._tensor = None

    def tensor(self) -> Tensor | None:
        """The numbers, or None."""
        if self._written is not None and self._tensor is not None and version(self._tensor) != self._written:
            self._tensor = None
        return self._tensor


def known_result(results: Mapping[fx.Node, Any], node: fx.Node) -> Any:
    """What ``node`` put out in the recorded call; None where that is not known (any more)."""
    if node not in results:
        return None
    kept = [leaf.tensor() for leaf in structure.leaves(results[node]) if isinstance(leaf, Kept)]
    if any(tensor is None for tensor in kept):
        return None
    return structure.transform(results[node], lambda leaf: leaf.tensor() if isinstance(leaf, Kept) else leaf)
