"""Sentences, files and standard input in another language."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from convscope.columns import shown
from convscope.data.given_texts import given_texts
from convscope.data.vocabulary import UNKNOWN
from convscope.errors import ArgumentError
from convscope.models.searching import Found, Search
from convscope.tasks.translation.looking import Looks, looks
from convscope.tasks.translation.preparing import known_to
from convscope.tasks.translation.translating import places_of, translate
from convscope.training.inference import Inference

_log = logging.getLogger("convscope.tasks")


@dataclasses.dataclass(frozen=True)
class Translated:
    """``unknown`` are the source's words or characters that the model does not know; ``cut``: the source was too long;
    ``whole``: the translation came to an end. ``looks()``: where each token of it looked in the source."""

    source: str
    text: str
    translation: str
    log_probability: float
    unknown: tuple[str, ...]
    cut: bool
    whole: bool
    looks: Callable[[], Looks] = dataclasses.field(repr=False, compare=False)

    def line(self, most: int) -> str:
        return shown(self.translation)

    def to_json(self) -> dict[str, Any]:
        kept = ("source", "translation", "log_probability", "cut", "whole")
        told = {name: getattr(self, name) for name in kept}
        return {**told, "sentence": self.text, "unknown": list(self.unknown)}

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        return [(self.source, self.text, self.translation, f"{self.log_probability:.4f}")]

    def save(self, folder: Path) -> list[Path]:
        """Where each token looked, one panel a head of every layer; nothing for an empty sentence."""
        from convscope.tasks.translation.drawing import draw_heads

        if not self.text:
            return []
        name = re.sub(r"[^\w.-]+", "-", self.source).strip("-.") or "sentence"
        path = folder / f"{name}-attention.png"
        draw_heads(path, self.translation, self.looks())
        return [path]


def predict(
    model: nn.Module,
    inputs: Any,
    search: Search,
    batch_size: int = 64,
    engine: str = "auto",
    told: Callable[[Inference], object] = lambda inference: None,
    too_long: str = "cut",
) -> Iterator[Translated]:
    """The translation of every sentence, in order; of an empty line an empty one, so that lines stay side by side.

    ``inputs``: a sentence or several; where one is the name of a text file, its lines; "-" reads standard input.
    Sentences that the model has no places for are cut, counted and said, or refused with ``too_long`` "refuse". Raises
    ArgumentError for those, an empty request, what is no text, and a model without vocabularies; DataError for a file
    that cannot be read or is not UTF-8 (the line is named).
    """
    if engine not in ("auto", "torch"):
        raise ArgumentError("engine", engine, "auto or torch: translations are made token by token, in torch")
    source, target = known_to(model)
    sentences = list(given_texts(inputs))
    if not sentences:
        raise ArgumentError("inputs", inputs, "at least one sentence")
    told(Inference("torch", "translations are made token by token", lambda given: None))
    most = places_of(model) - 1
    count = 0
    for start in range(0, len(sentences), batch_size):
        part = sentences[start : start + batch_size]
        rows = [source.encode(text) for _, text in part]
        over = [place for place, row in enumerate(rows) if len(row) > most]
        if over and too_long == "refuse":
            where, got = part[over[0]][0], len(rows[over[0]])
            raise ArgumentError("inputs", f"{where}: {got} tokens", f"at most {most}", 'too_long="cut" cuts them')
        count += len(over)
        full = [place for place, row in enumerate(rows) if row]
        found = dict(zip(full, translate(model, [rows[place][:most] for place in full], search), strict=True))
        for place, ((name, text), row) in enumerate(zip(part, rows, strict=True)):
            text_found = found.get(place, Found((), 0.0, 0.0, True))
            tokens = source.split(text)
            yield Translated(
                source=name,
                text=text,
                translation=target.decode(text_found.tokens),
                log_probability=text_found.log_probability,
                unknown=tuple(token for token, number in zip(tokens, row, strict=False) if number == UNKNOWN),
                cut=len(row) > most,
                whole=text_found.whole,
                looks=functools.partial(looks, model, row[:most], text_found.tokens, source.tokens, target.tokens),
            )
    if count:
        _log.warning("%d sentences of more than %d tokens were cut", count, most)
