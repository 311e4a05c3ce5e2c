"""Sentences that are translated word by word and turned round, for tests that need no data."""

from __future__ import annotations

import torch

from convscope.data import Dataset
from convscope.data.kinds.parallel import Parallel
from convscope.data.vocabulary import Vocabulary

WORDS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"}


def turned(train: int, test: int, longest: int = 4) -> Dataset[Parallel]:
    chance = torch.Generator().manual_seed(5)
    sources, targets = [], []
    for _ in range(train + test):
        length = int(torch.randint(1, longest + 1, (1,), generator=chance))
        words = [list(WORDS)[int(each)] for each in torch.randint(5, (length,), generator=chance)]
        sources.append(" ".join(words))
        targets.append(" ".join(WORDS[each] for each in reversed(words)))
    known = [Vocabulary.build(texts) for texts in (WORDS, WORDS.values())]
    whole = Parallel(tuple(sources), tuple(targets), known[0], known[1])
    return Dataset("turned", whole.select(torch.arange(train)), whole.select(torch.arange(train, train + test)))
