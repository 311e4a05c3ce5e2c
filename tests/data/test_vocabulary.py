from __future__ import annotations

import json

import pytest
import torch

from convscope.data.vocabulary import END, PADDING, SPECIAL, START, UNKNOWN, Vocabulary
from convscope.errors import ArgumentError

TEXTS = ["A dog runs.", "A dog, a cat!", "Don't run, dark-haired dog"]


def test_the_most_frequent_tokens_first_and_equals_by_the_alphabet() -> None:
    vocabulary = Vocabulary.build(TEXTS)
    assert vocabulary.tokens[:4] == SPECIAL == ("<pad>", "<unk>", "<s>", "</s>")
    assert vocabulary.tokens[4:] == ("dog", ",", "A", "!", ".", "Don't", "a", "cat", "dark-haired", "run", "runs")
    assert Vocabulary.build(TEXTS, lower=True).tokens[4:7] == ("a", "dog", ",")
    assert Vocabulary.build(TEXTS, least=2).tokens[4:] == ("dog", ",", "A")
    assert Vocabulary.build(TEXTS, most=2).tokens[4:] == ("dog", ",")
    assert len(Vocabulary.build([])) == 4
    assert Vocabulary.build(reversed(TEXTS)) == vocabulary


def test_numbers_and_back() -> None:
    vocabulary = Vocabulary.build(TEXTS)
    for text in TEXTS:
        assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.encode("A zebra runs") == [vocabulary.numbers["A"], UNKNOWN, vocabulary.numbers["runs"]]
    numbers = [START, *vocabulary.encode("A dog"), END, 5, PADDING]
    assert vocabulary.decode(numbers) == vocabulary.decode(torch.tensor(numbers)) == "A dog"
    assert vocabulary.decode([UNKNOWN]) == "<unk>"
    assert vocabulary.encode("") == []


@pytest.mark.parametrize(
    "text", ["(a) dog", 'The "best" of „all“ dogs', "Über den Fluss – 3 Hunde; ganz naß…", "l'homme où"]
)
def test_words_and_marks_of_other_languages(text: str) -> None:
    vocabulary = Vocabulary.build([text])
    assert vocabulary.encode(text) == vocabulary.encode(vocabulary.decode(vocabulary.encode(text)))


def test_other_ways_to_cut() -> None:
    spaces = Vocabulary.build(["a  b. c"], cut="spaces")
    assert spaces.split("a b. c") == ["a", "b.", "c"]
    assert spaces.decode(spaces.encode("c  b.")) == "c b."
    clean = Vocabulary.build([], cut="clean", lower=True)
    assert clean.split("It isn't -- Kim's, they've 'em: (so-so!) naïve_x") == [
        *("it", "is", "n't", "kim", "'s", ",", "they", "'ve", "'em", "(", "so", "so", "!", ")", "na", "ve", "x"),
    ]
    characters = Vocabulary.build(["ab c"], cut="characters")
    assert characters.decode(characters.encode("c ba")) == "c ba"


def test_a_text_cannot_spell_a_special_token() -> None:
    vocabulary = Vocabulary.build(["<s> a </s> <pad>"], cut="spaces")
    assert vocabulary.tokens[4:] == ("a",)
    assert vocabulary.encode("<pad> a <s>") == [UNKNOWN, 4, UNKNOWN]


def test_json_and_back() -> None:
    vocabulary = Vocabulary.build(TEXTS, cut="words", lower=True)
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary
    for wrong in ({}, {"format": 2, "tokens": []}, {"format": 1, "tokens": [1]}, {"format": 1}):
        with pytest.raises(ArgumentError, match='vocabulary: got .*, wanted format 1 with a list of "tokens"'):
            Vocabulary.from_json(wrong)


def test_what_cannot_be() -> None:
    with pytest.raises(ArgumentError, match="cut: got 'letters', wanted one of words, spaces, characters, clean"):
        Vocabulary.build([], cut="letters")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="tokens: got .*, wanted <pad>, <unk>, <s>, </s> first"):
        Vocabulary(("a", "b"))
    with pytest.raises(ArgumentError, match="tokens: got 'a', wanted every token once"):
        Vocabulary((*SPECIAL, "a", "a"))
    with pytest.raises(ArgumentError, match="least: got 0, wanted an integer ≥ 1"):
        Vocabulary.build([], least=0)
    with pytest.raises(ArgumentError, match="most: got 0, wanted an integer ≥ 1, or None"):
        Vocabulary.build([], most=0)
    with pytest.raises(ArgumentError, match="numbers: got 99, wanted numbers of tokens, 0 … 3"):
        Vocabulary(SPECIAL).decode([99])
