"""Writing a file so that it is whole or not there at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from convscope.errors import DataError


def write_whole(path: Path, fill: Callable[[IO[bytes]], object]) -> Path:
    """Let ``fill`` write under a temporary name beside ``path``, sync it, then rename; missing folders are made.

    What was at ``path`` stays until the new file is complete. Raises DataError where it cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it readable by its owner only
        temporary.replace(path)
    except OSError as error:
        raise DataError(path, f"cannot be written ({error.strerror})", "Choose another place for it") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    return path
