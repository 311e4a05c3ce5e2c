"""Starting and stopping the explorer's server."""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import threading
import time
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload
from urllib.parse import urlsplit

import uvicorn
from torch import nn

from convscope.data import Dataset, Labelled, load_dataset
from convscope.errors import ArgumentError, ConvscopeError
from convscope.explorer.application import Explorer
from convscope.explorer.lessons import Page, lesson_of
from convscope.explorer.protocol import MAX_BINARY
from convscope.explorer.security import LOOPBACK, check_origins
from convscope.explorer.session import Session
from convscope.explorer.unopened import UnopenedFile
from convscope.explorer.waiting import PatientProtocol

HOST = "127.0.0.1"
DEFAULT_PORT = 8899


class Handle:
    """A running explorer. ``url`` opens it (the token in it is good for as long as it runs); ``close()`` stops it."""

    def __init__(
        self,
        session: Session | UnopenedFile,
        port: int | None,
        lang: str | None,
        token: str | None = None,
        framed_by: Sequence[str] = (),
    ) -> None:
        self.session = session
        self._closed = False
        self.framed_by = check_origins(framed_by)
        self._socket = _listen(port)
        self.port: int = self._socket.getsockname()[1]
        self.token = token or secrets.token_urlsafe(24)
        self._explorer = Explorer(session, self.token, self.port, lang, self.framed_by)
        config = uvicorn.Config(
            self._explorer.app,
            http=PatientProtocol,
            log_level="warning",
            access_log=False,
            ws="websockets-sansio",
            ws_max_size=MAX_BINARY,
            ws_max_queue=64,
            ws_per_message_deflate=False,  # 1.5 MB of tiles take 60 ms to compress, and go nowhere
            timeout_graceful_shutdown=2,
            limit_concurrency=256,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="explorer", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ConvscopeError("the explorer's server did not start")
            time.sleep(0.005)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/?token={self.token}"

    def _repr_html_(self) -> str:
        """In a notebook whose origin ``framed_by`` names: the page itself. It is opened under the notebook's own host
        name, so that the browser counts both as one site and keeps the cookie."""
        if not self.framed_by:
            return f'<a href="{self.url}" target="_blank" rel="noopener">{self.url.split("?")[0]}</a>'
        host = urlsplit(self.framed_by[0]).hostname
        url = f"http://{host if host in LOOPBACK else HOST}:{self.port}/?token={self.token}"
        return f'<iframe src="{url}" width="100%" height="860" style="border:0"></iframe>'

    def wait(self) -> None:
        """Block until the server stops, or until Ctrl-C, which stops it."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.2)
        except KeyboardInterrupt:
            self.close()

    def close(self) -> None:
        """Stop the server; open pages say that it has gone."""
        if self._closed:
            return
        self._closed = True
        self._server.should_exit = True
        self._thread.join(10)
        with contextlib.suppress(OSError):
            self._socket.close()
        if not self._thread.is_alive():
            self._explorer.release()
        if isinstance(self.session, Session):
            self.session.close()

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self) -> None:
        logging.getLogger("websockets").setLevel(logging.CRITICAL)
        self._server.run(sockets=[self._socket])


@overload
def explore(
    model: nn.Module,
    data: Dataset[Labelled] | str | None = None,
    port: int | None = None,
    *,
    item: int | None = None,
    lang: str | None = None,
    browser: bool = False,
    name: str = "",
    input_shape: Sequence[int] | None = None,
    beside: Mapping[str, nn.Module] | None = None,
    framed_by: Sequence[str] = (),
    lesson: str | Path | None = None,
    save: None = None,
    inline: Literal[False] = False,
) -> Handle: ...


@overload
def explore(
    model: nn.Module,
    data: Dataset[Labelled] | str | None = None,
    *,
    item: int | None = None,
    lang: str | None = None,
    name: str = "",
    input_shape: Sequence[int] | None = None,
    lesson: str | Path | None = None,
    save: str | Path | None = None,
    inline: bool = False,
) -> Page: ...


def explore(
    model: nn.Module,
    data: Dataset[Labelled] | str | None = None,
    port: int | None = None,
    *,
    item: int | None = None,
    lang: str | None = None,
    browser: bool = False,
    name: str = "",
    input_shape: Sequence[int] | None = None,
    beside: Mapping[str, nn.Module] | None = None,
    framed_by: Sequence[str] = (),
    lesson: str | Path | None = None,
    save: str | Path | None = None,
    inline: bool = False,
) -> Handle | Page:
    """Open the explorer on a model and return at once: ``handle.url`` is the page, ``handle.close()`` ends it.

    ``data`` is a data set or its name; without it the page begins with a blank picture. ``port`` None takes 8899, or a
    free one if that is taken; 0 any free one. ``item`` is the test item to begin with, ``lang`` "en" or "zh"
    (default: the browser's), ``browser=True`` opens the page. ``input_shape`` (channels, height, width) is needed where
    neither the model nor data say it. ``beside`` are other models of the same layers by their names, to compare with,
    such as checkpoints in their order. ``framed_by`` are the origins of pages that may show it in a frame, such as
    "http://localhost:8888" for a notebook, in which the handle then shows itself. The server listens on this computer
    only; through a tunnel it is reached under any local port. The model is put into evaluation mode, and training steps
    made on the page change its weights.

    ``lesson`` is a lesson file (``convscope.explorer.lessons.read_lesson``) that the page opens with.

    ``save="lesson.html"`` writes one file instead, which computes the model by itself: it opens from a disk, with the
    network off, and starts no server. ``inline=True`` gives the same as a ``Page``, which a notebook shows inline.

    Raises ArgumentError for a port in use, for a ``framed_by`` that is no origin, for a model of whose input's shape
    nothing tells, for data of another task than the model's or without a class for each picture, naming both; with
    ``save`` or ``inline`` for a layer that the page cannot compute, by its name.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError("model", type(model).__name__, "a torch.nn.Module")
    if lang not in (None, "en", "zh"):
        raise ArgumentError("lang", lang, '"en" or "zh"')
    chosen = load_dataset(data) if isinstance(data, str) else data
    session = Session(model, chosen, name, item, input_shape, beside=beside)
    if lesson is not None:
        session.lesson = lesson_of(session, lesson)
    if save is None and not inline:
        return serve(session, port, lang, browser, framed_by=framed_by)
    if port is not None or browser or beside or framed_by:
        wanted = "none of port, browser, beside and framed_by, which need a server"
        raise ArgumentError("save" if save is not None else "inline", save or inline, wanted)
    page = Page(session, lang)
    if save is not None:
        page.save(save)
    return page


def serve(
    session: Session | UnopenedFile,
    port: int | None = None,
    lang: str | None = None,
    browser: bool = False,
    token: str | None = None,
    framed_by: Sequence[str] = (),
) -> Handle:
    """Start the server for a session or a card. With the ``token`` of a server before it on the same port, the pages
    that were open reconnect; otherwise it is fresh and random."""
    handle = Handle(session, port, lang, token, framed_by)
    if browser:
        webbrowser.open(handle.url)
    return handle


def _listen(port: int | None) -> socket.socket:
    if port is not None and (not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 65536):
        raise ArgumentError("port", port, "a number from 0 (any free port) to 65535")
    tries: list[int] = [DEFAULT_PORT, 0] if port is None else [port]
    problem: Any = None
    for number in tries:
        # Named as TCP, or asyncio leaves Nagle's algorithm on: many answers then wait 40 ms for an acknowledgement.
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((HOST, number))
            opened.listen(128)
        except OSError as error:
            opened.close()
            problem = error
            continue
        return opened
    reason = getattr(problem, "strerror", None) or problem
    raise ArgumentError("port", port, f"a free port ({reason})", "Give another --port, or 0 for any that is free.")
