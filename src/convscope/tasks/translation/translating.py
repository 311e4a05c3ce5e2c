"""Sentences through a trained translator, by beam search."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convscope.data.ragged import Ragged
from convscope.data.vocabulary import END, PADDING
from convscope.errors import ArgumentError
from convscope.models.searching import Begun, Found, Search

_TOGETHER = 64  # sentences a batch
_LONGER = 50  # tokens that a translation may have beyond its source's (Vaswani et al. 2017, 6.1)


def translate(model: nn.Module, rows: Sequence[Sequence[int]], search: Search) -> list[Found]:
    """The translation of each of ``rows``, token numbers without ends, in evaluation mode and without gradients.

    Sentences of similar length go together; what is beside a sentence has no influence on it but by rounding.
    """
    begin = getattr(model, "begin", None)
    if begin is None:
        raise ArgumentError("model", type(model).__name__, "a model that can begin(source), as transformer")
    device = next(model.parameters()).device
    most = places_of(model)
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    found: list[Found | None] = [None] * len(rows)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(order), _TOGETHER):
                part = order[start : start + _TOGETHER]
                source = _sources([rows[place] for place in part]).to(device)
                begun: Begun = begin(source)
                longest = [min(len(rows[place]) + 1 + _LONGER, most - 1) for place in part]
                for place, text in zip(part, search(begun, longest, device), strict=True):
                    found[place] = text
    finally:
        model.train(training)
    return [text for text in found if text is not None]


def _sources(rows: Sequence[Sequence[int]]) -> Tensor:
    tokens, _ = Ragged.of(rows).padded(torch.arange(len(rows)), PADDING, after=END)
    return tokens


def places_of(model: nn.Module) -> int:
    """The longest sequence that the model takes, ends included."""
    found = getattr(model, "places", 512)
    return found if isinstance(found, int) else 512
