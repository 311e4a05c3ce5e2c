"""Who may talk to the explorer: this computer, pages that the explorer itself served, holders of the token."""

from __future__ import annotations

import hmac
import http.cookies
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
TOKEN_HEADER = "x-convscope-token"
PROTOCOL = "convscope.v1"


def content_security_policy(port: int) -> str:
    """Nothing but the server's own files; no inline script or style, no frames, no forms."""
    sockets = " ".join(f"ws://{host}:{port}" for host in LOOPBACK if host != "[::1]")
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        f"connect-src 'self' {sockets}; media-src 'self' blob:; font-src 'self'; manifest-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class Guard:
    """ASGI middleware. Every request needs a loopback Host and, where the browser sends one, our own Origin; all but
    the first needs the token, as a cookie (set by opening ``/?token=…`` once), header or WebSocket subprotocol."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app, self.token, self.port = app, token, port
        self.hosts = {f"{host}:{port}" for host in LOOPBACK}
        self.origins = {f"http://{host}" for host in self.hosts}
        self.cookie = f"convscope_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get("host", "") not in self.hosts:
            await self._refuse(scope, send, 421, "wrong Host: open the address that convscope printed")
        elif "origin" in headers and headers["origin"] not in self.origins:
            await self._refuse(scope, send, 403, "foreign Origin")
        elif headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            await self._enter_from_outside(scope, headers, send, receive)
        elif scope["type"] == "http" and self._opening(scope):
            await self._welcome(scope, send)
        elif not self._known(headers):
            await self._refuse(scope, send, 401, "no token: open the address that convscope printed, with its ?token=…")
        else:
            await self.app(scope, receive, self._with_headers(send))

    async def _enter_from_outside(self, scope: Scope, headers: Mapping[str, str], send: Send, receive: Receive) -> None:
        """A link from another page may open the page itself, nothing else."""
        if scope["type"] == "http" and headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET":
            if self._opening(scope):
                await self._welcome(scope, send)
                return
            if scope["path"] == "/" and self._known(headers):
                await self.app(scope, receive, self._with_headers(send))
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
        await self._respond(self._with_headers(send), 303, headers, b"")

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

    def _with_headers(self, send: Send) -> Send:
        extra = [
            (b"content-security-policy", content_security_policy(self.port).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
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
        await self._respond(self._with_headers(send), status, headers, reason.encode())

    @staticmethod
    async def _respond(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        listed = [*headers, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": listed})
        await send({"type": "http.response.body", "body": body})
