"""Published files from the network: resumed where they broke off, checked by their checksum, unpacked safely.

A file grows as ``NAME.part`` and takes its name only once its checksum is right. Mirrors are tried in order. Without a
network the error says which files to put into which folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from convscope.data.catalog import Remote
from convscope.data.files import make_folder
from convscope.errors import DataError
from convscope.files import replacing

Progress = Callable[[str, int, int | None], None]
TIMEOUT = 20.0  # seconds without a byte
_CHUNK = 1 << 18  # bytes between two calls of progress
_RETRIES = 3  # of one mirror in a row without a byte gained, each going on where the last broke off


class _NoConnectionError(DataError):
    """A host that does not answer, whatever the file."""


def obtain(
    name: str,
    remotes: Sequence[Remote],
    folder: Path,
    *,
    download: bool = True,
    progress: Progress | None = None,
) -> None:
    """See to it that ``folder`` has all ``remotes``: unpack archives that lie there, download what is missing.

    Raises DataError naming every file still missing, the folder, and the addresses, with the reason.
    """
    missing = [remote for remote in remotes if not remote.present(folder)]
    allowed = download and os.environ.get("CONVSCOPE_OFFLINE", "0") in ("", "0")
    reasons: list[str] = []
    wanting: list[Remote] = []
    silent: dict[str, str] = {}
    for remote in missing:
        archive = folder / remote.name
        try:
            if not (remote.unpack and archive.is_file()):
                if not (allowed and remote.urls):
                    wanting.append(remote)
                    continue
                fetch(remote, folder, progress, silent)
            elif remote.checksum:
                _verify(archive, remote.checksum)
        except DataError as error:
            wanting.append(remote)
            reasons.append(error.problem)
            continue
        if remote.unpack:
            unpack(archive, folder)
    if wanting:
        why = "; ".join(dict.fromkeys(reasons)) or (
            "it is to be fetched by hand" if allowed else "downloading is switched off"
        )
        raise DataError(folder, f"{name} is not complete ({why})", _what_to_do(wanting, folder))


def _what_to_do(wanting: Sequence[Remote], folder: Path) -> str:
    files = ", ".join(remote.name for remote in wanting)
    addresses = {remote.page or url.rpartition("/")[0] for remote in wanting for url in (*remote.urls, "")[:1]} - {""}
    told = f"Put {files} into the folder {folder}"
    return told + (f"; published at {', '.join(sorted(addresses))}" if addresses else "")


def fetch(remote: Remote, folder: Path, progress: Progress | None = None, silent: dict[str, str] | None = None) -> Path:
    """Download ``remote`` into ``folder`` from the first mirror that has it whole; DataError if none has.

    ``silent`` (host → why) is what could not be reached before: it is not asked again, since each try may take
    TIMEOUT seconds, and what cannot be reached now is added.
    """
    silent = {} if silent is None else silent
    path, part = folder / remote.name, folder / (remote.name + ".part")
    try:
        make_folder(folder)
        with _alone(part):
            if path.is_file():  # another process was faster
                return path
            reasons: list[str] = []
            for url in remote.urls:
                host = urllib.parse.urlsplit(url).netloc
                if host in silent:
                    reasons.append(f"{host}: {silent[host]}")
                    continue
                for left_over in (part.exists(), False):
                    try:
                        _download(url, part, remote.name, progress)
                        _verify(part, remote.checksum)
                    except _NoConnectionError as error:
                        silent[host] = error.problem
                        reasons.append(f"{host}: {error.problem}")
                        break
                    except DataError as error:
                        if left_over and not part.exists():
                            continue  # what had been left over was of another file: once more, from nothing
                        reasons.append(f"{url}: {error.problem}")
                        break
                    part.replace(path)
                    return path
    except OSError as error:
        raise DataError(path, f"cannot be written: {error.strerror or error}") from error
    raise DataError(path, "download failed: " + "; ".join(reasons))


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the regular files of a tar archive into ``folder``, each under a temporary name first.

    Raises DataError for a damaged archive, and for a member that is a link, a device, or would land outside ``folder``.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                place = PurePosixPath(member.name)
                if place.is_absolute() or ".." in place.parts or "\\" in member.name:
                    raise DataError(archive, f"member {member.name!r} would land outside the folder", "Do not trust it")
                if member.isdir():
                    continue
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    raise DataError(archive, f"member {member.name!r} is not a regular file", "Do not trust it")
                target = folder / place
                target.parent.mkdir(parents=True, exist_ok=True)
                with replacing(target) as temporary, temporary.open("wb") as file:
                    while chunk := content.read(_CHUNK):
                        file.write(chunk)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(archive, f"damaged archive ({error})", "Remove it and fetch it again") from error
    except OSError as error:
        raise DataError(archive, f"cannot be unpacked: {error.strerror or error}") from error


def _download(url: str, part: Path, name: str, progress: Progress | None) -> None:
    """``url`` into ``part``, going on after the bytes that are there; DataError when it cannot be had."""
    failures = 0
    while True:
        before = _size(part)
        try:
            _request(url, part, name, progress)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416 and part.exists():  # nothing after these bytes: whole already, or not this file's
                return
            raise DataError(part, f"HTTP status {error.code} {error.reason}") from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = getattr(error, "reason", None) or error
            failures = 1 if _size(part) > before else failures + 1
            if failures == _RETRIES or not _size(part):
                kind = DataError if _size(part) else _NoConnectionError
                raise kind(part, f"no connection ({reason})") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _request(url: str, part: Path, name: str, progress: Progress | None) -> None:
    done = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "convscope", "Accept-Encoding": "identity"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status != 206:  # the server sends the whole file, whatever was asked for
            done = 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        with part.open("ab" if done else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(name, done, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and done < total:
        raise http.client.IncompleteRead(b"", total - done)


def _verify(path: Path, checksum: str) -> None:
    """DataError where the file's checksum differs; a wrong ``.part`` is removed, since it cannot be gone on with."""
    if not checksum:
        return
    kind, wanted = checksum.split(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != wanted:
        if path.suffix == ".part":
            path.unlink()
        raise DataError(path, f"{kind} checksum of {path.name.removesuffix('.part')} is {found}, published is {wanted}")


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Only one process downloads a file; the others wait for it. Where there is no flock, nobody waits."""
    with part.with_suffix(".lock").open("wb") as lock:
        try:
            import fcntl
        except ImportError:
            fcntl = None  # type: ignore[assignment]
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            part.with_suffix(".lock").unlink(missing_ok=True)
