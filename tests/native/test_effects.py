"""What a model does beside computing a result, and decisions that a plan cannot take: refused by name."""

from __future__ import annotations

import pytest
import torch
from tests.native.comparing import pictures
from torch import Tensor, nn

from convscope import accelerate
from convscope.errors import LoweringError

SHAPE = (3, 9, 8)


class _Counts(nn.Module):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        y: Tensor = torch.cumsum(self.a(x), 1) * self.calls
        return y


def test_what_the_model_changes_of_itself_is_refused() -> None:
    with pytest.raises(LoweringError, match="layer 'calls': the model changes this tensor itself"):
        accelerate(_Counts())(pictures(3, SHAPE))


class _Counting(nn.Module):
    """Decides by the number of images, and has a layer that the engine lacks."""

    def __init__(self, odd: bool) -> None:
        super().__init__()
        self.a, self.odd = nn.Conv2d(3, 4, 3), odd

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.a(x)
        y = torch.cumsum(y, 1) if self.odd else y
        return y * 2 if x.size(0) > 5 else y


@pytest.mark.parametrize("odd", [False, True])
def test_decisions_by_the_number_of_images_are_refused(odd: bool) -> None:
    with pytest.raises(LoweringError, match="goes another way for another number of images"):
        accelerate(_Counting(odd))(pictures(3, SHAPE))
