"""Kim's convolutional network for sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.layers import MaxNormLinear, MaxOverTime
from convscope.layers.conv import whole_number
from convscope.models.catalog import Card, register

_PADDING = 0  # the token that fills up short sentences; its vector stays 0
_WORDS = 18_769  # of movie-review polarity: 18,765 words and marks, and the four special tokens


class TextCNN(nn.Module):
    """Word vectors, filters over a few words, the largest answer of each over the sentence, one fully connected layer.

    ``forward(tokens, lengths)``: int64 (n, t), padded behind, and (n,); → (n, classes). A filter sees the sentence's
    edges with padding around, and never the padding that only fills up a batch.
    """

    def __init__(
        self,
        classes: int,
        channels: int,
        vocabulary: int,
        size: int,
        widths: Sequence[int],
        maps: int,
        dropout: float,
        limit: float,
    ) -> None:
        super().__init__()
        self.widths = tuple(widths)
        # several channels of word vectors are added up by each filter: one table with longer rows
        self.embedding = nn.Embedding(vocabulary, size * channels, padding_idx=_PADDING)
        with torch.no_grad():
            self.embedding.weight.uniform_(-0.25, 0.25)
            self.embedding.weight[_PADDING].zero_()
        for width in widths:
            conv = nn.Conv1d(size * channels, maps, width, padding=width - 1)
            nn.init.uniform_(conv.weight, -0.01, 0.01)  # Kim's program
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
            self.add_module(f"conv{width}", conv)
            self.add_module(f"relu{width}", nn.ReLU())
            self.add_module(f"pool{width}", MaxOverTime(width - 1))
        self.dropout = nn.Dropout(dropout)
        # The paper's dropout does not enlarge what it keeps, as torch's does: its weights are those here · 1/(1 − p).
        # With a limit twice as large 8 folds of movie-review polarity had 74.7 % right.
        self.output = MaxNormLinear(maps * len(self.widths), classes, limit=limit * (1 - dropout))

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        words = self.embedding(tokens).transpose(1, 2)  # (n, size, t)
        best = []
        for width in self.widths:
            found = getattr(self, f"relu{width}")(getattr(self, f"conv{width}")(words))
            best.append(getattr(self, f"pool{width}")(found, lengths))  # (n, maps)
        scores: Tensor = self.output(self.dropout(torch.cat(best, 1)))
        return scores


@register(
    "text_cnn",
    Card(
        title="Convolutional network for sentences (CNN-rand)",
        year=2014,
        paper="Kim: Convolutional neural networks for sentence classification",
        input_shape=(56,),
        classes=2,
        parameters=_WORDS * 300 + (3 + 4 + 5) * 300 * 100 + 300 + 602,
        published="movie-review polarity 76.1 % right, mean of ten folds",
        note="word vectors begin at random; in_channels are channels of word vectors. Input: numbers of 56 tokens, "
        "the longest sentence of the paper's set",
        family="text",
        task="sentences",
        economical=(("vocabulary", 50), ("size", 12), ("maps", 8)),
    ),
)
def text_cnn(
    classes: int = 2,
    in_channels: int = 1,
    vocabulary: int = _WORDS,
    size: int = 300,
    widths: Sequence[int] = (3, 4, 5),
    maps: int = 100,
    dropout: float = 0.5,
    limit: float = 3.0,
) -> nn.Module:
    """``size`` numbers a word vector; ``maps`` filters of each of the ``widths`` (in words); ``limit``: the longest row
    of the last layer's weights as the paper counts, 1/(1 − ``dropout``) times those that are kept here."""
    for name, value in (("vocabulary", vocabulary), ("size", size), ("maps", maps)):
        whole_number(value, name)
    chosen = _widths(widths)
    if not 0 <= dropout < 1:
        raise ArgumentError("dropout", dropout, "a share from 0 to below 1")
    return TextCNN(classes, in_channels, vocabulary, size, chosen, maps, dropout, limit)


def _widths(given: Any) -> tuple[int, ...]:
    found = (given,) if isinstance(given, int) else tuple(given) if isinstance(given, list | tuple) else ()
    if not found or any(not isinstance(each, int) or each < 1 for each in found) or len(set(found)) < len(found):
        raise ArgumentError("widths", given, "different numbers of words, such as (3, 4, 5)")
    return found
