"""Words in pieces."""

from __future__ import annotations

import json

import pytest
import torch

from convscope.data.byte_pairs import BytePairs
from convscope.data.vocabulary import END, START, UNKNOWN
from convscope.errors import ArgumentError

TEXTS = ["Ein Hund läuft.", "Ein Hund schläft.", "Zwei Hunde laufen (schnell).", "Ein Junge läuft, ein Mädchen auch."]


def test_pieces_are_put_together_again() -> None:
    pairs = BytePairs.learn(TEXTS, 80)
    for text in (*TEXTS, "Zwei  Mädchen\tlaufen .", "Hundeschnell"):
        assert pairs.decode(pairs.encode(text)) == " ".join(text.split())
        assert "".join(pairs.split(text)).replace("▁", " ").strip() == " ".join(text.split())
    assert pairs.split("Ein Hund.") == ["▁Ein", "▁Hund", "."]
    assert pairs.encode("") == []
    assert len(pairs.encode("Hundeschnell")) < 12
    ends = [START, *pairs.encode("Ein Hund"), END, 7, 7]
    assert pairs.decode(torch.tensor(ends)) == "Ein Hund"


def test_the_first_merge_is_the_commonest_pair() -> None:
    """By hand: "ab" comes five times, "bc" and "▁a" less often."""
    pairs = BytePairs.learn(["xab yab xab cab yab"], 11)
    assert pairs.merges == ("a b",)
    assert pairs.split("xabba") == ["▁", "x", "ab", "b", "a"]


def test_unknown_characters_are_told_as_they_are() -> None:
    pairs = BytePairs.learn(TEXTS, 60)
    text = "Ein 狗 läuft"
    assert pairs.encode(text).count(UNKNOWN) == 1
    assert "狗" in pairs.split(text)
    assert UNKNOWN not in pairs.encode("Ein läuft")
    assert all(number > 3 for number in pairs.encode("Ei Ee")), "a text cannot spell a special token"
    assert START not in pairs.encode("<s> Ein </s>")


def test_it_travels_as_json_and_is_the_same_each_time() -> None:
    pairs = BytePairs.learn(TEXTS, 70)
    again = BytePairs.from_json(json.loads(json.dumps(pairs.to_json())))
    assert again == pairs == BytePairs.learn(TEXTS, 70)
    assert [again.encode(text) for text in TEXTS] == [pairs.encode(text) for text in TEXTS]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ArgumentError, match="pieces: got 3, wanted an integer > 4"):
        BytePairs.learn(TEXTS, 3)
    with pytest.raises(ArgumentError, match="<pad>, <unk>, <s>, </s> first"):
        BytePairs(("a",), ())
    with pytest.raises(ArgumentError, match="merges: got 'a b', wanted two pieces that are tokens"):
        BytePairs(("<pad>", "<unk>", "<s>", "</s>", "a", "b"), ("a b",))
    with pytest.raises(ArgumentError, match="numbers: got 99, wanted numbers of tokens"):
        BytePairs.learn(TEXTS, 20).decode([99])
    with pytest.raises(ArgumentError, match='wanted format 1 with lists of "tokens" and "merges"'):
        BytePairs.from_json({"format": 1, "tokens": []})


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ArgumentError, match=r"the package tokenizers. Install convscope\[text\]"):
        BytePairs.learn(TEXTS, 20)
