"""The reference engine for tests of the Python face, and the instruction sets and threads for tests of the engine."""

from __future__ import annotations

import types

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
