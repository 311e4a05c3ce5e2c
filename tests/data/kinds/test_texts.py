"""Kinds that are made of tokens: sentences, parallel, captions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tests.data.kinds.some import COUNT, LABELS, TEXTS, some_captions, some_parallel, some_sentences

from convscope.data.kinds.captions import CaptionTargets
from convscope.data.kinds.parallel import Parallel
from convscope.data.ragged import Ragged
from convscope.data.vocabulary import Vocabulary
from convscope.errors import ArgumentError


def padded(rows: list[list[int]]) -> list[list[int]]:
    longest = max(map(len, rows))
    return [row + [0] * (longest - len(row)) for row in rows]


def test_sentences() -> None:
    examples = some_sentences()
    places = [8, 1, 0, 4]
    batch = examples.batch(torch.tensor(places))
    rows = [examples.vocabulary.encode(TEXTS[place]) for place in places]
    assert batch.inputs[0].tolist() == padded(rows)
    assert batch.inputs[1].tolist() == [len(row) for row in rows]
    assert batch.targets.tolist() == LABELS[places].tolist()
    assert batch.weight == 4.0
    assert examples.lengths.tolist() == [1 + place % 5 for place in range(COUNT)]
    assert examples.select(torch.tensor(places)).texts == tuple(TEXTS[place] for place in places)


def test_sentences_of_some_classes() -> None:
    owls = some_sentences().restrict(["owl", "cat"])
    wanted = [place for place in range(COUNT) if place % 3 != 1]
    assert owls.texts == tuple(TEXTS[place] for place in wanted)
    assert owls.labels.tolist() == [0 if place % 3 == 2 else 1 for place in wanted]
    assert owls.counts() == [3, 4]


def test_translations_are_begun_and_foretold() -> None:
    examples = some_parallel()
    places = [3, 10, 5]
    batch = examples.batch(torch.tensor(places))
    source = [[*examples.source_vocabulary.encode(TEXTS[place]), 3] for place in places]
    target = [examples.target_vocabulary.encode(TEXTS[COUNT - 1 - place]) for place in places]
    assert batch.inputs[0].tolist() == padded(source)
    assert batch.inputs[1].tolist() == padded([[2, *row] for row in target])
    assert batch.targets.tolist() == padded([[*row, 3] for row in target])
    assert batch.weight == sum(len(row) + 1 for row in target) == int((batch.targets != 0).sum())
    longest = [max(1 + place % 5, 1 + (COUNT - 1 - place) % 5) + 1 for place in range(COUNT)]
    assert examples.lengths.tolist() == longest


def test_captions_one_picture_s_after_another_s(tmp_path: Path) -> None:
    examples = some_captions(tmp_path)
    places = [4, 2, 3]
    batch = examples.batch(torch.tensor(places))
    targets = batch.targets
    assert isinstance(targets, CaptionTargets)
    first = [sum(1 + k % 3 for k in range(place)) for place in places]
    rows = [
        examples.vocabulary.encode(examples.texts[number])
        for place, start in zip(places, first, strict=True)
        for number in range(start, start + 1 + place % 3)
    ]
    assert targets.tokens.tolist() == padded(rows)
    assert targets.lengths.tolist() == [len(row) for row in rows]
    assert targets.counts.tolist() == [1 + place % 3 for place in places]
    assert targets.pictures().tolist() == [0, 0, 1, 1, 1, 2]
    assert batch.weight == len(rows)
    by_tokens = dataclasses.replace(examples, by_tokens=True)
    assert by_tokens.weight(torch.tensor(places)) == sum(len(row) + 1 for row in rows)


def test_captions_apart_repeat_their_pictures(tmp_path: Path) -> None:
    examples = some_captions(tmp_path)
    apart = examples.apart()
    assert len(apart) == len(examples.texts) == 21
    assert apart.texts == examples.texts
    owners = [place for place in range(COUNT) for _ in range(1 + place % 3)]
    for number, owner in enumerate(owners):
        assert torch.equal(apart.pictures.picture(number), examples.pictures.picture(owner))
    assert apart.counts.tolist() == [1] * 21


def test_what_does_not_fit_together(tmp_path: Path) -> None:
    sentences, parallel, captions = some_sentences(), some_parallel(), some_captions(tmp_path)
    with pytest.raises(ArgumentError, match="labels: got 10, wanted one for each of the 11 sentences"):
        dataclasses.replace(sentences, labels=sentences.labels[1:])
    other = Vocabulary.build(["other"])
    with pytest.raises(ArgumentError, match=r"test: got Vocabulary\(5 tokens.*, wanted the vocabulary of train"):
        sentences.check_test(dataclasses.replace(sentences, vocabulary=other))
    with pytest.raises(ArgumentError, match="test: got .*, wanted the vocabularies of train"):
        parallel.check_test(dataclasses.replace(parallel, target_vocabulary=other))
    with pytest.raises(ArgumentError, match="target_texts: got 1, wanted one for each of the 2 sentences"):
        Parallel(("a", "b"), ("a",), other, other)
    with pytest.raises(ArgumentError, match="source: got 1, wanted one for each of the 11 sentences"):
        dataclasses.replace(parallel, source=Ragged.of([[1]]))
    with pytest.raises(ArgumentError, match="texts: got 20, wanted as many as counts say, 21"):
        dataclasses.replace(captions, texts=captions.texts[1:])
    with pytest.raises(ArgumentError, match="counts: got 0, wanted at least one caption for each picture"):
        dataclasses.replace(captions, counts=torch.tensor([21, *[0] * 10]))
    with pytest.raises(ArgumentError, match=r"counts: got \(10,\), wanted int64, one for each of the 11 pictures"):
        dataclasses.replace(captions, counts=captions.counts[1:])
    with pytest.raises(ArgumentError, match="tokens: got 1, wanted one row for each of the 21 captions"):
        dataclasses.replace(captions, tokens=Ragged.of([[1]]))
    with pytest.raises(ArgumentError, match="test: got .*, wanted what train has"):
        captions.check_test(dataclasses.replace(captions, vocabulary=other))
