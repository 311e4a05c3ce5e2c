"""The web application: the page's files, the socket, uploads and downloads. It reads no path that a client sends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from convscope.errors import ArgumentError, ConvscopeError, DataError
from convscope.explorer import inputs
from convscope.explorer.protocol import Arguments, Reply, pack, parse_binary, parse_text
from convscope.explorer.protocol import Request as Question
from convscope.explorer.security import PROTOCOL, Guard
from convscope.explorer.session import OPERATIONS, MovedError, Session
from convscope.explorer.snippets import SAVED_MODEL
from convscope.explorer.unopened import UnopenedFile
from convscope.explorer.worker import MOST_WAITING, SupersededError, Worker
from convscope.inspect.attribution import StoppedError

_log = logging.getLogger("convscope.explorer")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".svg": "image/svg+xml",
}


def static_files() -> dict[str, tuple[bytes, str]]:
    """Every file of the page by its address, read once: no address of a client is ever made into a path."""
    root = Path(str(resources.files("convscope.explorer") / "static"))
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix in _TYPES:
            found["/" + path.relative_to(root).as_posix()] = (path.read_bytes(), _TYPES[path.suffix])
    scripts = "".join(f'<link rel="modulepreload" href="{name}">\n' for name in found if name.endswith(".js"))
    page = found["/index.html"][0].replace(b"<!--scripts-->", scripts.encode())  # all at once, not import by import
    found["/"] = found["/index.html"] = (page, _TYPES[".html"])
    return found


class Explorer:
    """The application of one session, or of a card that says why there is none."""

    def __init__(
        self,
        session: Session | UnopenedFile,
        token: str,
        port: int,
        lang: str | None = None,
        framed_by: Sequence[str] = (),
    ) -> None:
        self.session = session
        self.lang = lang
        self.files = static_files()
        self.worker = (
            Worker(session.cancel, session.resume) if isinstance(session, Session) else Worker(_nothing, _nothing)
        )
        self._windows = 0
        routes = [
            WebSocketRoute("/socket", self.socket),
            Route("/upload", self.upload, methods=["POST"]),
            Route("/input.png", self.download, methods=["GET"]),
            Route("/input.npy", self.download, methods=["GET"]),
            Route("/model.safetensors", self.download_model, methods=["GET"]),
            Route("/{path:path}", self.file, methods=["GET"]),
        ]
        guard = Middleware(Guard, token=token, port=port, framed_by=framed_by)
        self.app = Starlette(routes=routes, middleware=[guard], lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self.worker.close()

    def release(self) -> None:
        """When nothing runs any more: let go of the session, whose activations and model are too much to wait for the
        interpreter's collector of cycles. The web server's objects hold each other, and with them this one."""
        del self.session, self.worker

    async def file(self, request: Request) -> Response:
        found = self.files.get(request.scope["path"])
        if found is None:
            return Response("no such file", status_code=404, media_type="text/plain")
        content, kind = found
        return Response(content, media_type=kind)

    async def upload(self, request: Request) -> Response:
        """A picture file as the request's body; it is cut off at the limit, whatever length was announced."""
        if not isinstance(self.session, Session):
            return _refused("upload", "no model is open", 409)
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > inputs.MAX_UPLOAD_BYTES:
                    return _refused("upload", f"a file above {inputs.MAX_UPLOAD_BYTES:,} bytes", 413)
        except ClientDisconnect:
            return _refused("upload", "cut short", 400)
        kind = "camera" if request.query_params.get("kind") == "camera" else "upload"
        session, window = self.session, _number(request, "window") or 0
        try:
            await self.worker.job(lambda: session.load_upload(bytes(body), kind, window), 0, "upload", latest=False)
        except ConvscopeError as error:
            return _refused("upload", str(error), 422, _parts(error))
        return JSONResponse({"ok": True, "version": session.snapshot.version})

    async def download(self, request: Request) -> Response:
        """The picture as the model gets it: pixels (PNG), or the normalised input (npy); that of ``version``."""
        if not isinstance(self.session, Session):
            return _refused("download", "no model is open", 409)
        with self.session.lock:
            picture, snapshot = self.session.picture, self.session.snapshot
        if _number(request, "version") not in (None, snapshot.version):
            return _refused("moved", str(MovedError(snapshot)), 409)
        if request.url.path.endswith(".png"):
            content, kind, name = inputs.as_png(picture.pixels), "image/png", "input.png"
        else:
            content = inputs.as_npy(snapshot.question.x)
            kind, name = "application/octet-stream", "input.npy"
        return Response(content, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})

    async def download_model(self, request: Request) -> Response:
        """The model with its present weights."""
        if not isinstance(self.session, Session):
            return _refused("download", "no model is open", 409)
        path = await self.worker.answer(self.session.saved_model)
        return FileResponse(path, media_type="application/octet-stream", filename=SAVED_MODEL)

    async def socket(self, websocket: WebSocket) -> None:
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
        self._windows += 1
        window = _Window(self, websocket, self._windows)
        await window.run()


