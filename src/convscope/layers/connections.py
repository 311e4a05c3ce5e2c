"""Connection tables: which input maps feed which output map (Bouvrie 2006, eq. (9): the set M_j of output map j)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from convscope.errors import ArgumentError, UnknownNameError

Table = str | Sequence[Sequence[int]] | torch.Tensor

#: Input maps of each of the 16 maps of C3 (LeCun et al. 1998, Table I): 6 triples, 9 quadruples, all six; 60 in all.
LENET5_C3: tuple[tuple[int, ...], ...] = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (0, 4, 5),
    (0, 1, 5),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (0, 3, 4, 5),
    (0, 1, 4, 5),
    (0, 1, 2, 5),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)

NAMED = ("all", "pairs", "triples", "lenet5_c3")


def connection_table(table: Table, in_channels: int, out_channels: int | None = None) -> torch.Tensor:
    """The table as a bool tensor (out_channels, in_channels) on the CPU.

    ``table`` is "lenet5_c3", "pairs" or "triples" (every pair or triple of input maps, in lexical order), "all", a
    list that gives the input maps of each output map, or a 0/1 matrix as a tensor. ``out_channels`` None takes the
    table's own number. Raises UnknownNameError for another name and ArgumentError for a table that does not fit.
    """
    connections = _named(table, in_channels, out_channels) if isinstance(table, str) else table
    if isinstance(connections, torch.Tensor):
        if connections.ndim != 2 or connections.shape[1] != in_channels:
            raise ArgumentError("table", tuple(connections.shape), f"a matrix of (out_channels, {in_channels})")
        mask = connections.cpu() != 0
    else:
        mask = torch.zeros(len(connections), in_channels, dtype=torch.bool, device="cpu")
        for output, inputs in enumerate(connections):
            for index in inputs:
                if not isinstance(index, int) or not 0 <= index < in_channels:
                    raise ArgumentError("table", index, f"input maps 0…{in_channels - 1}")
                mask[output, index] = True
    if out_channels is not None and mask.shape[0] != out_channels:
        raise ArgumentError("out_channels", out_channels, f"{mask.shape[0]}, the number of output maps in the table")
    if mask.shape[0] == 0 or not bool(mask.any(dim=1).all()):
        empty = [int(row) for row in (~mask.any(dim=1)).nonzero().flatten()]
        raise ArgumentError("table", empty or "no output map", "at least one input map for each output map")
    return mask


def _named(name: str, in_channels: int, out_channels: int | None) -> Sequence[Sequence[int]]:
    if name == "lenet5_c3":
        if in_channels != 6:
            raise ArgumentError("in_channels", in_channels, "6, the input maps of LeNet-5's table for C3")
        return LENET5_C3
    if name in ("pairs", "triples"):
        size = 2 if name == "pairs" else 3
        if in_channels < size:
            raise ArgumentError("in_channels", in_channels, f"at least {size} input maps for table {name!r}")
        return list(itertools.combinations(range(in_channels), size))
    if name == "all":
        if out_channels is None:
            raise ArgumentError("out_channels", out_channels, "an integer ≥ 1 for table 'all'")
        return [range(in_channels)] * out_channels
    raise UnknownNameError("table", name, NAMED)
