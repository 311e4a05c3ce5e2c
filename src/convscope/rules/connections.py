"""Partial connection tables M_j: which input maps feed output map j, and how compact kernels are kept for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convscope.errors import ArgumentError

Table = tuple[tuple[int, ...], ...]


def whole_table(table: Sequence[Sequence[int]]) -> Table:
    """``table`` as tuples; ArgumentError for an output map without inputs, a repeated or a negative input map."""
    rows = tuple(tuple(int(i) for i in row) for row in table)
    for j, row in enumerate(rows):
        if not row:
            raise ArgumentError("table", row, f"at least one input map for output map {j}")
        if len(set(row)) != len(row) or min(row) < 0:
            raise ArgumentError("table", row, f"distinct input maps, counted from 0, for output map {j}")
    if not rows:
        raise ArgumentError("table", table, "one row for each output map")
    return rows


def scatter_kernels(compact: Tensor, table: Table, in_channels: int) -> Tensor:
    """Compact kernels (Σ_j |M_j|, *kernel), in the table's order → (out, in, *kernel), zero where not connected."""
    into, out_of = connections(table, compact.device)
    if compact.shape[0] != len(into):
        raise ArgumentError(
            "weight", tuple(compact.shape), f"{len(into)} kernels, one for each connection of the table"
        )
    _check_maps(table, in_channels)
    whole = compact.new_zeros((len(table), in_channels, *compact.shape[1:]))
    whole[into, out_of] = compact
    return whole


def gather_kernels(whole: Tensor, table: Table) -> Tensor:
    """The adjoint of ``scatter_kernels``: the connected kernels of (out, in, *kernel), in the table's order."""
    into, out_of = connections(table, whole.device)
    if whole.shape[0] != len(table):
        raise ArgumentError("weight", tuple(whole.shape), f"{len(table)} output maps, as the table has")
    _check_maps(table, whole.shape[1])
    return whole[into, out_of]


def connections(table: Table, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Index vectors (output map, input map) of all connections, row by row."""
    into = [j for j, row in enumerate(table) for _ in row]
    out_of = [i for row in table for i in row]
    return torch.tensor(into, device=device), torch.tensor(out_of, device=device)


def _check_maps(table: Table, in_channels: int) -> None:
    last = max(max(row) for row in table)
    if last >= in_channels:
        raise ArgumentError("table", last, f"input maps below {in_channels}")
