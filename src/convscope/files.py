"""Files that are either whole or not there at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

PART = ".part"  # how the name of an unfinished file ends


def check_regular(path: Path) -> None:
    """OSError for what is there but no file: a pipe that nobody writes to would be waited for, a device read, for ever;
    and for a name that no file can have."""
    try:
        kind = path.stat().st_mode
    except ValueError as error:
        raise OSError(errno.EINVAL, f"No file has such a name ({error})") from None
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise OSError(errno.EINVAL, "Is no file but a pipe, a socket or a device")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write under; when the block ends well it is synced and renamed to ``path``.

    Whatever goes wrong, ``path`` holds what it held before and the temporary file is gone. OSError goes on up.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def clear_unfinished(folder: Path) -> None:
    """Remove what killed processes have left half-written in ``folder``, which nobody else may be using: files of ours,
    and those that safetensors writes on the way to ours."""
    for unfinished in [*folder.glob(f".*{PART}"), *folder.glob(".tmp*")]:
        unfinished.unlink()


def write_text(path: Path, text: str) -> None:
    """``text`` as UTF-8 at ``path``, whole or not at all.

    The name of a file may hold bytes that are no UTF-8 (PEP 383); they become ``\\udc…``, which JSON reads as what was.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def append_line(path: Path, text: str) -> None:
    """``text`` and a line feed at the end of ``path``, as ``write_text`` writes it."""
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text + "\n")


class InUseError(Exception):
    """Another process holds a lock; ``holder`` is its number."""

    def __init__(self, path: Path, holder: str) -> None:
        self.path, self.holder = path, holder
        super().__init__(f"{path} is held by process {holder}")


@contextlib.contextmanager
def locked(path: Path, patience: float = 30.0) -> Iterator[int]:
    """Hold the file ``path`` as a lock, and yield its descriptor; the lock goes with the process, even a killed one.

    Processes that inherit the descriptor hold it too. Where the process that took it is gone and only such heirs are
    left, they are waited for, ``patience`` seconds at most. InUseError when somebody holds it; OSError goes on up.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace")
                if _lives(holder) or time.monotonic() > until:
                    raise InUseError(path, holder or "unknown") from None
                time.sleep(0.02)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _lives(process: str) -> bool:
    """Whether the process of this number is there."""
    try:
        os.kill(int(process), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Bring the new name itself to the disk; file systems that cannot are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
