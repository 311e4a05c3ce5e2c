"""A sheet to fill in by hand: one number's sum with blanks, and the key on a page of its own; HTML for A4 paper.

``static/js/lesson/sheet.js`` makes the same of the same numbers where there is no server.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from convscope.errors import ArgumentError, UnknownNameError
from convscope.explorer.inputs import as_png
from convscope.explorer.lessons.exact import Exact
from convscope.explorer.lessons.page import write_page
from convscope.explorer.session import Session
from convscope.explorer.snapshot import Snapshot

KINDS = ("value", "delta", "gradient")
MOST_TERMS = 60  # two pages of A4
_MARKS = {"+": "+ ", "−": "− ", "×": "× ", "÷": "÷ "}
Row = tuple[str, str, bool]  # label, text, whether it is given on the sheet


def sheet_of(
    session: Session, place: str, of: str = "value", terms: int = 12, lang: str = "en", rule: str = "plain"
) -> str:
    """HTML of the sheet for one number of the picture shown, worked out in float64.

    ``place`` is "c3/5/3/7" (layer/map/row/column) of a unit whose ``of`` "value" or "delta" is asked, or
    "c1.weight/0/0/2/2" of a weight whose "gradient" is. The ``terms`` largest products are left blank, the others are
    given as one subtotal. Raises ArgumentError for a place that the model does not have.
    """
    session.check_pictures("sheet")
    if of not in KINDS:
        raise UnknownNameError("of", of, KINDS)
    if lang not in ("en", "zh"):
        raise ArgumentError("lang", lang, '"en" or "zh"')
    if not 1 <= terms <= MOST_TERMS:
        raise ArgumentError("terms", terms, f"1 to {MOST_TERMS}")
    session_pixels = session.picture.pixels.contiguous().numpy().tobytes()
    exact = Exact(session).snapshot(session_pixels, session.snapshot.question.target, session.loss)
    page = _page(exact, place, of, terms, rule)
    about = {"model": session.name, "class": "" if exact.loss is None else session.classes[exact.question.target or 0]}
    picture = "data:image/png;base64," + base64.b64encode(as_png(session.picture.pixels)).decode()
    return written(page, place, about, picture, lang)


def save_sheet(
    session: Session, path: str | Path, place: str, of: str = "value", terms: int = 12, lang: str = "en"
) -> Path:
    """``sheet_of`` written to ``path``, whole or not at all; the path."""
    return write_page(sheet_of(session, place, of, terms, lang), path, "sheet")


def _page(snapshot: Snapshot, place: str, of: str, terms: int, rule: str) -> dict[str, Any]:
    name, *rest = place.split("/")
    index = tuple(int(part) if part.isascii() and part.isdigit() else -1 for part in rest)
    if of == "gradient":
        layer, _, parameter = name.rpartition(".")
        if layer not in snapshot.layers:
            raise ArgumentError("unit", place, 'a weight, such as "c1.weight/0/0/2/2"')
        return snapshot.gradient(layer, parameter, index).page(0, terms)
    layer, unit = snapshot.unit(name, index)[0].name, snapshot.unit(name, index)[1]
    if of == "delta":
        if snapshot.loss is None:
            raise ArgumentError("of", of, '"value": the network\'s output is not a list of classes')
        return snapshot.backward(layer, unit, rule).page(0, terms)
    page = snapshot.forward(layer, unit).page(0, terms)
    after = snapshot.network.activation_after(layer)
    if after is not None:
        value = float(snapshot.layers[after].y[(0, *unit)])
        page["activation"] = {"kind": snapshot.layers[after].kind, "value": value}
    return page


def written(page: Mapping[str, Any], place: str, about: Mapping[str, str], picture: str, lang: str) -> str:
    """The sheet and its key of one explained number (``Explanation.page``)."""
    text = _texts(lang)
    digits = [_decimals(page["terms"].get(name, [])) for name in ("coefficient", "value", "product")]
    after = _after(page, digits[2], text)
    said = [
        text["sheet_rounded"].format(products=digits[2]),
        text["sheet_within"].format(bound=_upwards(_bound(page, digits), digits[2] + 1)),
    ]
    title = text["sheet_title"].format(symbol=_symbol(page), place=place)
    head = [
        f"<p>{html.escape(text['sheet_of'].format(**about))}</p>",
        f'<p class="formula">{html.escape(page["formula"])}</p>',
    ]

    def part(heading: str, key: bool) -> str:
        rows = "".join(_term(page, row, digits, key, text) for row in range(page["shown"]))
        lines = "".join(_line(row, key, _span(page)) for row in after)
        notes = "".join(f"<p>{html.escape(each)}</p>" for each in said)
        name = "" if key else f'<p class="name">{html.escape(text["sheet_name"])}</p>'
        image = "" if key else f'<img src="{picture}" alt="{html.escape(text["picture"])}">'
        table = f"<table><thead>{_heads(page, text)}</thead><tbody>{rows}{lines}</tbody></table>"
        top = f"{image}{name}<h1>{html.escape(heading)}</h1>{''.join(head)}"
        return f'<section class="{"key" if key else "blank"}">{top}{table}{notes}</section>'

    body = part(title, key=False) + part(f"{title} · {text['sheet_key']}", key=True)
    language = "zh-CN" if lang == "zh" else "en"
    return _shell().replace("{{lang}}", language).replace("{{title}}", html.escape(title)).replace("{{body}}", body)


def _symbol(page: Mapping[str, Any]) -> str:
    """What the number is called: as its last named step."""
    named = [step["symbol"] for step in page["steps"] if step["operation"] == "="]
    return str(named[-1]) if named else "y"


def _heads(page: Mapping[str, Any], text: Mapping[str, str]) -> str:
    names = [text["from"], *(name for name, column in zip(page["headings"], _columns(page), strict=True) if column)]
    return "<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in names) + "</tr>"


def _columns(page: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    """Which of coefficient, value and product the sum has."""
    coefficient = "coefficient" in page["terms"]
    return coefficient, coefficient or page["headings"][1] != page["headings"][2], True


def _span(page: Mapping[str, Any]) -> int:
    return sum(_columns(page))


def _term(page: Mapping[str, Any], row: int, digits: Sequence[int], key: bool, text: Mapping[str, str]) -> str:
    terms, (coefficient, value, _) = page["terms"], _columns(page)
    cells = [f"<td>{html.escape(_where(page, row, text))}</td>"]
    if coefficient:
        cells.append(f"<td>{fixed(terms['coefficient'][row], digits[0])}</td>")
    if value:
        cells.append(f"<td>{fixed(terms['value'][row], digits[1])}</td>")
    given = key or not value
    cells.append(f"<td>{fixed(terms['product'][row], digits[2])}</td>" if given else '<td class="gap"></td>')
    return f"<tr>{''.join(cells)}</tr>"


def _where(page: Mapping[str, Any], row: int, text: Mapping[str, str]) -> str:
    terms = page["terms"]
    padding = terms.get("padding", [False] * page["shown"])[row]
    if padding:
        return text["padding"]
    if "source" not in terms:
        return ""
    at = [each for each in terms["source"][row] if each >= 0]
    origin = terms.get("origin", [0] * page["shown"])[row]
    label = f"{page['origins'][origin]} " if len(page["origins"]) > 1 else ""
    return label + (f"{at[0]} · ({', '.join(map(str, at[1:]))})" if len(at) > 1 else "".join(map(str, at)))


def _line(row: Row, key: bool, span: int) -> str:
    label, value, given = row
    cell = f"<td>{html.escape(value)}</td>" if key or given else '<td class="gap"></td>'
    return f'<tr class="line"><td colspan="{span}">{html.escape(label)}</td>{cell}</tr>'


def _after(page: Mapping[str, Any], digits: int, text: Mapping[str, str]) -> list[Row]:
    """What follows the terms: their sum, the others, each step, the value."""
    shown = math.fsum(page["terms"]["product"])
    rows: list[Row] = [(text["sheet_these"].format(count=page["shown"]), fixed(shown, digits), False)]
    left = page["count"] - page["shown"]
    if left:
        rows.append((text["more_terms"].format(count=left), fixed(page["rest"], digits), True))
        rows.append((f"Σ {page['headings'][2]}", fixed(page["sum"], digits), False))
    for step in page["steps"]:
        operation, symbol, value = step["operation"], step["symbol"], step["value"]
        if operation in _MARKS:
            rows.append((f"{_MARKS[operation]}{symbol}", fixed(value, max(digits, _decimals([value]))), True))
        elif operation in ("=", "f"):
            rows.append((f"= {symbol}" if operation == "=" else f"{symbol}(·)", fixed(value, digits), False))
        elif operation == "^":
            rows.append((f"( · ) ^ {fixed(value, 2)}", "", True))
        else:
            rows.append(("√", "", True))
    if "activation" in page:
        rows.append(
            (f"{page['activation']['kind']}({_symbol(page)})", fixed(page["activation"]["value"], digits), False)
        )
    return rows


def _bound(page: Mapping[str, Any], digits: Sequence[int]) -> float:
    """How far a hand calculation with the printed numbers, each product rounded, can be from the sum's own value."""
    terms = page["terms"]
    half = 0.5 * 10.0 ** -digits[2]
    total: float = half * (page["shown"] + 2)  # every product, the subtotal, the sum
    if "coefficient" in terms:
        for w, x, product in zip(terms["coefficient"], terms["value"], terms["product"], strict=True):
            total += abs(round(w, digits[0]) * round(x, digits[1]) - product)
    for step in page["steps"]:
        if step["operation"] in ("+", "−"):
            total += half
        elif step["operation"] == "×":
            total = total * abs(step["value"]) + half
        elif step["operation"] == "÷":
            total = total / abs(step["value"]) + half
    return total


def _decimals(values: Sequence[float]) -> int:
    """Decimal places that give the largest of the numbers four digits."""
    largest = max((abs(each) for each in values), default=0.0)
    if not math.isfinite(largest) or largest == 0:
        return 4
    return min(12, max(3, 3 - math.floor(math.log10(largest))))


def fixed(value: float, digits: int) -> str:
    """The number with that many decimals and a real minus sign; no −0."""
    text = f"{abs(value):.{digits}f}"
    return f"−{text}" if value < 0 and float(text) != 0 else text


def _upwards(value: float, digits: int) -> str:
    return fixed(math.ceil(value * 10**digits) / 10**digits, digits)


@cache
def _shell() -> str:
    return (_static() / "sheet.html").read_text("utf-8")


@cache
def _texts(lang: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((_static() / f"locales/{lang}.json").read_text("utf-8"))
    return found


def _static() -> Path:
    return Path(str(resources.files("convscope.explorer") / "static"))
