"""How a run's data were asked for, kept in its folder, so that resuming and evaluating ask for the same again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from convscope.errors import CheckpointError

_FILE = "data.json"
_REMEDY = "Give --data (with --root and --data-option) as it was"


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
    """Raises CheckpointError where the folder cannot be written."""
    from convscope import tensorfile

    tensorfile.write_text(folder / _FILE, json.dumps(asked, ensure_ascii=False) + "\n")


def read_request(folder: Path) -> Request | None:
    """The folder's request; None where there is none (a run that Python code began).

    CheckpointError for a damaged one: with other data than were asked for the run would not be the same.
    """
    from convscope import tensorfile

    path = folder / _FILE
    if not path.exists():
        return None
    try:
        found = tensorfile.read_json(path)
    except CheckpointError as problem:
        raise CheckpointError(path, problem.problem, _REMEDY) from problem
    match found:
        case {"data": str(data), "root": None | str() as root, "options": list(options)} if all(
            isinstance(each, str) for each in options
        ):
            return {"data": data, "root": root, "options": options}
    raise CheckpointError(path, "damaged: wanted data, root and options as texts", _REMEDY)
