"""Tables of a lesson file, read key by key: what is wrong is refused by the step, the line and the key."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from convscope.errors import ArgumentError, UnknownNameError

Texts = Mapping[str, str]
LANGUAGES = ("en", "zh")


@dataclasses.dataclass(frozen=True)
class Source:
    """The file's name and lines, to say where something stands."""

    name: str
    lines: tuple[str, ...]

    def line_of(self, step: int, key: str) -> int | None:
        """The line, from 1, of ``key`` within the ``step``-th [[step]] (0: before the first); None where it cannot be
        told, such as where a text holds such a line itself."""
        heads = [at for at, line in enumerate(self.lines) if re.match(r"\s*\[\[\s*step\s*\]\]", line)]
        if step > len(heads):
            return None
        start, stop = (heads[step - 1] if step else 0), (heads[step] if step < len(heads) else len(self.lines))
        wanted = re.compile(rf"\s*(?:\w+\.)*{re.escape(key)}\s*[.=]|\s*\[+[\w.]*\b{re.escape(key)}\s*\]+")
        found = [at for at in range(start, stop) if key and wanted.match(self.lines[at])]
        return (found[0] if found else start) + 1


class Table:
    """One table of the file. Each reader takes a key out; ``end`` refuses what is left over."""

    def __init__(self, values: Mapping[str, Any], source: Source, step: int = 0, under: str = "") -> None:
        self.values, self.source, self.step, self.under = dict(values), source, step, under
        self._known: list[str] = []

    def wrong(self, key: str, got: object, wanted: str, hint: str = "") -> ArgumentError:
        """The error for ``key``; to be raised."""
        return ArgumentError(self.place(key), got, wanted, hint)

    def place(self, key: str) -> str:
        line = self.source.line_of(self.step, key)
        parts = [self.source.name, f"line {line}" if line else "", f"step {self.step}" if self.step else ""]
        return ", ".join(part for part in (*parts, f"{self.under}{key}") if part)

    def take(self, key: str) -> Any:
        self._known.append(key)
        return self.values.pop(key, None)

    def end(self) -> None:
        for key in self.values:
            raise UnknownNameError(self.place(key), key, self._known)

    def text(self, key: str, choices: Iterable[str] = ()) -> str | None:
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, value, "a text")
        known = list(choices)
        if known and value not in known:
            raise UnknownNameError(self.place(key), value, known)
        return value

    def texts(self, key: str, languages: Iterable[str]) -> Texts | None:
        """The same text in every language of the lesson; None where there is none in any."""
        value = self.take(key)
        return None if value is None else self.each_language(key, value, languages)

    def each_language(self, key: str, value: Any, languages: Iterable[str]) -> Texts:
        wanted = " and ".join(f'{key}.{language} = "…"' for language in languages)
        if not isinstance(value, dict):
            raise self.wrong(key, value, wanted)
        for language in languages:
            text = value.get(language)
            if not isinstance(text, str) or not text.strip():
                raise self.wrong(key, text, f"a text for {language}: {wanted}")
        for language in value:
            if language not in languages:
                raise UnknownNameError(self.place(key), language, languages)
        return {language: value[language].strip() for language in languages}

    def needed(self, key: str, languages: Iterable[str]) -> Texts:
        found = self.texts(key, languages)
        if found is None:
            return self.each_language(key, {}, languages)
        return found

    def number(self, key: str, low: float = -1e30, high: float = 1e30) -> float | None:
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, value, "a number" if low <= -1e30 else f"a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, key: str, low: int = 0, high: int = 2**31) -> int | None:
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, value, f"an integer from {low} to {high}")
        return value

    def flag(self, key: str) -> bool | None:
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def integers(self, key: str, count: int, low: int = 0) -> tuple[int, ...] | None:
        value = self.take(key)
        if value is None:
            return None
        fits = isinstance(value, list) and len(value) == count
        if not fits or any(not isinstance(each, int) or isinstance(each, bool) or each < low for each in value):
            raise self.wrong(key, value, f"{count} integers" + (f" from {low} on" if low == 0 else ""))
        return tuple(value)

    def table(self, key: str) -> Table | None:
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, value, f"a table, [step.{key}]")
        return Table(value, self.source, self.step, f"{self.under}{key}.")
