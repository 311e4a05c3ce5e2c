"""BLEU."""

from __future__ import annotations

import math

import pytest

from convscope.errors import ArgumentError
from convscope.metrics import bleu


def test_it_is_papinenis_by_hand() -> None:
    """One sentence: 5/6 words, 3/5, 2/4 and 1/3 of pairs, threes, fours; as long as its reference."""
    found = bleu(["the cat sat on the mat"], ["the dog sat on the mat"])
    assert found.score == pytest.approx(100 * math.exp(sum(map(math.log, (5 / 6, 3 / 5, 2 / 4, 1 / 3))) / 4))
    assert "version:2" in found.signature
    assert "tok:13a" in found.signature


def test_several_references_and_a_short_answer() -> None:
    assert bleu(["a b c d"], [["x y z", "a b c d"]]).score == pytest.approx(100)
    assert bleu(["a b c d", "e f g h"], [["a b c d"], ["x", "e f g h"]]).score == pytest.approx(100)
    assert bleu(["a b c d"], ["a b c d e"]).score == pytest.approx(100 * math.exp(1 - 5 / 4))
    assert bleu(["一个大的三"], ["一个大的三"], tokenize="zh").score == pytest.approx(100)


def test_what_cannot_be_measured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match="references: got 2, wanted some for each of 1 texts"):
        bleu(["a"], ["a", "b"])
    with pytest.raises(ArgumentError, match="references"):
        bleu(["a"], [[]])
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    with pytest.raises(ArgumentError, match=r"the package sacrebleu. Install convscope\[text\]"):
        bleu(["a"], ["a"])
