"""What goes over the socket: requests as JSON, answers as JSON or as a header with bytes behind it; all checked."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Mapping
from typing import Any

from convscope.errors import ArgumentError

MAX_TEXT = 256 * 1024
MAX_BINARY = 4 * 1024 * 1024
_LENGTH = struct.Struct("<I")


class ProtocolError(ArgumentError):
    """A message that is not what the protocol says; the connection stays open."""


@dataclasses.dataclass(frozen=True)
class Request:
    """``id`` comes back with the answer; ``op`` names what is wanted; ``payload`` are the bytes of a binary request.
    ``version`` is that of the frame that the page shows: the answer belongs to it, or there is none."""

    id: int
    op: str
    args: Mapping[str, Any]
    payload: bytes = b""
    version: int | None = None


@dataclasses.dataclass(frozen=True)
class Reply:
    """JSON values, and bytes that they describe (sent as a binary frame when there are any)."""

    values: Mapping[str, Any]
    data: bytes | None = None


def parse_text(text: str) -> Request:
    """``{"id": 3, "op": "forward", "args": {…}}``; ProtocolError says what is wrong with anything else."""
    if len(text) > MAX_TEXT:
        raise ProtocolError("message", f"{len(text):,} characters", f"at most {MAX_TEXT:,}")
    try:
        message = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("message", text[:80], f"JSON ({error})") from error
    return _request(message, b"")


def parse_binary(frame: bytes) -> Request:
    """4 bytes little-endian: the header's length; the header, JSON as above; the payload."""
    if len(frame) > MAX_BINARY:
        raise ProtocolError("message", f"{len(frame):,} bytes", f"at most {MAX_BINARY:,}")
    if len(frame) < 4:
        raise ProtocolError("message", f"{len(frame)} bytes", "a header length and a header")
    (length,) = _LENGTH.unpack_from(frame)
    if length > len(frame) - 4 or length > MAX_TEXT:
        raise ProtocolError("message", f"a header of {length:,} bytes", f"one within the frame's {len(frame):,}")
    try:
        message = json.loads(frame[4 : 4 + length].decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("message", repr(frame[4:84]), f"a JSON header ({error})") from error
    return _request(message, frame[4 + length :])


def pack(header: Mapping[str, Any], data: bytes) -> bytes:
    """A binary frame; the header is padded so that the data starts at a multiple of 8 bytes, as typed arrays need."""
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return _LENGTH.pack(len(text)) + text + data


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become strings."""
    # Most values are of a plain type itself, which is told at once. A union of types takes several times as long to ask
    # for, and a Mapping, an abstract class, longer still.
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (dict, Mapping)):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


class Arguments:
    """Typed access to a request's arguments; each getter raises ProtocolError naming what it did not like."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def text(self, name: str, default: str | None = None, choices: tuple[str, ...] = ()) -> str:
        value = self.values.get(name, default)
        if not isinstance(value, str) or len(value) > 1000:
            raise ProtocolError(name, value, "a text")
        if choices and value not in choices:
            raise ProtocolError(name, value, f"one of {', '.join(choices)}")
        return value

    def integer(self, name: str, default: int | None = None, low: int = 0, high: int = 2**31) -> int:
        value = self.values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ProtocolError(name, value, f"an integer from {low} to {high}")
        return value

    def number(self, name: str, default: float | None = None, low: float = -1e30, high: float = 1e30) -> float:
        value = self.values.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise ProtocolError(name, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def optional_integer(self, name: str) -> int | None:
        return None if self.values.get(name) is None else self.integer(name)

    def index(self, name: str) -> tuple[int, ...]:
        value = self.values.get(name)
        fits = isinstance(value, list) and len(value) <= 8
        if not fits or any(not isinstance(at, int) or isinstance(at, bool) for at in value or ()):
            raise ProtocolError(name, value, "a list of at most 8 integers")
        assert isinstance(value, list)
        return tuple(value)

    def texts(self, name: str, most: int = 1000) -> tuple[str, ...]:
        value = self.values.get(name, [])
        if not isinstance(value, list) or len(value) > most or any(not isinstance(item, str) for item in value):
            raise ProtocolError(name, value, f"a list of at most {most} texts")
        return tuple(value)


def _request(message: Any, payload: bytes) -> Request:
    if not isinstance(message, dict):
        raise ProtocolError("message", type(message).__name__, 'an object {"id", "op", "args"}')
    number, op, args = message.get("id"), message.get("op"), message.get("args", {})
    if not isinstance(number, int) or isinstance(number, bool):
        raise ProtocolError("id", number, "an integer")
    if not isinstance(op, str):
        raise ProtocolError("op", op, "a text")
    if not isinstance(args, dict):
        raise ProtocolError("args", args, "an object")
    version = message.get("version")
    if version is not None and (not isinstance(version, int) or isinstance(version, bool)):
        raise ProtocolError("version", version, "an integer")
    return Request(number, op, args, payload, version)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
