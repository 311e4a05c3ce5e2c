"""How a run's data were asked for, kept in its folder, so that resuming and evaluating ask for the same again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

_FILE = "data.json"


class Request(TypedDict):
    """``data`` a name or an absolute path, ``root`` an absolute path or None, ``options`` KEY=VALUE pairs."""

    data: str
    root: str | None
    options: list[str]


def request(data: str, root: Path | None, pairs: Sequence[str]) -> Request:
    """Paths are made absolute: the folder may be used from elsewhere."""
    place = Path(data)
    named = str(place.absolute()) if place.exists() else data
    return {"data": named, "root": None if root is None else str(root.absolute()), "options": list(pairs)}


def write_request(folder: Path, asked: Request) -> None:
    temporary = folder / f".{_FILE}.part"
    temporary.write_text(json.dumps(asked, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(folder / _FILE)


def read_request(folder: Path) -> Request | None:
    """The folder's request; None where there is none (a run that Python code began)."""
    try:
        found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        root = found["root"]
        return {
            "data": str(found["data"]),
            "root": root and str(root),
            "options": [str(each) for each in found["options"]],
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None
