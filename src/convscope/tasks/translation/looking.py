"""Where the tokens of a translation looked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.data.vocabulary import END, START
from convscope.layers import MultiHeadAttention


@dataclasses.dataclass(frozen=True)
class Looks:
    """``heads[name]`` (heads, queries, keys) of each attention layer by its name in the model; ``source`` and
    ``target`` are tokens in words, the marks of the ends included."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    heads: dict[str, Tensor]


def looks(
    model: nn.Module, source: Sequence[int], target: Sequence[int], source_tokens: Sequence[str],
    target_tokens: Sequence[str],
) -> Looks:  # fmt: skip
    """All attention of one pass over a sentence and its translation."""
    heads: dict[str, Tensor] = {}
    device = next(model.parameters()).device

    def listen(name: str, module: MultiHeadAttention) -> Any:
        def hook(module: MultiHeadAttention, given: tuple[Any, ...], answer: Tensor) -> None:
            heads[name] = module.weights(*given)[0].cpu()

        return module.register_forward_hook(hook)

    handles = [listen(name, each) for name, each in model.named_modules() if isinstance(each, MultiHeadAttention)]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(torch.tensor([[*source, END]], device=device), torch.tensor([[START, *target]], device=device))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    words = (source_tokens[each] for each in (*source, END))
    return Looks(tuple(words), tuple(target_tokens[each] for each in (*target, END)), heads)
