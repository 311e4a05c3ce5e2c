"""Connections that are opened and left, or dribble their headers, keep nobody from the page."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from tests.explorer.fixtures import described, plain

from convscope.explorer import Handle, explore, waiting


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Handle]:
    monkeypatch.setattr(waiting, "SECONDS", 0.5)
    with explore(described(plain(), (3, 12, 12), 4), port=0) as opened:
        yield opened


def connection(handle: Handle, sent: bytes = b"") -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", handle.port), 30)
    opened.sendall(sent)
    return opened


def status(handle: Handle) -> int:
    return httpx.get(handle.url, timeout=30).status_code


def is_closed(opened: socket.socket) -> bool:
    """Whether the server has closed it, waiting for at most 30 s."""
    with contextlib.suppress(ConnectionResetError):
        while chunk := opened.recv(1000):
            assert chunk
    return True


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_three_hundred_half_open_connections(handle: Handle, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SECONDS", 3600.0)  # not time alone must free the way
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connection(handle, sent)) for _ in range(300)]
        assert status(handle) == 303
        assert sum(is_closed(each) for each in opened[:200]) == 200
        assert status(handle) == 303


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: local"])
def test_a_request_has_its_time(handle: Handle, sent: bytes) -> None:
    with connection(handle, sent) as opened:
        assert is_closed(opened)


def test_dribbling_gives_no_more_time(handle: Handle) -> None:
    deadline = time.monotonic() + 30
    with connection(handle, b"GET / HTTP/1.1\r\n") as opened:
        opened.settimeout(0.05)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while time.monotonic() < deadline:
                opened.sendall(b"X: y\r\n")
                with contextlib.suppress(TimeoutError):
                    if not opened.recv(1000):
                        break
    assert time.monotonic() < deadline


def test_a_second_request_on_the_same_connection_has_its_time_too(handle: Handle) -> None:
    whole = f"GET / HTTP/1.1\r\nHost: localhost:{handle.port}\r\n\r\n".encode()
    with connection(handle, whole) as opened:
        for _ in range(2):
            answer = http.client.HTTPResponse(opened)
            answer.begin()
            assert (answer.status, len(answer.read())) == (401, int(answer.headers["content-length"]))
            opened.sendall(whole[: len(whole) // 2])
            opened.sendall(whole[len(whole) // 2 :])
        answer = http.client.HTTPResponse(opened)
        answer.begin()
        answer.read()
        opened.sendall(b"GET / HTTP/1.1\r\nHo")
        assert is_closed(opened)


def test_a_page_that_is_open_stays_open(handle: Handle) -> None:
    from websockets.sync.client import connect
    from websockets.typing import Subprotocol

    protocols = [Subprotocol("convscope.v1"), Subprotocol(f"token.{handle.token}")]
    with connect(f"ws://127.0.0.1:{handle.port}/socket", subprotocols=protocols) as page:
        page.send('{"id": 1, "op": "hello", "args": {}}')
        first = page.recv(30)
        with connection(handle) as opened:
            assert is_closed(opened)  # half a second has passed
        page.send('{"id": 2, "op": "hello", "args": {}}')
        assert len(page.recv(30)) > 0
        assert len(first) > 0
