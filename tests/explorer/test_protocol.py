"""Messages: what is well formed comes through, everything else is refused with a reason."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convscope.explorer.protocol import MAX_BINARY, Arguments, ProtocolError, finite, pack, parse_binary, parse_text


def test_requests_come_through() -> None:
    request = parse_text('{"id": 7, "op": "frame", "args": {"quantity": "delta"}}')
    assert (request.id, request.op, request.args["quantity"]) == (7, "frame", "delta")
    header = json.dumps({"id": 1, "op": "show_pixels"}).encode()
    found = parse_binary(struct.pack("<I", len(header)) + header + b"\x00\xff")
    assert (found.op, found.payload) == ("show_pixels", b"\x00\xff")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "wanted JSON"),
        ("[1, 2]", "message: got 'list', wanted an object"),
        ('{"op": "hello"}', "id: got None"),
        ('{"id": true, "op": "hello"}', "id: got True"),
        ('{"id": 1, "op": 5}', "op: got 5"),
        ('{"id": 1, "op": "hello", "args": []}', r"args: got \[\]"),
        ('{"id": 1, "op": "hello", "version": "2"}', "version: got '2'"),
        ('{"id": 1, "op": "hello", "args": {"x": NaN}}', "NaN is not JSON"),
        ("[" * 5000, "wanted JSON"),
        ('"' + "x" * 300_000 + '"', "at most"),
    ],
)
def test_malformed_text_is_refused(text: str, match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        parse_text(text)


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (b"", "0 bytes"),
        (struct.pack("<I", 999) + b"{}", "a header of 999 bytes"),
        (struct.pack("<I", 2) + b"\xff\xfe", "a JSON header"),
        (bytes(MAX_BINARY + 1), "at most"),
    ],
)
def test_malformed_frames_are_refused(frame: bytes, match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        parse_binary(frame)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(frame: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        parse_binary(frame)


def test_packed_data_is_aligned_for_typed_arrays() -> None:
    for length in range(20):
        packed = pack({"x": "y" * length}, b"data")
        (size,) = struct.unpack_from("<I", packed)
        assert (4 + size) % 8 == 0
        assert packed[4 + size :] == b"data"


def test_what_json_cannot_say_becomes_text() -> None:
    assert finite({"a": [float("nan"), 1.0], "b": float("inf")}) == {"a": ["nan", 1.0], "b": "inf"}


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda a: a.text("name"), "name: got 5, wanted a text"),
        (lambda a: a.text("kind", None, ("x", "y")), "kind: got 'z', wanted one of x, y"),
        (lambda a: a.integer("name", high=3), "name: got 5, wanted an integer from 0 to 3"),
        (lambda a: a.integer("flag"), "flag: got True"),
        (lambda a: a.number("kind"), "kind: got 'z', wanted a number"),
        (lambda a: a.index("list"), "list: got .* a list of at most 8 integers"),
        (lambda a: a.texts("list"), "list: got .* a list of at most"),
    ],
)
def test_arguments_are_typed(call: Any, match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        call(Arguments({"name": 5, "kind": "z", "flag": True, "list": ["a", 1]}))
