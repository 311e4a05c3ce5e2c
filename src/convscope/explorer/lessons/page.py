"""The explorer as one file: the page's scripts, styles and texts, and a model that the page computes by itself."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from convscope.errors import ArgumentError
from convscope.explorer.lessons.plan import plan_of
from convscope.explorer.session import Session
from convscope.files import write_text

LANGUAGES = ("en", "zh")
FRAME_HEIGHT = 780  # of the page within a notebook, in pixels
_STYLES = ("base", "page", "detail", "lesson")
_IMPORT = re.compile(r"""((?:\bfrom|\bimport)\s*\(?\s*)"(\.[^"]+)\"""")
# Nothing leaves the page: scripts and pictures come from within it, connections are forbidden.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'none'; form-action 'none'; base-uri 'none'"
)


def page_of(session: Session, lang: str | None = None, lesson: Mapping[str, Any] | None = None) -> str:
    """The page as HTML that needs no server and no network; ``lesson`` opens with it.

    Scripts are ES modules at data addresses under an import map, so that they run from a file and within another page.
    Raises ArgumentError by ``plan_of`` for a model that the page cannot compute.
    """
    plan = plan_of(session, lang, lesson)
    page = _shell()
    model = f'<script type="application/json" id="convscope-model">{_json(plan)}</script>'
    title = f"<title>{html.escape(session.name)}</title>"
    return page.replace("<!--model-->", model).replace("<title>convscope</title>", title)


class Page:
    """The explorer as one page: ``html``; a notebook shows it inline, without a server; ``save`` writes it."""

    def __init__(self, session: Session, lang: str | None = None, lesson: Mapping[str, Any] | None = None) -> None:
        self.html = page_of(session, lang, lesson)

    def save(self, path: str | Path) -> Path:
        """Write the page to ``path``, whole or not at all. ArgumentError where there is no such folder."""
        return write_page(self.html, path)

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" title="convscope" '
            f'style="width:100%;height:{FRAME_HEIGHT}px;border:1px solid #ccc;border-radius:8px"></iframe>'
        )


def save_page(
    session: Session, path: str | Path, lang: str | None = None, lesson: Mapping[str, Any] | None = None
) -> Path:
    """``page_of`` written to ``path``, whole or not at all; the path.

    Raises ArgumentError where the folder does not exist or the model cannot be computed by the page.
    """
    return write_page(page_of(session, lang, lesson), path)


def write_page(text: str, path: str | Path, argument: str = "save") -> Path:
    """``text`` at ``path``, whole or not at all. ArgumentError where there is no such folder."""
    target = Path(path)
    if not target.parent.is_dir():
        raise ArgumentError(argument, str(path), "a file in a folder that exists")
    if target.is_dir():
        raise ArgumentError(argument, str(path), "a file, such as lesson.html")
    write_text(target, text)
    return target


@cache
def _shell() -> str:
    """The page without a model."""
    root = Path(str(resources.files("convscope.explorer") / "static"))
    page = (root / "index.html").read_text("utf-8")
    styles = "\n".join((root / f"styles/{name}.css").read_text("utf-8") for name in _STYLES)
    icon = (root / "icon.svg").read_text("utf-8")
    mark = re.search(r"<svg[^>]*>(.*)</svg>", icon, re.DOTALL)
    assert mark is not None
    texts = "".join(
        f'<script type="application/json" id="convscope-texts-{name}">'
        f"{_json(json.loads((root / f'locales/{name}.json').read_text('utf-8')))}</script>\n"
        for name in LANGUAGES
    )
    blank = _json((root / "sheet.html").read_text("utf-8"))
    sheet = f'<script type="application/json" id="convscope-sheet">{blank}</script>\n'
    scripts = f'<script type="importmap">{json.dumps({"imports": _modules(root / "js")})}</script>\n'
    start = '<script type="module">import "convscope/main.js";</script>\n'
    page = re.sub(r'<link rel="(?:icon|stylesheet)"[^>]*>\n', "", page)
    page = page.replace('<script type="module" src="/js/main.js"></script>\n', "")
    page = page.replace('<use href="/icon.svg#mark"></use>', mark[1].strip())
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n<style>\n{styles}\n</style>\n{scripts}'
    page = page.replace("<!--scripts-->\n", head)
    return page.replace("</body>", f"{texts}{sheet}<!--model-->\n{start}</body>")


def _modules(root: Path) -> dict[str, str]:
    """{name: data address} of every script, its imports by those names."""
    found = {}
    for path in sorted(root.rglob("*.js")):
        inside = path.relative_to(root)

        def named(match: re.Match[str], folder: Path = path.parent) -> str:
            target = (folder / match[2]).resolve().relative_to(root.resolve())
            return f'{match[1]}"convscope/{target.as_posix()}"'

        script = _IMPORT.sub(named, path.read_text("utf-8"))
        packed = base64.b64encode(script.encode()).decode()
        found[f"convscope/{inside.as_posix()}"] = f"data:text/javascript;charset=utf-8;base64,{packed}"
    return found


def _json(values: Any) -> str:
    """JSON that may stand within a script element: no "</" and no "<!--" can close or open anything."""
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
