"""What several processes share: how long they wait for each other, and who says that one was lost."""

from __future__ import annotations

import threading

import pytest
from torch import distributed

from convscope.errors import ArgumentError
from convscope.training import Config
from convscope.training import distributed as ours


def test_how_long_another_process_is_waited_for() -> None:
    assert Config.of(process_timeout=20).process_timeout == 20
    with pytest.raises(ArgumentError, match="process_timeout: got 0, wanted a number > 0"):
        Config.of(process_timeout=0)


class Store:
    """Where torchrun lets processes meet; it is silent where the machine that keeps it is gone."""

    def __init__(self, silent: bool = False) -> None:
        self.count, self.silent = 0, silent

    def add(self, key: str, value: int) -> int:
        if self.silent:
            threading.Event().wait(2)
            raise RuntimeError("Broken pipe")
        self.count += value
        return self.count


def test_one_of_those_that_are_left_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    monkeypatch.setattr(distributed.distributed_c10d, "_get_default_store", lambda: store)
    assert [ours._first_to_tell() for _ in range(3)] == [True, False, False]


def test_everyone_speaks_where_the_meeting_place_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.distributed_c10d, "_get_default_store", lambda: Store(silent=True))
    monkeypatch.setattr(ours, "_ANSWER", 0.01)
    assert ours._first_to_tell()
    monkeypatch.setattr(ours, "_ANSWER", 1.0)
    monkeypatch.setattr(distributed.distributed_c10d, "_get_default_store", lambda: exec("raise ValueError"))
    assert ours._first_to_tell()
