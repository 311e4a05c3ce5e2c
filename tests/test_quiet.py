"""Silence that ends when the last thread has left, whatever the order."""

from __future__ import annotations

import threading
import warnings

import pytest

from convscope.quiet import quiet


def warn(module: str) -> None:
    warnings.warn_explicit("odd", UserWarning, "file.py", 1, module)


def test_only_what_reads_files_is_silenced() -> None:
    before = list(warnings.filters)
    with quiet():
        warn("PIL.TiffImagePlugin")
        warn("torch.storage")
        with pytest.warns(UserWarning, match="odd"):
            warn("pillage")
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="odd"):
        warn("PIL.TiffImagePlugin")


def test_threads_that_come_and_go_in_any_order_leave_nothing_behind() -> None:
    before = list(warnings.filters)
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()
    seen: list[str] = []

    def first() -> None:
        with quiet():
            first_in.set()
            second_in.wait(10)
        first_out.set()

    def second() -> None:
        first_in.wait(10)
        with quiet():
            second_in.set()
            first_out.wait(10)
            warn("PIL.Image")  # would be an error here, were it not for the silence
            seen.append("silent")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == ["silent"]
    assert list(warnings.filters) == before
