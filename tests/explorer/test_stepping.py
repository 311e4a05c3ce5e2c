"""A model with other parameters, while its own stay where they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convscope.explorer.stepping import with_tensors


class Looks(nn.Module):
    """Sees what another thread would see of the model meanwhile."""

    def forward(self, x: Tensor) -> Tensor:
        SEEN.extend(MODEL.parameters())
        return x


SEEN: list[Tensor] = []
MODEL = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)).eval()


def test_the_model_s_own_parameters_stay_in_their_places() -> None:
    MODEL.append(Looks())
    own = dict(MODEL.named_parameters())
    x, other = torch.randn(4, 3), {"0.weight": torch.zeros(2, 3), "2.bias": torch.ones(2)}
    with torch.no_grad():
        got = with_tensors(MODEL, other)(x)
        wanted = torch.func.functional_call(MODEL[:3], other, (x,))
    assert torch.equal(got, wanted)
    assert [id(each) for each in SEEN] == [id(each) for each in own.values()]
    assert all(each.requires_grad for each in MODEL.parameters())
