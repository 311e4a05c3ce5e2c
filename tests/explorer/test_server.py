"""The server from outside: who is let in, what is refused, that it answers while it works, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import socket
import struct
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from tests.explorer.fixtures import described, plain
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from convscope.errors import ArgumentError
from convscope.explorer import Handle, explore, serve
from convscope.explorer.application import static_files
from convscope.explorer.session import Session
from convscope.explorer.unopened import unopened_file
from convscope.models import create_model


@pytest.fixture(scope="module")
def handle() -> Iterator[Handle]:
    torch.manual_seed(0)
    with explore(described(plain(), (3, 12, 12), 4), port=0) as opened:
        yield opened


def client(handle: Handle, token: bool = True) -> httpx.Client:
    headers = {"x-convscope-token": handle.token} if token else {}
    return httpx.Client(base_url=f"http://127.0.0.1:{handle.port}", headers=headers, timeout=20)


def socket_to(handle: Handle, token: str | None = None, **headers: str) -> Any:
    offered = [Subprotocol(f"token.{handle.token if token is None else token}"), Subprotocol("convscope.v1")]
    return connect(
        f"ws://127.0.0.1:{handle.port}/socket",
        subprotocols=offered,
        additional_headers=headers,
        max_size=None,
    )


def run(work: Coroutine[Any, Any, None]) -> None:
    """In a thread of its own: a browser test before this one may have left an event loop in the main thread."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


async def ask(connection: ClientConnection, number: int, op: str, /, version: int | None = None, **args: Any) -> Any:
    await connection.send(json.dumps({"id": number, "op": op, "args": args, "version": version}))
    return await answer(connection)


async def answer(connection: ClientConnection) -> Any:
    message = await asyncio.wait_for(connection.recv(), 30)
    if isinstance(message, bytes):
        (length,) = struct.unpack_from("<I", message)
        return json.loads(message[4 : 4 + length])
    return json.loads(message)


def test_the_url_gives_a_cookie_once_and_leaves_the_address_bar(handle: Handle) -> None:
    with client(handle, token=False) as http_client:
        first = http_client.get(f"/?token={handle.token}&tour=0")
        assert first.status_code == 303
        assert first.headers["location"] == "/?tour=0"
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        page = http_client.get("/")
        assert page.status_code == 200
        assert "<script" in page.text
        assert "onclick=" not in page.text
        assert "style=" not in page.text


def test_policy_headers(handle: Handle) -> None:
    with client(handle) as http_client:
        headers = http_client.get("/").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("token", ["", "wrong", "ü"])
def test_no_token_no_answer(handle: Handle, token: str) -> None:
    with client(handle, token=False) as http_client:
        for path in ("/", f"/?token={token}", "/js/main.js", "/input.npy"):
            assert http_client.get(path).status_code == 401
        assert http_client.post("/upload", content=b"x").status_code == 401

    async def refused() -> None:
        with pytest.raises(InvalidStatus):
            async with socket_to(handle, token=token if token.isascii() else "x"):
                pass

    run(refused())


def test_a_foreign_origin_is_refused_everywhere(handle: Handle) -> None:
    with client(handle) as http_client:
        for origin in ("https://evil.example", "null", f"http://127.0.0.1:{handle.port + 1}"):
            assert http_client.get("/", headers={"origin": origin}).status_code == 403
            assert http_client.post("/upload", content=b"x", headers={"origin": origin}).status_code == 403
        assert http_client.get("/", headers={"origin": f"http://localhost:{handle.port}"}).status_code == 200
        assert http_client.get("/input.npy", headers={"sec-fetch-site": "cross-site"}).status_code == 403

    async def refused() -> None:
        with pytest.raises(InvalidStatus):
            async with socket_to(handle, Origin="https://evil.example"):
                pass

    run(refused())


def test_a_wrong_host_is_refused(handle: Handle) -> None:
    for host in ("evil.example", f"evil.example:{handle.port}", "127.0.0.1", f"127.0.0.1.evil.example:{handle.port}"):
        with client(handle) as http_client:
            assert http_client.get("/", headers={"host": host}).status_code == 421


