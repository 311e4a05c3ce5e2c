"""Files that are either whole or not there: written under a temporary name, brought to the disk, then renamed; and
safetensors files that know their own checksum."""

from __future__ import annotations

import errno
import hashlib
import json
import math
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
_NUMBER = "number"
_CHECKSUM = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_UNTOUCHED = "What was there before is untouched"
_NAME_IT = (
    "Say whose weights they are: convscope.create_model(NAME, weights=FILE) builds the model, and convscope.save makes "
    "a complete file of it. The commands train NAME --weights FILE and explore FILE --model NAME take the weights alone"
)
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
        raise CheckpointError(path, explain(problem), _UNTOUCHED) from problem


def write_text(path: Path, text: str) -> None:
    """``files.write_text`` with the errors of ``write_file``."""
    try:
        files.write_text(path, text)
    except OSError as problem:
        raise CheckpointError(path, explain(problem), _UNTOUCHED) from problem


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> None:
    """A safetensors file with ``description`` (JSON values) under "convscope" in its metadata, and a SHA-256 over every
    byte of the file, the checksum's own 64 digits taken as zeros.

    JSON has no nan and no infinity (the loss of a run that goes wrong may be one): they are written as objects,
    {"number": "nan"}, and come back as what they were.
    """
    # Copies: a flat buffer's views, tied and channels-last weights become tensors of their own.
    copies = {
        name: each.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, each in tensors.items()
    }
    metadata = {"format": "pt", "convscope": json.dumps(_finite(description), allow_nan=False), "sha256": _UNKNOWN}

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
    description = _description(path, metadata)
    try:
        return tensors_from_bytes(content), description
    except (ValueError, SafetensorError) as problem:
        raise CheckpointError(path, f"not a whole safetensors file ({problem})") from problem


def read_description(path: Path) -> dict[str, Any]:
    """The description alone, after the same checks."""
    return _description(path, check(path, read_bytes(path)))


def _description(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    described = parse_json(path, metadata["convscope"], "its description is damaged", hook=_as_number)
    if not isinstance(described, dict):
        raise CheckpointError(path, "its description is damaged (not an object)")
    return described


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_NUMBER: str(value)}
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def _as_number(value: dict[str, Any]) -> Any:
    return float(value[_NUMBER]) if value.keys() == {_NUMBER} and value[_NUMBER] in ("nan", "inf", "-inf") else value


def read_json(path: Path) -> Any:
    """The JSON value in ``path``; CheckpointError when it cannot be read or is damaged."""
    return parse_json(path, read_bytes(path), "damaged")


def parse_json(
    path: Path, content: str | bytes, problem: str, hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """The JSON value ``content``, read from ``path``; CheckpointError with ``problem`` when it is none. ``hook`` is
    given every object and says what it stands for."""
    try:
        return json.loads(content, object_hook=hook)
    except (ValueError, RecursionError) as error:  # the latter: brackets within brackets, thousands deep
        raise CheckpointError(path, f"{problem} ({error})") from error


def read_bytes(path: Path) -> bytes:
    """The whole file; CheckpointError when it cannot be read."""
    try:
        files.check_regular(path)
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
    header = _header(path, content, length)
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(each, str) for each in metadata.values()):
        raise CheckpointError(path, "its header is damaged (metadata that are no texts)")
    if "convscope" not in metadata and "sha256" not in metadata:
        names = [name for name in header if name != "__metadata__"]
        raise CheckpointError(
            path,
            f"it holds weights alone ({len(names)} tensors: {names[0] if names else 'none'!r}, …), no architecture",
            _NAME_IT,
        )
    _check_extent(path, content, header, 8 + length)
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


def _header(path: Path, content: bytes, length: int) -> dict[str, Any]:
    """The header of ``length`` bytes behind the first eight, every tensor with the offsets of its data."""
    if length > _LARGEST_HEADER or content[8:9] != b"{":
        raise CheckpointError(path, *_foreign(content))
    if 8 + length > len(content):
        raise CheckpointError(path, f"cut short: {len(content):,} bytes, its header alone has {8 + length:,}")
    header = parse_json(path, content[8 : 8 + length], "its header is damaged")
    if not isinstance(header, dict):
        raise CheckpointError(path, "its header is damaged (no names and values)")
    return header


def _check_extent(path: Path, content: bytes, header: dict[str, Any], data: int) -> None:
    """Whether all that the header tells of, behind the first ``data`` bytes, is there."""
    try:
        ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
    except (AttributeError, KeyError, TypeError, IndexError) as problem:
        raise CheckpointError(path, f"its header is damaged ({problem})") from problem
    if any(type(end) is not int for end in ends):
        raise CheckpointError(path, "its header is damaged (data offsets that are no integers)")
    if data + max(ends, default=0) > len(content):
        raise CheckpointError(path, f"cut short: {len(content):,} bytes of {data + max(ends, default=0):,}")


def _foreign(content: bytes) -> tuple[str, str]:
    """What is wrong with a file that does not begin as safetensors do: 8 bytes of header length, then "{"."""
    if len(content) <= 8:
        return f"cut short: {len(content)} bytes", ""
    if content.startswith((b"PK\x03\x04", b"\x80")):
        return (
            "written by torch.save: weights without an architecture, or Python objects, which are never opened",
            _NAME_IT,
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
    return _PLAIN_WORDS.get(number) or getattr(problem, "strerror", None) or os.strerror(number)
