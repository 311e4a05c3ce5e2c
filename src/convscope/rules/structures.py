"""Sensitivities in the structure of what an operator puts out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree


def in_structure(output: Any, sums: Mapping[int, Tensor]) -> Any:
    """δ in the output's structure, None where J does not depend on a leaf. A packed sequence's keeps the sizes, without
    which there is none."""
    leaves, structure = pytree.tree_flatten(output)
    packed = any(
        isinstance(each, PackedSequence)
        for each in pytree.tree_leaves(output, is_leaf=lambda item: isinstance(item, PackedSequence))
    )
    fixed = [leaf if packed and not _is_real(leaf) else None for leaf in leaves]
    return pytree.tree_unflatten([sums.get(index, kept) for index, kept in enumerate(fixed)], structure)


def _is_real(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()
