"""Rows of different length, one after another in one tensor: sentences, and the boxes of pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from convscope.errors import ArgumentError


@dataclasses.dataclass(frozen=True, eq=False)
class Ragged:
    """Row i is ``values[offsets[i] : offsets[i + 1]]``.

    ``values`` is (k, …) of any type, ``offsets`` int64 (n + 1,), beginning with 0, never falling, ending with k.
    """

    values: Tensor
    offsets: Tensor

    def __post_init__(self) -> None:
        offsets = self.offsets
        if offsets.dtype != torch.int64 or offsets.ndim != 1 or len(offsets) == 0:
            raise ArgumentError("offsets", tuple(offsets.shape), "an int64 tensor of shape (rows + 1,)")
        if offsets[0] != 0 or offsets[-1] != len(self.values) or bool((offsets.diff() < 0).any()):
            raise ArgumentError("offsets", offsets.tolist()[:5], f"rising places from 0 to {len(self.values)}")

    @classmethod
    def of(cls, rows: Iterable[Sequence[int] | Tensor], dtype: torch.dtype = torch.int64) -> Ragged:
        """Rows of numbers, put together."""
        tensors = [row if isinstance(row, Tensor) else torch.tensor(row, dtype=dtype) for row in rows]
        lengths = torch.tensor([0, *map(len, tensors)], dtype=torch.int64)
        values = torch.cat(tensors) if tensors else torch.zeros(0, dtype=dtype)
        return cls(values.to(dtype), lengths.cumsum(0))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Tensor:
        """Row ``index``; negative ones count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        return self.values[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    @property
    def lengths(self) -> Tensor:
        """int64 (n,)."""
        return self.offsets.diff()

    def places(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Where the values of ``rows`` stand, one row after another, int64 (k,), and how many each has, int64 (n,)."""
        lengths = self.lengths[rows]
        ends = lengths.cumsum(0)
        within = torch.arange(int(lengths.sum())) - torch.repeat_interleave(ends - lengths, lengths)
        return torch.repeat_interleave(self.offsets[rows], lengths) + within, lengths

    def select(self, rows: Tensor) -> Ragged:
        """Only these rows, in this order."""
        places, lengths = self.places(rows)
        return Ragged(self.values[places], torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))

    def padded(
        self, rows: Tensor, fill: int = 0, *, before: int | None = None, after: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """``rows`` side by side in one tensor (n, longest), filled up behind with ``fill``, and their lengths (n,).

        ``before`` and ``after`` are values put in front of and behind each row; they count in the lengths.
        """
        places, lengths = self.places(rows)
        first = int(before is not None)
        full = lengths + first + int(after is not None)
        result = torch.full((len(rows), int(full.max()) if len(rows) else 0), fill, dtype=self.values.dtype)
        columns = torch.arange(result.shape[1])
        inside = (columns >= first) & (columns < (lengths + first)[:, None])
        result[inside] = self.values[places]
        if before is not None and len(rows):
            result[:, 0] = before
        if after is not None:
            result[torch.arange(len(rows)), full - 1] = after
        return result, full
