"""Sensitivities in the structure of what an operator puts out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from convscope.graph import structure


def in_structure(output: Any, sums: Mapping[int, Tensor]) -> Any:
    """δ in the output's structure, None where J does not depend on a leaf. A packed sequence's keeps the sizes, without
    which there is none."""
    packed = _holds_packed(output)
    numbers = iter(range(len(structure.leaves(output))))
    return structure.transform(
        output, lambda leaf: sums.get(next(numbers), leaf if packed and not _is_real(leaf) else None)
    )


def _holds_packed(value: Any) -> bool:
    if isinstance(value, PackedSequence):
        return True
    if isinstance(value, dict):
        return any(map(_holds_packed, value.values()))
    return isinstance(value, tuple | list) and any(map(_holds_packed, value))


def _is_real(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()
