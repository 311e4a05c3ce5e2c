"""The page's texts: the same keys and the same blanks in both languages, all of them used, all of them there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import convscope.explorer

STATIC = Path(convscope.explorer.__file__).parent / "static"
ENGLISH = json.loads((STATIC / "locales/en.json").read_text("utf-8"))
CHINESE = json.loads((STATIC / "locales/zh.json").read_text("utf-8"))
SCRIPTS = {path: path.read_text("utf-8") for path in sorted((STATIC / "js").rglob("*.js"))}


def test_both_languages_have_the_same_keys_and_blanks() -> None:
    assert ENGLISH.keys() == CHINESE.keys()
    for key in ENGLISH:
        assert sorted(re.findall(r"\{\w+\}", ENGLISH[key])) == sorted(re.findall(r"\{\w+\}", CHINESE[key])), key


def test_chinese_is_chinese() -> None:
    for key, text in CHINESE.items():
        words = re.search(r"[a-z]{4,}", re.sub(r"\{\w+\}", "", ENGLISH[key]))  # formulas alone are the same in both
        if words and key != "family_softmax":
            assert re.search(r"[\u4e00-\u9fff]", text), key


def test_every_text_that_a_script_asks_for_is_there() -> None:
    for path, script in SCRIPTS.items():
        for key in re.findall(r'\bt\("(\w+)"', script):
            assert key in ENGLISH, f"{path.name} asks for {key}"
        for prefix in re.findall(r"\bt\(`(\w+?_)\$\{", script):
            assert any(key.startswith(prefix) for key in ENGLISH), prefix


def test_no_text_is_left_over() -> None:
    everything = "\n".join(SCRIPTS.values())
    prefixes = set(re.findall(r"`(\w+?_)\$\{", everything))
    for key in ENGLISH:
        used = f'"{key}"' in everything or any(key.startswith(prefix) for prefix in prefixes)
        assert used, key


def test_scripts_ask_no_other_host_and_make_no_code_or_markup_from_text() -> None:
    for path, script in SCRIPTS.items():
        assert not re.search(r"https?://(?!www\.w3\.org)", script), path
        assert "innerHTML" not in script, path
        assert not re.search(r"\beval\(|new Function", script), path
        assert len(script.splitlines()) <= 400, path