def test_through_a_tunnel_the_port_is_another(handle: Handle) -> None:
    """``ssh -L 9000:localhost:8899``: the browser names port 9000, and so does the socket's address in the policy."""
    for name in ("localhost", "127.0.0.1"):
        with client(handle) as http_client:
            headers = {"host": f"{name}:9000", "origin": f"http://{name}:9000"}
            answer = http_client.get("/", headers=headers)
            assert answer.status_code == 200
            assert f"connect-src 'self' ws://{name}:9000;" in answer.headers["content-security-policy"]
            assert http_client.get("/", headers={**headers, "origin": "http://localhost:3000"}).status_code == 403
    with socket.create_server(("127.0.0.1", 0)) as tunnel:
        passing = Thread(target=relay, args=(tunnel, handle.port), daemon=True)
        passing.start()
        port = tunnel.getsockname()[1]

        async def talk() -> None:
            offered = [Subprotocol(f"token.{handle.token}"), Subprotocol("convscope.v1")]
            address = f"ws://127.0.0.1:{port}/socket"
            async with connect(address, subprotocols=offered, origin=Origin(f"http://127.0.0.1:{port}")) as open_socket:
                await open_socket.send(json.dumps({"id": 1, "op": "fingerprint", "args": {}}))
                assert json.loads(await open_socket.recv())["ok"]

        run(talk())
        passing.join(10)


