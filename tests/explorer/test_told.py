"""What the server says when it refuses: each sentence stands in the page's table, in both languages."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.explorer.test_texts import ENGLISH, SCRIPTS

import convscope
from convscope import tensorfile
from convscope.errors import ArgumentError, CheckpointError, DataError
from convscope.explorer.application import _parts

ROOT = Path(convscope.__file__).parent
PAGE = ["questions", "arithmetic", "inputs.py", "protocol.py", "surgery.py", "stepping.py", "snapshot.py", "reach.py"]
OTHERS = [ROOT / "inspect/attribution", *(ROOT / "explorer").glob("apart*.py"), ROOT / "explorer/session.py"]
SOURCES = sorted(
    file
    for path in [*(ROOT / "explorer" / name for name in PAGE), *OTHERS]
    for file in (path.rglob("*.py") if path.is_dir() else [path])
)
TABLE = {re.sub(r"\{\w\}", "{}", text) for key, text in ENGLISH.items() if key.startswith("told_")}
RAISES = {
    "ArgumentError": (2, 3), "ProtocolError": (2, 3), "StoppedError": (0,), "_refuse": (0,), "DataError": (1, 2),
    "CheckpointError": (1, 2),
}  # fmt: skip
GIVEN = ("ArgumentError", "ProtocolError")  # whose second argument is what they got, now and then in words


def sentence(node: ast.expr) -> str | None:
    """A text with its blanks as {}; None for what is no text in this place."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def sentences(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RAISES:
            chosen = [node.args[at] for at in RAISES[node.func.id] if at < len(node.args)]
            yield from (text for text in map(sentence, chosen) if text)
            got = sentence(node.args[1]) if node.func.id in GIVEN and len(node.args) > 1 else None
            if got and " " in got:  # it is quoted on the page
                yield f"'{got}'"


def test_every_refusal_of_a_question_is_in_the_table() -> None:
    said = {text for path in SOURCES for text in sentences(path)}
    assert len(said) > 50
    assert said - TABLE == set()


def test_what_is_wrong_with_a_file_is_in_the_table() -> None:
    """Of a file that is no model the page shows a card, in both languages."""
    said = set(sentences(ROOT / "tensorfile.py")) - {"{} ({})"}  # a description that is no JSON: the blanks hold it all
    assert len(said) > 8
    assert said - TABLE == set()
    for content in (b"", b"PK\x03\x04.........", b"no tensors at all"):
        problem, hint = tensorfile._foreign(content)
        assert {re.sub(r"\d+", "{}", problem), hint} - TABLE <= {""}
    assert tensorfile._NAME_IT in TABLE


def test_every_refusal_of_a_saved_page_is_in_the_table() -> None:
    said = set()
    for script in SCRIPTS.values():
        for text in re.findall(r'new RequestError\([\w"]+, (?:`([^`]*)`|"[^"]*")\)', script):
            said.add(re.sub(r"\$\{(?:[^{}]|\([^()]*\))*\}", "{}", text))
    said.discard("")
    assert len(said) > 8
    assert said - TABLE == set()


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (
            ArgumentError("map", 7, "0…5", "Choose."),
            {"argument": "map", "got": "7", "wanted": "0…5", "hint": "Choose."},
        ),
        (DataError("upload", "cut", "Again"), {"path": "upload", "problem": "cut", "hint": "Again"}),
        (CheckpointError("a", "cut"), None),
    ],
)
def test_a_refusal_is_sent_in_parts(error: convscope.errors.ConvscopeError, parts: dict[str, str] | None) -> None:
    assert _parts(error) == parts
    assert json.dumps(parts)
