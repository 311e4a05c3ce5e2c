"""Whether the compiled engine is here, and if not, why."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from convscope.errors import ConvscopeError


class EngineUnavailableError(ConvscopeError):
    """The native engine was asked for, but is not built for this Python or this processor."""


def available() -> bool:
    """Whether the native engine can be used."""
    return problem() is None


def engine() -> Any:
    """The compiled extension; EngineUnavailableError says why there is none."""
    found, trouble = _load()
    if found is None:
        raise EngineUnavailableError(f"the native engine is not available: {trouble}. Training falls back to torch")
    return found


def problem() -> str | None:
    """Why the engine cannot be used; None when it can."""
    return _load()[1]


@functools.cache
def _load() -> tuple[Any, str | None]:
    try:
        import convscope.native._engine as _engine
    except ModuleNotFoundError as trouble:
        return None, _noted() or f"{trouble}"
    except ImportError as trouble:
        return None, f"{trouble}"
    return _engine, None


def _noted() -> str | None:
    """Why the installation left the engine out, as it noted it."""
    from convscope import native

    for folder in native.__path__:  # several where the package is installed editable
        note = Path(folder) / "unbuilt.txt"
        if note.is_file():
            return note.read_text(encoding="utf-8").strip()
    return None
