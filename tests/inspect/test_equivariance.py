"""Maps that follow the picture exactly, those that do so every other pixel, and those that do not notice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

import convscope
from convscope.errors import ArgumentError, UnknownNameError
from convscope.inspect.equivariance import Change, correlation, moved
from convscope.models import create_model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(*shape: int, seed: int = 0) -> Tensor:
    """Blobs some four pixels wide, as pictures have them."""
    x = noise(*shape, seed=seed)
    return torch.from_numpy(ndimage.gaussian_filter(x.numpy(), (0, 0, 2, 2))) * 5


def chain(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*layers).double().eval()


def only(model: nn.Module, x: Tensor, layer: str, **changes: Any) -> Any:
    nothing: dict[str, Any] = {"shifts": (), "turns": (), "scales": ()}
    (row,) = convscope.equivariance(model, x, layer, **{**nothing, **changes})
    return row


@pytest.mark.parametrize("shift", [1, 2, 3, (0, 2), (-3, 1)])
def test_a_convolution_follows_every_whole_shift(shift: Any) -> None:
    model = chain(nn.Conv2d(2, 3, 5, padding=2), nn.ReLU(), nn.Conv2d(3, 4, 3, dilation=2))
    for layer in ("0", "1", "2"):
        row = only(model, noise(2, 2, 19, 23), layer, shifts=(shift,))
        assert row.whole
        assert row.follows == pytest.approx(1, abs=1e-12)
        assert row.stays < 0.5


def test_by_slices() -> None:
    """The same number from plain slices: cells whose 3×3 pixels lie in the picture before and after."""
    model = chain(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.MaxPool2d(3, stride=1))
    x = noise(1, 1, 14, 15)
    shifted = torch.zeros_like(x)
    shifted[..., 2:, 2:] = x[..., :-2, :-2]
    shifted[..., :2, :] = x[..., :1, :1]  # what comes in; no counted cell sees it
    before, after = model(x).detach(), model(shifted).detach()
    inside, alike = after[..., 3:-1, 3:-1], before[..., 1:-3, 1:-3]
    row = only(model, x, "2", shifts=(2,))
    assert row.cells == inside[0, 0].numel()
    assert row.follows == pytest.approx(correlation(alike, inside), abs=1e-12)
    centred = [each - each.mean((2, 3), keepdim=True) for each in (before[..., 3:-1, 3:-1], inside)]
    expected = np.corrcoef(*(each.flatten().numpy() for each in centred))[0, 1]
    assert row.stays == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 4, 3, stride=2), nn.MaxPool2d(2), nn.AvgPool2d(2)])
def test_a_step_of_two_keeps_every_other_shift(layer: nn.Module) -> None:
    model = chain(layer)
    x = noise(1, 1, 24, 24)
    exact = [only(model, x, "0", shifts=(shift,)).follows for shift in (2, 4)]
    between = [only(model, x, "0", shifts=(shift,)).follows for shift in (1, 3)]
    assert exact == pytest.approx([1, 1], abs=1e-12)
    assert max(between) < 0.95


def test_pooling_buys_invariance() -> None:
    """The wider the window, the more of the map stays where it was; the convolution before it does not stay."""
    stays = []
    for size in (1, 2, 4, 8):
        model = chain(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d(size, stride=1))
        stays.append(only(model, smooth(1, 1, 40, 40), "2", shifts=(2,)).stays)
    assert stays == sorted(stays)
    assert stays[-1] > stays[0] + 0.1


def test_a_quarter_turn() -> None:
    """Kernels that are alike on all four sides follow it exactly; others do not."""
    x = smooth(1, 1, 21, 21)
    model = chain(nn.Conv2d(1, 1, 3))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[[[1.0, 2, 1], [2, -9, 2], [1, 2, 1]]]]))  # type: ignore[operator]
    row = only(model, x, "0", turns=(90,))
    assert row.follows == pytest.approx(1, abs=1e-12)
    assert row.whole
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[[[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]]]]))  # type: ignore[operator]
    assert abs(only(model, x, "0", turns=(90,)).follows) < 0.5
    assert only(model, x, "0", turns=(180,)).follows == pytest.approx(-1, abs=1e-12)  # the edge from the other side


def test_a_grown_picture() -> None:
    """A single pixel's function follows any change but for what is read between pixels; a sharp edge does not."""
    x = smooth(1, 1, 31, 33)
    assert only(chain(nn.Conv2d(1, 2, 1)), x, "0", scales=(1.25,)).follows == pytest.approx(1, abs=1e-9)
    edges = chain(nn.Conv2d(1, 4, 5, padding=2))
    near, far = (only(edges, x, "0", scales=(scale,)).follows for scale in (1.05, 2.0))
    assert near > 0.95 > far


