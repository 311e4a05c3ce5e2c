"""The flat buffer: the model's own memory, in every layout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convscope.errors import ArgumentError
from convscope.layers.flat import FlatParameters


def picture_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 17, (3, 5)), nn.BatchNorm2d(17), nn.ReLU(), nn.Flatten(), nn.Linear(170, 4))


@pytest.mark.parametrize("channels_last", [False, True])
def test_values_and_gradients_are_the_models_own(channels_last: bool) -> None:
    plain, model = picture_net(), picture_net()
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    strides = model.get_parameter("0.weight").stride()
    flat = FlatParameters(model)
    assert flat.intact()
    assert flat.values.numel() == sum(each.numel() for each in plain.parameters())
    assert model.get_parameter("0.weight").stride() == strides
    for own, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(own, other)
    x = torch.randn(5, 3, 7, 6)
    model(x).square().sum().backward()
    plain(x).square().sum().backward()
    assert flat.intact(), "autograd adds into the buffer instead of replacing it"
    for own, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert own.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-4)
    flat.values.zero_()
    assert all(not each.any() for each in model.parameters())
    flat.gradients.zero_()
    assert all(each.grad is not None and not each.grad.any() for each in model.parameters())


def test_frozen_tied_and_moved_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model.get_parameter("0.weight").requires_grad_(False)
    model[2].weight = model[1].weight
    flat = FlatParameters(model)
    assert [place.name for place in flat] == ["0.bias", "1.weight", "1.bias", "2.bias"]
    assert flat.intact()
    model.double()
    assert not flat.intact()


def test_segments_join_equal_neighbours() -> None:
    flat = FlatParameters(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
    assert flat.segments([1.0, 1.0, 0.5, 1.0]) == [(1.0, 0, 9), (0.5, 9, 12), (1.0, 12, 13)]


def test_each_parameter_has_a_storage_of_its_own() -> None:
    model = picture_net()
    flat = FlatParameters(model)
    for each in model.parameters():
        assert each.untyped_storage().nbytes() == 4 * each.numel()
        assert each.grad is not None
        assert each.grad.untyped_storage().nbytes() == 4 * each.numel()
    assert flat.memory.untyped_storage().nbytes() == 4 * len(flat.memory)


def test_places_are_laid_out_before_anything_moves() -> None:
    model = picture_net()
    flat = FlatParameters(model, whole=True, move=False)
    assert not flat.memory.any()
    assert not flat.values_intact()
    place = flat.slices[0]
    before = place.parameter.detach().clone()
    flat.take(place)
    assert flat.at_home(place)
    assert torch.equal(flat.memory[: place.stop], before.flatten())
    place.parameter.data = torch.zeros(2, 3, 3, 5)
    assert not flat.at_home(place)
    with pytest.raises(ArgumentError, match=r"model: got '0.weight of shape \(2, 3, 3, 5\)', wanted the shape it was"):
        flat.take(place)


def test_models_that_cannot_be_flat_are_refused() -> None:
    with pytest.raises(ArgumentError, match="at least one parameter that is trained"):
        FlatParameters(nn.Sequential(nn.ReLU()))
    with pytest.raises(ArgumentError, match="parameters of one type on one device"):
        FlatParameters(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()))