def relay(tunnel: socket.socket, port: int) -> None:
    """One connection of a tunnel, passed on byte by byte."""
    near, _ = tunnel.accept()
    with near, socket.create_connection(("127.0.0.1", port)) as far, ThreadPoolExecutor(1) as pool:

        def pass_on(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while part := source.recv(65536):
                    target.sendall(part)
                target.shutdown(socket.SHUT_WR)

        back = pool.submit(pass_on, far, near)
        pass_on(near, far)
        back.result()


def test_frames_are_for_those_that_were_named() -> None:
    model = described(plain(), (3, 12, 12), 4)
    with explore(model, port=0, framed_by=["http://localhost:8888"]) as opened, client(opened) as http_client:
        headers = http_client.get("/").headers
        assert "frame-ancestors http://localhost:8888" in headers["content-security-policy"]
        assert "x-frame-options" not in headers
        assert f'<iframe src="http://localhost:{opened.port}/?token=' in opened._repr_html_()
    with explore(model, port=0) as opened, client(opened) as http_client:
        headers = http_client.get("/").headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert "<iframe" not in opened._repr_html_()
    for wrong in ("*", "localhost:8888", "http://localhost:8888/tree", "http://a b"):
        with pytest.raises(ArgumentError, match="framed_by: got"):
            explore(model, port=0, framed_by=[wrong])


@pytest.mark.parametrize(
    "path",
    ["/../../../etc/passwd", "/js/../../serve.py", "/%2e%2e/%2e%2e/etc/passwd", "/js/..%2f..%2fserve.py",
    "//etc/passwd",
     "/js/main.js%00.html", "/etc/passwd", "/static/index.html"],
)  # fmt: skip
def test_no_path_reaches_the_file_system(handle: Handle, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", handle.port, timeout=10)
    connection.request("GET", path, headers={"x-convscope-token": handle.token})
    response = connection.getresponse()
    assert response.status in (400, 404)
    assert b"root:" not in response.read()
    connection.close()


def test_only_the_page_s_own_files_are_served() -> None:
    files = static_files()
    assert {"/", "/index.html", "/js/main.js", "/locales/en.json"} <= files.keys()
    assert not any(path.endswith((".py", ".pyc")) for path in files)


def test_uploads_are_limited_in_bytes_and_pixels(handle: Handle) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.zeros((10_000, 10_000), np.uint8)).save(picture, "PNG")
    with client(handle) as http_client:
        huge = http_client.post("/upload", content=picture.getvalue())
        assert huge.status_code == 422
        assert "too large" in huge.json()["error"]["message"]
        assert http_client.post("/upload", content=bytes(13 * 1024 * 1024)).status_code == 413
        assert "not a picture" in http_client.post("/upload", content=b"no picture").json()["error"]["message"]
        small = io.BytesIO()
        Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save(small, "PNG")
        assert http_client.post("/upload", content=small.getvalue()).json()["ok"]
        exported = np.load(io.BytesIO(http_client.get("/input.npy").content))
        assert isinstance(handle.session, Session)
        with torch.no_grad():
            logits = handle.session.model(torch.from_numpy(exported))
        torch.testing.assert_close(logits, handle.session.snapshot.logits, rtol=1e-5, atol=1e-5)
        assert Image.open(io.BytesIO(http_client.get("/input.png").content)).size == (12, 12)


def test_malformed_messages_are_answered_and_the_connection_stays(handle: Handle) -> None:
    async def talk() -> None:
        async with socket_to(handle) as connection:
            for text in (
                "{",
                "[]",
                '{"id": 1}',
                '{"id": 2, "op": "values", "args": {"layer": 5}}',
                '{"id": 3, "op": "nothing"}',
            ):
                await connection.send(text)
                found = await answer(connection)
                assert found["ok"] is False
                assert "wanted" in found["error"]["message"]
            await connection.send(b"\x00\x01")
            assert (await answer(connection))["ok"] is False
            assert (await ask(connection, 9, "hello"))["ok"] is True

    run(talk())


def test_an_answer_belongs_to_the_version_asked_about_or_there_is_none(handle: Handle) -> None:
    """Who changed the picture is told that it was itself; whoever looks on is told that it was another."""

    async def talk() -> None:
        async with socket_to(handle) as connection, socket_to(handle) as other:
            before = (await ask(connection, 1, "frame"))["result"]["version"]
            now = (await ask(other, 1, "poke", before, row=1, column=1, value=9))["result"]["version"]
            assert now > before
            for asking, mine in ((connection, False), (other, True)):
                for op, args in (("values", {"layer": "input"}), ("step", {}), ("poke", {"row": 2, "column": 2})):
                    refused = (await ask(asking, 2, op, before, **args))["error"]
                    assert (refused["kind"], refused["version"], refused["mine"]) == ("moved", now, mine)
                assert (await ask(asking, 3, "values", now, layer="input"))["result"]["version"] == now
                assert (await ask(asking, 4, "frame", before))["result"]["version"] == now
            assert (await ask(other, 5, "frame", True))["error"]["kind"] == "version"

    run(talk())


def test_a_thousand_rapid_requests_leave_the_server_answering(handle: Handle) -> None:
    async def talk() -> None:
        async with socket_to(handle) as connection, socket_to(handle) as other:
            header = json.dumps({"id": 0, "op": "show_pixels", "args": {}}).encode()
            frames = []
            for number in range(1000):
                head = header.replace(b'"id": 0', f'"id": {number}'.encode())
                frames.append(struct.pack("<I", len(head)) + head + bytes([number % 256]) * 432)

            async def send() -> None:
                for frame in frames:
                    await connection.send(frame)

            sending = asyncio.create_task(send())
            started = time.monotonic()
            assert (await ask(other, 1, "training"))["ok"]
            assert time.monotonic() - started < 5
            outcomes: dict[int, Any] = {}
            while len(outcomes) < 1000:
                found = await answer(connection)
                outcomes[found["id"]] = found
            await sending
            assert outcomes[999]["ok"], outcomes[999]
            dropped = [found for found in outcomes.values() if not found["ok"]]
            assert {found["error"]["kind"] for found in dropped} <= {"superseded"}
            assert isinstance(handle.session, Session)
            assert set(handle.session.picture.pixels.flatten().tolist()) == {999 % 256}

    run(talk())


def test_clicks_are_answered_during_a_long_job(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(handle.session, Session)
    slow = handle.session.make_snapshot

    def trace_slowly(*args: Any) -> Any:
        time.sleep(0.8)
        return slow(*args)

    monkeypatch.setattr(handle.session, "make_snapshot", trace_slowly)

    async def talk() -> None:
        async with socket_to(handle) as connection:
            await connection.send(json.dumps({"id": 1, "op": "ask", "args": {"target": 1}}))
            await asyncio.sleep(0.1)
            started = time.monotonic()
            found = await ask(connection, 2, "explain", layer="3", index=[1, 1, 1])
            assert found["id"] == 2
            assert found["ok"]
            assert time.monotonic() - started < 0.5
            assert (await ask(connection, 3, "cancel"))["ok"]
            assert (await answer(connection))["id"] == 1

    run(talk())


def test_answers_are_sent_at_once_and_as_they_are(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Nagle's algorithm (40 ms for each answer of two parts) nor compression (60 ms for VGG-16's tiles)."""
    set_at_once: list[bool] = []
    own = asyncio.base_events._set_nodelay  # type: ignore[attr-defined]

    def watched(accepted: socket.socket) -> None:
        own(accepted)
        set_at_once.append(bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))

    monkeypatch.setattr("asyncio.selector_events.base_events._set_nodelay", watched)

    async def work() -> None:
        async with socket_to(handle) as connection:
            await connection.send(json.dumps({"id": 1, "op": "hello"}))
            assert (await answer(connection))["ok"]
            assert connection.response is not None
            assert "Sec-WebSocket-Extensions" not in connection.response.headers

    run(work())
    assert len(set_at_once) >= 2  # the client's end and the server's
    assert all(set_at_once)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ArgumentError, match=r"port: got \d+, wanted a free port .* Give another --port"):
            serve(unopened_file(Path("nothing.safetensors"), ValueError("x")), taken.getsockname()[1])
    with pytest.raises(ArgumentError, match="port: got 70000"):
        serve(unopened_file(Path("nothing.safetensors"), ValueError("x")), 70000)


def test_arguments_of_explore() -> None:
    with pytest.raises(ArgumentError, match="model: got 'str'"):
        explore("model.safetensors")  # type: ignore[call-overload]
    with pytest.raises(ArgumentError, match="lang: got 'fr'"):
        explore(create_model("lenet5"), lang="fr")


def test_only_this_computer_is_listened_to(handle: Handle) -> None:
    assert handle._socket.getsockname()[0] == "127.0.0.1"
