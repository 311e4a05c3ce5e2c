"""Registries: what is found, and that threads which ask at the same time find the same."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from convscope.errors import UnknownNameError
from convscope.registry import Discovery, Registry

THREADS = 4


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of slow modules, each of which enrols itself with ``things``, which the package itself holds."""
    folder = tmp_path / "slow_things"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from convscope.registry import Registry\nthings = Registry('thing', __name__)\nfails = []\n"
    )
    for name in ("first", "second", "third"):
        (folder / f"{name}.py").write_text(
            "import time\nfrom slow_things import fails, things\ntime.sleep(0.05)\n"
            f"assert {name!r} not in fails\n"
            f"seen = things.names()\nthings.add({name!r}, {name!r})\n"  # a module that looks into the registry itself
        )
    monkeypatch.syspath_prepend(tmp_path)
    yield "slow_things"
    for name in [name for name in sys.modules if name.split(".")[0] == "slow_things"]:
        del sys.modules[name]


def together(*works: object) -> list[object]:
    """What each of the works gives, all begun at the same moment in threads of their own."""
    barrier = threading.Barrier(len(works))
    found: list[object] = [None] * len(works)

    def run(place: int, work: object) -> None:
        barrier.wait()
        found[place] = work()  # type: ignore[operator]

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def test_threads_that_ask_at_once_all_see_everything(package: str) -> None:
    import slow_things  # type: ignore[import-not-found]

    things: Registry[str] = slow_things.things
    looks = [things.names, lambda: list(things), lambda: things["third"], lambda: "second" in things]
    names = ["first", "second", "third"]
    assert together(*looks[:THREADS]) == [names, names, "third", True]


def test_threads_that_discover_at_once_all_wait(package: str) -> None:
    discover = Discovery(package)

    def loaded() -> int:
        discover()
        return sum(name.startswith(f"{package}.") for name in sys.modules)

    assert together(*[loaded] * THREADS) == [3] * THREADS


def test_a_search_that_failed_is_made_again(package: str) -> None:
    import slow_things

    slow_things.fails.append("second")
    with pytest.raises(AssertionError):
        slow_things.things.names()
    slow_things.fails.clear()
    assert slow_things.things.names() == ["first", "second", "third"]


def test_unknown_name_offers_the_close_one() -> None:
    known: Registry[int] = Registry("fruit")
    known.register("apple")(1)
    with pytest.raises(UnknownNameError, match="fruit: got 'aple', wanted one of apple. Did you mean 'apple'"):
        _ = known["aple"]


def test_an_entry_is_first_looked_for_in_the_module_of_its_name(package: str) -> None:
    import slow_things

    things: Registry[str] = slow_things.things
    (Path(slow_things.__file__).parent / "fourth.py").write_text(
        "from slow_things import things\nthings.add('fourth', 'fourth')\nthings.add('fifth', 'fifth')\n"
    )
    assert things["fourth"] == "fourth"
    assert things["fifth"] == "fifth"
    assert f"{package}.first" not in sys.modules
    with pytest.raises(UnknownNameError, match="os"):
        things["os"]  # of no module below the package
    assert f"{package}.first" in sys.modules


def test_where_entries_have_modules_of_their_own_names_only_that_module_is_imported(package: str) -> None:
    import slow_things

    deep = Path(slow_things.__file__).parent / "deep"
    deep.mkdir()
    (deep / "__init__.py").write_text("")
    for name in ("fourth", "fifth"):
        (deep / f"{name}.py").write_text(f"import slow_things\nslow_things.own.add({name!r}, {name!r})\n")
    own = slow_things.own = Registry("own thing", package, in_own_modules=True)
    assert "sixth" not in own
    assert "no name" not in own
    assert own["fourth"] == "fourth"
    assert not [name for name in sys.modules if name in (f"{package}.first", f"{package}.deep.fifth")]
    assert own.names() == ["fifth", "fourth"]
    with pytest.raises(UnknownNameError, match="one of fifth, fourth"):
        own["sixth"]
