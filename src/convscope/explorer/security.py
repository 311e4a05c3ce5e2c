"""Who may talk to the explorer: this computer, pages that the explorer itself served, holders of the token."""

from __future__ import annotations

import hmac
import http.cookies
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convscope.errors import ArgumentError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_LOOPBACK_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})")
TOKEN_HEADER = "x-convscope-token"
PROTOCOL = "convscope.v1"


def content_security_policy(host: str, framed_by: Sequence[str] = ()) -> str:
    """Nothing but the server's own files at ``host``; no inline script or style, no forms; shown in frames of the
    origins ``framed_by`` only."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        f"connect-src 'self' ws://{host}; media-src 'self' blob:; font-src 'self'; manifest-src 'self'; "
        f"base-uri 'none'; form-action 'none'; frame-ancestors {' '.join(framed_by) or chr(39) + 'none' + chr(39)}"
    )


def check_origins(origins: Sequence[str]) -> tuple[str, ...]:
    """The origins as they are; ArgumentError for what is none, such as an address with a path, or a wildcard."""
    for origin in origins if not isinstance(origins, str) else (origins,):
        if not re.fullmatch(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:\d{1,5})?", origin):
            raise ArgumentError("framed_by", origin, 'origins such as "http://localhost:8888"')
    return (origins,) if isinstance(origins, str) else tuple(origins)


def _same(origin: str, host: str) -> bool:
    """Whether a page's origin is this server under any of its loopback names, by the port that the request came to."""
    named = _LOOPBACK_HOST.fullmatch(origin.removeprefix("http://"))
    asked = _LOOPBACK_HOST.fullmatch(host)
    return origin.startswith("http://") and named is not None and asked is not None and named[2] == asked[2]


class Guard:
    """ASGI middleware. Every request needs a loopback Host and, where the browser sends one, the Origin of that same
    host and port; all but the first needs the token, as a cookie (set by opening ``/?token=…`` once), header or
    WebSocket subprotocol.

    The port of the Host may be another than the server's: a tunnel from elsewhere has a port of its own. No page of
    another site can give itself a loopback name, and one of another local server has another Origin.
    """

    def __init__(self, app: ASGIApp, token: str, port: int, framed_by: Sequence[str] = ()) -> None:
        self.app, self.token, self.framed_by = app, token, tuple(framed_by)
        self.cookie = f"convscope_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        send = self._with_headers(send, host)
        if not _LOOPBACK_HOST.fullmatch(host):
            await self._refuse(scope, send, 421, "wrong Host: open the address that convscope printed")
        elif "origin" in headers and not _same(headers["origin"], host):
            await self._refuse(scope, send, 403, "foreign Origin")
        elif headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            await self._enter_from_outside(scope, headers, send, receive)
        elif scope["type"] == "http" and self._opening(scope):
            await self._welcome(scope, send)
        elif not self._known(headers):
            await self._refuse(scope, send, 401, "no token: open the address that convscope printed, with its ?token=…")
        else:
            await self.app(scope, receive, send)

    async def _enter_from_outside(self, scope: Scope, headers: Mapping[str, str], send: Send, receive: Receive) -> None:
        """A link from another page may open the page itself, nothing else."""
        if scope["type"] == "http" and headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET":
            if self._opening(scope):
                await self._welcome(scope, send)
                return
            if scope["path"] == "/" and self._known(headers):
                await self.app(scope, receive, send)
                return
        await self._refuse(scope, send, 403, "request from another site")

    def _opening(self, scope: Scope) -> bool:
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        return scope["path"] == "/" and bool(given) and self._is_token(given)

    async def _welcome(self, scope: Scope, send: Send) -> None:
        """Put the token into a cookie and go to the page without it, so that it stands in no history or screenshot."""
        query = urlsplit("?" + scope.get("query_string", b"").decode("latin-1")).query
        kept = "&".join(part for part in query.split("&") if part and not part.startswith("token="))
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
        location = "/" + (f"?{kept}" if kept else "")
        headers = [(b"location", location.encode("latin-1")), (b"set-cookie", cookie.encode("latin-1"))]
        await self._respond(send, 303, headers, b"")

    def _known(self, headers: Mapping[str, str]) -> bool:
        if self._is_token(headers.get(TOKEN_HEADER, "")):
            return True
        offered = [item.strip() for item in headers.get("sec-websocket-protocol", "").split(",")]
        if any(item.startswith("token.") and self._is_token(item.removeprefix("token.")) for item in offered):
            return True
        try:
            cookies = http.cookies.SimpleCookie(headers.get("cookie", ""))
        except http.cookies.CookieError:
            return False
        return self.cookie in cookies and self._is_token(cookies[self.cookie].value)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.token.encode())

    def _with_headers(self, send: Send, host: str) -> Send:
        named = host if _LOOPBACK_HOST.fullmatch(host) else LOOPBACK[0]
        extra = [
            (b"content-security-policy", content_security_policy(named, self.framed_by).encode()),
            (b"x-content-type-options", b"nosniff"),
            *(() if self.framed_by else ((b"x-frame-options", b"DENY"),)),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
            (b"cache-control", b"no-store"),
        ]

        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        return sender

    async def _refuse(self, scope: Scope, send: Send, status: int, reason: str) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await self._respond(send, status, headers, reason.encode())

    @staticmethod
    async def _respond(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        listed = [*headers, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": listed})
        await send({"type": "http.response.body", "body": body})
