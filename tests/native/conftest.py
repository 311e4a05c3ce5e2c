"""The reference engine for tests of the Python face, and the instruction sets and threads for tests of the engine."""

from __future__ import annotations

import types
from collections.abc import Iterator

import pytest
from tests.native import reference

from convscope.native import availability


@pytest.fixture
def reference_engine(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Networks are run by plain torch operations."""
    monkeypatch.setattr(availability, "_load", lambda: (reference, None))
    return reference


@pytest.fixture(params=["reference", "engine"])
def any_engine(request: pytest.FixtureRequest) -> str:
    """The reference engine, and the compiled one where it is built."""
    if request.param == "reference":
        request.getfixturevalue("reference_engine")
    elif not availability.available():
        pytest.skip(f"the engine is not built: {availability.problem()}")
    return str(request.param)


@pytest.fixture(autouse=True)
def _unchecked(request: pytest.FixtureRequest) -> Iterator[None]:
    """The engine's own numbers are under test here: where they are wrong torch's must not come in their place."""
    from convscope.native import checking

    with checking("checked" in request.fixturenames):
        yield


@pytest.fixture
def checked() -> None:
    """Networks compare their first calls with torch."""
