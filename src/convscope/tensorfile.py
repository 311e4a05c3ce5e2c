"""Files that are either whole or not there: written under a temporary name, brought to the disk, then renamed; and
safetensors files that know their own checksum."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save_file

from convscope import files
from convscope.errors import CheckpointError

_UNKNOWN = "0" * 64
_CHECKSUM = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


_PLAIN_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than the system allows",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "there is a file of that name",
}


def write_file(path: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write a temporary file beside ``path``, fsync it and rename it to ``path``.

    Whatever goes wrong, ``path`` holds what it held before. Raises CheckpointError for a full disk, a folder that
    cannot be written or any other trouble of the file system.
    """
    try:
        with files.replacing(path) as temporary:
            fill(temporary)
    except (OSError, SafetensorError) as problem:
        raise CheckpointError(path, explain(problem), "What was there before is untouched") from problem


def write_text(path: Path, text: str) -> None:
    """``write_file`` for a text."""
    write_file(path, lambda temporary: _write_all(temporary, text))


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> None:
    """A safetensors file with ``description`` (JSON values) under "convscope" in its metadata, and a SHA-256 over every
    byte of the file, the checksum's own 64 digits taken as zeros."""
    # Copies: a flat buffer's views, tied and channels-last weights become tensors of their own.
    copies = {
        name: each.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, each in tensors.items()
    }
    metadata = {"format": "pt", "convscope": json.dumps(description, allow_nan=False), "sha256": _UNKNOWN}

    def fill(temporary: Path) -> None:
        save_file(copies, temporary, metadata=metadata)
        with temporary.open("rb+") as file:
            head = file.read(8)
            header = file.read(int.from_bytes(head, "little"))
            found = _CHECKSUM.search(header)
            assert found is not None
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(8 + found.start(1))
            file.write(digest.encode())
            file.flush()

    write_file(path, fill)


def read_tensors(path: Path, content: bytes | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and description of a file that ``write_tensors`` wrote; of its ``content`` when that was read before.

    Raises CheckpointError for a file that is missing, cut short, changed in any byte, or not such a file.
    """
    content = read_bytes(path) if content is None else content
    metadata = check(path, content)
    try:
        description = json.loads(metadata["convscope"])
        return tensors_from_bytes(content), description
    except (ValueError, SafetensorError) as problem:
        raise CheckpointError(path, f"not a whole safetensors file ({problem})") from problem


def read_description(path: Path) -> dict[str, Any]:
    """The description alone, after the same checks."""
    metadata = check(path, read_bytes(path))
    described: dict[str, Any] = json.loads(metadata["convscope"])
    return described


def read_bytes(path: Path) -> bytes:
    """The whole file; CheckpointError when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(path, "no such file") from None
    except OSError as problem:
        raise CheckpointError(path, explain(problem)) from problem


def check(path: Path, content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file of ours, after checking every byte of it against the checksum.

    Raises CheckpointError; ``path`` is only for its text.
    """
    length = int.from_bytes(content[:8], "little")
    if length > _LARGEST_HEADER or content[8:9] != b"{":
        raise CheckpointError(path, *_foreign(content))
    if 8 + length > len(content):
        raise CheckpointError(path, f"cut short: {len(content):,} bytes, its header alone has {8 + length:,}")
    try:
        header = json.loads(content[8 : 8 + length])
        metadata = header.get("__metadata__", {})
        ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as problem:
        raise CheckpointError(path, f"its header is damaged ({problem})") from problem
    if "convscope" not in metadata and "sha256" not in metadata:
        names = [name for name in header if name != "__metadata__"]
        raise CheckpointError(
            path,
            f"it holds weights alone ({len(names)} tensors: {names[0] if names else 'none'!r}, …), no architecture",
            "Build the model with create_model(name) and put the weights into it with "
            "model.load_state_dict(safetensors.torch.load_file(path)); convscope.save then makes a complete file",
        )
    if any(not isinstance(end, int) for end in ends) or 8 + length + max(ends, default=0) > len(content):
        raise CheckpointError(path, f"cut short: {len(content):,} bytes of {8 + length + max(ends, default=0):,}")
    found = _CHECKSUM.search(content, 8, 8 + length)
    if found is None or "convscope" not in metadata:
        raise CheckpointError(path, "its header is damaged (no checksum)")
    expected = found.group(1).decode()
    digest = hashlib.sha256(memoryview(content)[: found.start(1)])
    digest.update(_UNKNOWN.encode())
    digest.update(memoryview(content)[found.end(1) :])
    if digest.hexdigest() != expected:
        raise CheckpointError(path, "damaged: the content does not fit its checksum")
    return dict(metadata)


def _foreign(content: bytes) -> tuple[str, str]:
    """What is wrong with a file that does not begin as safetensors do: 8 bytes of header length, then "{"."""
    if len(content) <= 8:
        return f"cut short: {len(content)} bytes", ""
    if content.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        return (
            "a pickled torch file, which can run code when it is opened; convscope reads safetensors only",
            "Convert it once: safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')",
        )
    return "not a safetensors file, or its first bytes are damaged", ""


def explain(problem: Exception) -> str:
    """What went wrong in the file system, in plain words."""
    text, number = str(problem), getattr(problem, "errno", None)
    inside = re.search(r"os error (\d+)", text)  # how safetensors reports it
    if number is None and inside is not None:
        number = int(inside.group(1))
    if number is None:
        return text
    return _PLAIN_WORDS.get(number) or os.strerror(number)


def _write_all(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