class _Window:
    """One open page: reads requests as they come, answers each when it is done."""

    def __init__(self, explorer: Explorer, websocket: WebSocket, number: int) -> None:
        self.explorer, self.websocket, self.number = explorer, websocket, number
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        try:
            while True:
                message = await self.websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                if len(self._tasks) >= MOST_WAITING:
                    await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._handle(message.get("text"), message.get("bytes")))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except WebSocketDisconnect:
            return
        finally:
            for task in list(self._tasks):
                task.cancel()

    async def _handle(self, text: str | None, frame: bytes | None) -> None:
        number: int | None = None
        try:
            request = parse_text(text) if text is not None else parse_binary(frame or b"")
            number = request.id
            reply = await self._carry_out(request)
            header = {"id": number, "ok": True, "result": reply.values}
            if reply.data is not None:
                await self._send(pack(header, reply.data))
            else:
                await self._send(json.dumps(header, separators=(",", ":"), allow_nan=False))
        except SupersededError:
            await self._fail(number, "superseded", "superseded by a newer request")
        except StoppedError as error:
            await self._fail(number, "cancelled", str(error))
        except MovedError as error:
            await self._fail(number, "moved", str(error), version=error.version, mine=error.window == self.number)
        except ArgumentError as error:
            await self._fail(number, error.argument, str(error), _parts(error))
        except ConvscopeError as error:
            await self._fail(number, "error", str(error), _parts(error))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the page says what went wrong; the server goes on
            _log.exception("request failed")
            await self._fail(number, "internal", f"{type(error).__name__}: {error}")

    async def _carry_out(self, request: Question) -> Reply:
        session, worker, op = self.explorer.session, self.explorer.worker, request.op
        if isinstance(session, UnopenedFile):
            if op != "hello":
                raise ConvscopeError("no model is open")
            return Reply({"card": session.describe(), "lang": self.explorer.lang})
        if op == "cancel":
            worker.cancel(self.number)
            return Reply({"cancelled": True})
        wanted = OPERATIONS[op]
        work = partial(session.answer, op, Arguments(request.args), request.payload, request.version, self.number)
        if wanted.job:
            return await worker.job(work, self.number, op, wanted.latest, wanted.gives_way, wanted.waits)
        reply = await worker.answer(work)
        if op == "hello":
            return Reply({**reply.values, "lang": self.explorer.lang, "window": self.number})
        return reply

    async def _fail(
        self, number: int | None, kind: str, text: str, parts: dict[str, str] | None = None, **more: Any
    ) -> None:
        message: dict[str, Any] = {"id": number, "ok": False, "error": {**_told(kind, text, parts), **more}}
        await self._send(json.dumps(message))

    async def _send(self, content: str | bytes) -> None:
        async with self._sending:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the page has gone meanwhile
                if isinstance(content, bytes):
                    await self.websocket.send_bytes(content)
                else:
                    await self.websocket.send_text(content)


def _number(request: Request, name: str) -> int | None:
    """A whole number of the address; None where there is none."""
    given = request.query_params.get(name, "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else None


def _refused(kind: str, reason: str, status: int, parts: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"ok": False, "error": _told(kind, reason, parts)}, status_code=status)


def _told(kind: str, text: str, parts: dict[str, str] | None) -> dict[str, Any]:
    """What went wrong: the sentence in English and, of a refusal, its parts, which the page puts together in its own
    language."""
    return {"kind": kind, "message": text[:2000], **({"parts": parts} if parts else {})}


def _parts(error: ConvscopeError) -> dict[str, str] | None:
    if isinstance(error, ArgumentError):
        found = {"argument": error.argument, "got": repr(error.got), "wanted": error.wanted, "hint": error.hint}
    elif isinstance(error, DataError):
        found = {"path": str(error.path), "problem": error.problem, "hint": error.remedy}
    else:
        return None
    return {name: text[:1000] for name, text in found.items()}


def _nothing() -> None:
    return None
