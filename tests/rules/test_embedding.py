"""Embeddings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.oracles import check_model
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.rules import tape
from convscope.rules.embedding import Embedding


def test_hand_worked() -> None:
    """A token that comes twice collects both its δ; one that does not come learns nothing."""
    W = torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    y, saved = Embedding().forward(torch.tensor([[2, 0, 2]]), W)
    assert y.tolist() == [[[5, 6], [1, 2], [5, 6]]]
    deltas, gradients = Embedding().backward(saved, torch.tensor([[[1.0, 10], [2, 20], [3, 30]]]))
    assert deltas == (None,)
    assert gradients["weight"].tolist() == [[2, 20], [0, 0], [4, 40]]


@pytest.mark.parametrize("shape", [(1,), (15,), (3, 17), (2, 3, 4)])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}, {"padding_idx": -1}, {"scale_grad_by_freq": True}])
def test_as_torch_goes(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    tokens = torch.randint(0, 7, shape)
    check_model(nn.Sequential(nn.Embedding(7, 3, **options)), tokens, expected_rules=1)

    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(7, 3))

        def forward(self, x: Tensor) -> Tensor:
            return F.embedding(x, self.weight, **options)

    check_model(Called(), tokens, expected_rules=1)


def test_what_changes_the_weights_is_left_to_autograd() -> None:
    (step,) = tape.forward(nn.Sequential(nn.Embedding(7, 3, max_norm=1.0)), torch.tensor([[1, 2]])).steps
    assert step.rule.kind == "other"


def test_unknown_tokens_are_refused() -> None:
    with pytest.raises(ArgumentError, match="x: got 7, wanted token numbers from 0 to 6"):
        Embedding().forward(torch.tensor([3, 7]), torch.zeros(7, 3))
    with pytest.raises(ArgumentError, match=r"x: got 'torch.float32 \(2,\)', wanted token numbers, integers"):
        Embedding().forward(torch.zeros(2), torch.zeros(7, 3))
