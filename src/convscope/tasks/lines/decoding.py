"""From scores at every step to a text: the likeliest path, or the likeliest text by a beam."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BLANK = 0


def greedy(scores: Tensor) -> list[int]:
    """The text of the likeliest path of ``scores`` (t, classes): repeats taken out, then blanks."""
    path = scores.argmax(1)
    kept = torch.ones_like(path, dtype=torch.bool)
    kept[1:] = path[1:] != path[:-1]
    found: list[int] = path[kept & (path != BLANK)].tolist()
    return found


def beam(log_probabilities: Tensor, width: int = 10) -> tuple[list[int], float]:
    """(text, logarithm of its probability) by prefix search (Graves 2012, section 7.5; Hannun et al. 2014).

    ``log_probabilities`` (t, classes). Of every beginning its paths that end in a blank and those that end in its last
    character are added up apart, and the ``width`` likeliest beginnings are kept after each step. As wide as there are
    texts it finds the likeliest text; its probability is a sum over the paths that were kept, at most the true one.
    """
    prefixes: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -math.inf)}
    for step in log_probabilities.tolist():
        found: dict[tuple[int, ...], tuple[float, float]] = {}

        def add(
            prefix: tuple[int, ...],
            blank: float,
            other: float,
            found: dict[tuple[int, ...], tuple[float, float]] = found,
        ) -> None:
            before = found.get(prefix, (-math.inf, -math.inf))
            found[prefix] = (_either(before[0], blank), _either(before[1], other))

        for prefix, (ends_blank, ends_character) in prefixes.items():
            whole = _either(ends_blank, ends_character)
            add(prefix, whole + step[BLANK], -math.inf)
            if prefix:
                add(prefix, -math.inf, ends_character + step[prefix[-1]])
            for character, chance in enumerate(step):
                if character != BLANK:
                    # a repeat makes a new character only across a blank
                    start = ends_blank if prefix and prefix[-1] == character else whole
                    add((*prefix, character), -math.inf, start + chance)
        ranked = sorted(found, key=lambda prefix: (-_either(*found[prefix]), prefix))
        prefixes = {prefix: found[prefix] for prefix in ranked[:width]}
    best = next(iter(prefixes))
    return list(best), _either(*prefixes[best])


def _either(one: float, other: float) -> float:
    """ln(e^one + e^other)."""
    high, low = max(one, other), min(one, other)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def edits(one: Sequence[object], other: Sequence[object]) -> int:
    """How many characters must be put in, taken out or exchanged to make ``other`` of ``one`` (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for place, own in enumerate(one, 1):
        before, row = row, [place]
        for number, its in enumerate(other, 1):
            row.append(min(before[number] + 1, row[-1] + 1, before[number - 1] + (own != its)))
    return row[-1]


def alignment(log_probabilities: Tensor, text: Sequence[int]) -> list[tuple[int, int]] | None:
    """The likeliest path of ``log_probabilities`` (t, classes) that spells ``text``: the first and the last step of
    each character; None where the text needs more steps than there are (Viterbi's algorithm)."""
    labels = [BLANK]
    for character in text:
        labels += [character, BLANK]
    steps = log_probabilities[:, labels].tolist()
    best = [[-math.inf] * len(labels) for _ in steps]
    came: list[list[int]] = [[0] * len(labels) for _ in steps]
    best[0][:2] = steps[0][:2]
    for time in range(1, len(steps)):
        for place, label in enumerate(labels):
            choices = [place, place - 1]
            if label != BLANK and place > 1 and labels[place - 2] != label:
                choices.append(place - 2)
            chosen = max((each for each in choices if each >= 0), key=lambda each: best[time - 1][each])
            best[time][place] = best[time - 1][chosen] + steps[time][place]
            came[time][place] = chosen
    place = max(range(max(len(labels) - 2, 0), len(labels)), key=lambda each: best[-1][each])
    if best[-1][place] == -math.inf:
        return None
    spans: dict[int, tuple[int, int]] = {}
    for time in reversed(range(len(steps))):
        if labels[place] != BLANK:
            last = spans[place][1] if place in spans else time
            spans[place] = (time, last)
        place = came[time][place]
    return [spans[2 * number + 1] for number in range(len(text))]
