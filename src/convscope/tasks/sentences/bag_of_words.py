"""What stands beside a network of sentences: a linear classifier of which words there are, in no order."""

from __future__ import annotations

import time
from typing import Any

import numpy

from convscope.data.kinds.sentences import Sentences


def word_counts(sentences: Sentences) -> Any:
    """How often each token of the vocabulary comes in each sentence: scipy's sparse matrix (n, tokens)."""
    from scipy.sparse import csr_matrix

    tokens = sentences.tokens
    ones = numpy.ones(len(tokens.values))
    shape = (len(tokens), len(sentences.vocabulary))
    table = csr_matrix((ones, tokens.values.numpy(), tokens.offsets.numpy()), shape=shape)
    table.sum_duplicates()
    return table


def bag_of_words(train: Sentences, test: Sentences, seed: int = 0) -> dict[str, float]:
    """Logistic regression (scikit-learn) on how often each word comes in a sentence, fitted on ``train``: its accuracy
    on ``test``, and the seconds that fitting took."""
    from sklearn.linear_model import LogisticRegression

    tables = [word_counts(each) for each in (train, test)]
    begun = time.monotonic()
    fitted = LogisticRegression(C=1.0, max_iter=1000, random_state=seed).fit(tables[0], train.labels.numpy())
    seconds = time.monotonic() - begun
    found = fitted.predict(tables[1])
    return {"accuracy": float((found == test.labels.numpy()).mean()), "seconds": seconds}