@pytest.mark.parametrize("change", [Change("turn", 30.0), Change("scale", 1.3), Change("shift", (3, -2))], ids=str)
def test_the_picture_is_moved_as_scipy_moves_it(change: Change) -> None:
    x = noise(1, 1, 17, 20)
    middle = np.array([8.0, 9.5])
    if isinstance(change.amount, tuple):
        expected = ndimage.shift(x[0, 0].numpy(), change.amount, order=1, mode="nearest")
    elif change.kind == "turn":
        expected = ndimage.rotate(x[0, 0].numpy(), change.amount, reshape=False, order=1, mode="nearest")
    else:
        matrix = np.eye(2) / change.amount
        offset = middle - matrix @ middle
        expected = ndimage.affine_transform(x[0, 0].numpy(), matrix, offset, order=1, mode="nearest")
    torch.testing.assert_close(moved(x, change)[0, 0], torch.from_numpy(expected), rtol=0, atol=1e-9)


def test_vectors_have_no_place_to_follow() -> None:
    model = chain(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 144, 6))
    row = only(model, noise(1, 1, 14, 14), "2", shifts=(1,))
    assert (row.follows, row.whole) == (None, False)
    x = noise(1, 1, 14, 14)
    expected = np.corrcoef(model(x)[0].detach(), model(moved(x, row.change))[0].detach())[0, 1]
    assert row.stays == pytest.approx(expected, abs=1e-12)


def test_too_few_places_say_nothing() -> None:
    row = only(chain(nn.Conv2d(1, 2, 3, padding=1)), noise(1, 1, 9, 9), "0", shifts=((8, 8),))
    assert (row.follows, row.cells, row.whole) == (None, 1, False)
    assert only(chain(nn.Conv2d(1, 2, 3)), noise(1, 1, 3, 3), "0", turns=(90,)).follows is None


def test_layers_that_see_too_much_say_that_borders_count() -> None:
    model = chain(nn.Conv2d(1, 2, 13, padding=6), nn.Conv2d(2, 2, 11, padding=5))
    found = convscope.equivariance(model, noise(1, 1, 16, 16), shifts=(4,), turns=(), scales=())
    assert [row.whole for row in found] == [False, False]
    assert "borders count as well" in str(found)


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [("lenet5", 28, {"activation": "relu", "pool": "max"}), pytest.param("vgg11", 96, {}, marks=pytest.mark.long)],
)
def test_lenet_and_a_vgg(name: str, size: int, options: dict[str, Any]) -> None:
    """Convolution is equivariant to translation, pooling makes that every other pixel (every fourth, …) and in exchange
    stays as it was more than what it pools."""
    torch.manual_seed(1)
    model = create_model(name, **options).double().eval()
    x = smooth(1, 1 if name == "lenet5" else 3, size, size)
    found = convscope.equivariance(model, x, turns=(), scales=())
    jumps, checked = set(), 0
    for row in found:
        jump = found.jumps[row.layer]
        if row.whole and jump is not None and row.cells >= 9:
            assert isinstance(row.change.amount, tuple)
            whole = row.change.amount[0] % jump[0] == 0
            assert (row.follows == pytest.approx(1, abs=1e-9)) == whole, row
            jumps.add(jump[0])
            checked += 1
    assert {1, 2} <= jumps
    assert checked >= 12
    rows = [row for row in found if row.change == found.changes[0]]
    first = next(index for index, row in enumerate(rows) if found.jumps[row.layer] == (2, 2))
    assert rows[first].stays > rows[first - 1].stays


def test_maps_that_do_not_vary() -> None:
    """Two that do not are alike; of one that does the other says nothing. float32's rounding does not vary."""
    dead, alive = torch.full((1, 2, 5, 5), 0.1), torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    assert correlation(dead, dead * 1.7) == 1
    assert correlation(dead, alive) == correlation(alive, 0 * dead) == 0
    assert correlation(alive, alive + torch.tensor([3.0, -2.0])[:, None, None]) == pytest.approx(1, abs=1e-6)


def test_refused() -> None:
    model = chain(nn.Conv2d(1, 2, 3))
    x = noise(1, 1, 9, 9)
    with pytest.raises(UnknownNameError, match="layer: got 'conv', wanted one of 0"):
        convscope.equivariance(model, x, "conv")
    with pytest.raises(ArgumentError, match=r"x: got \(1, 4\), wanted pictures"):
        convscope.equivariance(chain(nn.Linear(4, 2)), noise(1, 4))
    for given, message in (
        ({"shifts": (0,)}, "shifts: got 0, wanted pixels other than 0"),
        ({"shifts": (9,)}, "shifts: got 9"),
        ({"turns": (360,)}, "turns: got 360"),
        ({"scales": (1,)}, "scales: got 1"),
        ({"shifts": (), "turns": (), "scales": ()}, "at least one shift, turn or scale"),
    ):
        with pytest.raises(ArgumentError, match=message):
            convscope.equivariance(model, x, **given)
