from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope.data.ragged import Ragged
from convscope.errors import ArgumentError

ROWS = [[3, 1, 4], [], [1], [5, 9, 2, 6]]


def test_rows_one_after_another() -> None:
    ragged = Ragged.of(ROWS)
    assert len(ragged) == 4
    assert [row.tolist() for row in ragged] == ROWS
    assert ragged[-1].tolist() == [5, 9, 2, 6]
    assert ragged.lengths.tolist() == [3, 0, 1, 4]
    assert ragged.offsets.tolist() == [0, 3, 3, 4, 8]
    assert ragged.values.dtype == torch.int64
    with pytest.raises(IndexError, match="row 4 of 4"):
        ragged[4]
    assert len(Ragged.of([])) == 0


@given(
    rows=st.lists(st.lists(st.integers(1, 99), max_size=6), min_size=1, max_size=8),
    picks=st.lists(st.integers(0, 7), max_size=9),
    ends=st.tuples(st.booleans(), st.booleans()),
)
@settings(max_examples=60, deadline=None)
def test_selecting_and_padding_as_a_loop_does(rows: list[list[int]], picks: list[int], ends: tuple[bool, bool]) -> None:
    ragged = Ragged.of(rows)
    places = [pick % len(rows) for pick in picks]
    indices = torch.tensor(places, dtype=torch.int64)
    assert [row.tolist() for row in ragged.select(indices)] == [rows[place] for place in places]
    before, after = (100 if ends[0] else None), (200 if ends[1] else None)
    wanted = [[100] * ends[0] + rows[place] + [200] * ends[1] for place in places]
    longest = max(map(len, wanted), default=0)
    padded, lengths = ragged.padded(indices, -1, before=before, after=after)
    assert padded.tolist() == [row + [-1] * (longest - len(row)) for row in wanted]
    assert lengths.tolist() == [len(row) for row in wanted]
    assert padded.shape == (len(places), longest)


def test_rows_of_boxes() -> None:
    boxes = Ragged.of([torch.ones(2, 4), torch.zeros(0, 4), torch.full((1, 4), 3.0)], torch.float32)
    assert boxes.values.shape == (3, 4)
    assert boxes.select(torch.tensor([2, 1])).values.tolist() == [[3, 3, 3, 3]]


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 1, 3]])
def test_offsets_that_cannot_be(offsets: list[int]) -> None:
    with pytest.raises(ArgumentError, match="offsets: got .*, wanted rising places from 0 to 3"):
        Ragged(torch.arange(3), torch.tensor(offsets))
    with pytest.raises(ArgumentError, match="offsets: got .*, wanted an int64 tensor of shape"):
        Ragged(torch.arange(3), torch.tensor([0.0, 3.0]))
