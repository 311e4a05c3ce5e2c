"""Damaged files and killed runs, a few of each (``python -m tests.fuzz`` runs many)."""

from __future__ import annotations

import random

import pytest
from tests.fuzz import FORMATS, damaged, killed, mutated


def test_damage_is_damage_and_repeats() -> None:
    content = bytes(range(256)) * 3
    cases = [mutated(content, random.Random(number)) for number in range(200)]
    assert content not in cases
    assert cases == [mutated(content, random.Random(number)) for number in range(200)]
    assert len(set(cases)) > 190


@pytest.mark.long
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_give_a_result_or_an_error_of_our_own(name: str) -> None:
    assert damaged(name, 10) == {"clean": 10}


@pytest.mark.long
def test_killed_runs_end_as_if_nothing_had_happened() -> None:
    assert killed(3) == {"clean": 3}
