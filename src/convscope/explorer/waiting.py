"""Connections that say nothing: each may take some seconds over its request's headers, and only so many at once.

Without it a few hundred connections that are opened and left (a port scanner, a script gone wrong) use up uvicorn's
``limit_concurrency``, and every page is answered 503 until they are closed.
"""

from __future__ import annotations

import asyncio
import weakref

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.server import ServerState

SECONDS = 10.0  # for the headers of a request: a browser on the same computer takes a millisecond
MOST = 64  # connections without a request; a page opens about six

_waiting: weakref.WeakKeyDictionary[ServerState, dict[PatientProtocol, None]] = weakref.WeakKeyDictionary()


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[valid-type,misc]
    """uvicorn's protocol, but that a connection without a whole request is closed after ``SECONDS``, and the one that
    has waited longest as soon as there are more than ``MOST``."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._has_request():
            self._go_on()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        super().connection_lost(exc)

    def _has_request(self) -> bool:
        """Whether a request's headers are here and its answer is not; a WebSocket is another protocol's."""
        upgraded = self.transport.get_protocol() is not self
        return upgraded or (self.cycle is not None and not self.cycle.response_complete)

    def _wait(self) -> None:
        """Begin to count, unless that was begun before."""
        if self._timer is not None or self.transport.is_closing():
            return
        self._timer = self.loop.call_later(SECONDS, self._give_up)
        others = _waiting.setdefault(self.server_state, {})
        others[self] = None  # the one that has waited longest is first
        if len(others) > MOST:
            next(iter(others))._give_up()

    def _go_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _waiting.get(self.server_state, {}).pop(self, None)

    def _give_up(self) -> None:
        self._go_on()
        if not self._has_request():
            self.transport.close()
