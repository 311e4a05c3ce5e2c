"""The linear classifier beside the network of sentences."""

from __future__ import annotations

import torch
from tests.tasks.sentences.test_sentences import dataset

from convscope.data.kinds.sentences import Sentences
from convscope.data.vocabulary import Vocabulary
from convscope.tasks.sentences.bag_of_words import bag_of_words, word_counts


def test_words_are_counted_in_no_order() -> None:
    vocabulary = Vocabulary.build(["b b a", "c"])
    sentences = Sentences(("b a b", "", "c z"), torch.tensor([0, 1, 0]), ("x", "y"), vocabulary)
    table = word_counts(sentences).toarray()
    assert vocabulary.tokens[4:] == ("b", "a", "c")
    assert table[:, 4:].tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert table[:, 1].tolist() == [0, 0, 1], "what is not known"


def test_it_learns_what_words_say() -> None:
    data = dataset()
    assert bag_of_words(data.train, data.test)["accuracy"] > 0.95
    chance = torch.Generator().manual_seed(1)
    shuffled = torch.randperm(len(data.train), generator=chance)
    strangers = Sentences(data.train.texts, data.train.labels[shuffled], data.train.classes, data.train.vocabulary)
    assert bag_of_words(strangers, data.test)["accuracy"] < 0.8
