"""Writing a file so that it is whole or not there at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO

from convscope.errors import DataError
from convscope.files import replacing


def write_whole(path: Path, fill: Callable[[IO[bytes]], object]) -> Path:
    """Let ``fill`` write the file; missing folders are made.

    What was at ``path`` stays until the new file is complete. Raises DataError where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            fill(file)
    except OSError as error:
        raise DataError(path, f"cannot be written ({error.strerror})", "Choose another place for it") from error
    return path
