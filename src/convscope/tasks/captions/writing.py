"""Pictures through a trained writer of captions, by beam search, and where it looked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convscope.data.vocabulary import START
from convscope.errors import ArgumentError
from convscope.models.searching import Begun, Found, Search

LONGEST = 40  # words of a caption, its end included; Flickr8k's longest has 38


def write(model: nn.Module, pictures: Tensor, search: Search) -> list[Found]:
    """The caption of each of ``pictures`` (n, c, h, w), ready for the model, in evaluation mode, without gradients.

    What is beside a picture has no influence on its caption but by rounding. ArgumentError for a model that cannot
    begin a text.
    """
    begin = getattr(model, "begin", None)
    if begin is None:
        raise ArgumentError("model", type(model).__name__, "a model that can begin(pictures), as caption_lstm")
    if not len(pictures):
        return []
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            begun: Begun = begin(pictures)
            return search(begun, [LONGEST] * len(pictures), pictures.device)
    finally:
        model.train(training)


def looks(model: nn.Module, picture: Tensor, caption: Sequence[int]) -> Tensor | None:
    """How much each word of ``caption`` and its end looked at each place of the map, (words, h, w), the mean over the
    heads of the attention that the word was told by; rows add up to 1. None for a model without attention.

    ``picture`` is (c, h, w), ready for the model.
    """
    attention, sight = getattr(model, "attention", None), getattr(model, "sight", None)
    weights = getattr(attention, "weights", None)
    if attention is None or sight is None or weights is None:
        return None
    seen: dict[str, Tensor] = {}

    def note(module: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        seen["weights"] = weights(*given)[0].mean(0)

    def shape(module: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        seen["map"] = answer

    handles = [attention.register_forward_hook(note), sight.register_forward_hook(shape)]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(picture[None], torch.tensor([[START, *caption]], device=picture.device))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    height, width = seen["map"].shape[2:]
    return seen["weights"].reshape(-1, height, width).cpu()
