"""Winograd's algorithm in the engine: the same layers as by direct sums, wherever it can be had."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.native import comparing
from torch import nn

from convscope import layers
from convscope.native import NativeNetwork, accelerate, availability

pytestmark = pytest.mark.skipif(not availability.available(), reason="the engine is not built")

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "3 taps": lambda: nn.Conv2d(17, 9, 3, padding=1),
    "4 taps": lambda: nn.Conv2d(3, 5, (2, 4), padding=(0, 2)),
    "5 taps": lambda: nn.Conv2d(4, 18, 5, padding=2, bias=False),
    "6 taps": lambda: nn.Conv2d(2, 3, (1, 6)),
    "7 taps": lambda: nn.Conv2d(3, 4, 7, padding=3),
    "strided and dilated rows": lambda: nn.Conv2d(3, 8, (3, 5), stride=(2, 1), dilation=(2, 1), padding=(2, 1)),
    "groups": lambda: nn.Conv2d(6, 9, 3, groups=3, padding=1),
    "depthwise": lambda: nn.Conv2d(5, 5, 3, groups=5, padding=1),
    "true convolution": lambda: layers.Conv2d(3, 4, 5, padding=2, flip_kernel=True),
    "table": lambda: layers.TableConv2d(3, None, 5, table=((0, 1), (1, 2), (0, 1, 2), (2,))),
    "with maxima": lambda: nn.Sequential(nn.Conv2d(3, 9, 5), nn.ReLU(), nn.MaxPool2d(2)),
    "with maxima of three rows": lambda: nn.Sequential(nn.Conv2d(3, 9, 3), nn.Tanh(), nn.MaxPool2d((3, 1))),
    # More than the caches hold: several bands of rows and chunks of maps.
    "in bands": lambda: nn.Conv2d(40, 36, 5, padding=2),
    "in bands with maxima": lambda: nn.Sequential(nn.Conv2d(40, 36, 5), nn.ReLU(), nn.MaxPool2d(2)),
    "in chunks": lambda: nn.Conv2d(100, 33, 3, padding=1),
}
CHANNELS = {"3 taps": 17, "5 taps": 4, "6 taps": 2, "groups": 6, "depthwise": 5, "in chunks": 100}
CHANNELS = {name: 40 if name.startswith("in bands") else CHANNELS.get(name, 3) for name in LAYERS}


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_WINOGRAD", "always")


def size_of(name: str) -> tuple[int, int]:
    return (26, 29) if name.startswith("in ") else (11, 14)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("count", [1, 17, 33])
def test_layers(name: str, count: int) -> None:
    if count == 33 and name.startswith("in "):
        count = 16
    layer = comparing.randomised(LAYERS[name]())
    x = comparing.pictures(count, (CHANNELS[name], *size_of(name)))
    comparing.check(layer, x, comparing.ONE_LAYER)


@pytest.mark.parametrize("width", range(3, 24))
def test_every_width(width: int) -> None:
    layer = comparing.randomised(nn.Sequential(nn.Conv2d(3, 5, 5, padding=2), nn.Tanh(), nn.Conv2d(5, 4, 3)))
    comparing.check(layer, comparing.pictures(17, (3, 6, width)), comparing.ONE_LAYER)


def test_it_is_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    described = {}
    for use in ("always", "never", "auto"):
        monkeypatch.setenv("CONVSCOPE_WINOGRAD", use)
        described[use] = NativeNetwork(nn.Conv2d(2, 3, 5), (2, 8, 8), layout="images").describe()
    assert "F(4,5)" in described["always"]
    assert "F(" not in described["never"] + described["auto"]  # too small a layer for it to pay
    monkeypatch.setenv("CONVSCOPE_WINOGRAD", "auto")
    assert "F(4,5)" in NativeNetwork(nn.Conv2d(32, 32, 5, padding=2), (32, 16, 16), layout="images").describe()


def test_nan_stays_where_it_reaches() -> None:
    """A tile shares its inputs, so a NaN spreads over the outputs of its tiles; it never gets lost."""
    layer = nn.Conv2d(3, 4, 3, padding=1)
    x = torch.zeros(2, 3, 6, 9)
    x[1, 0, 2, 4] = float("nan")
    y = accelerate(layer)(x)
    assert not y[0].isnan().any()
    assert bool(y[1, :, 1:4, 3:6].isnan().all())


def test_what_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_WINOGRAD", "sometimes")
    with pytest.raises(Exception, match='CONVSCOPE_WINOGRAD is "sometimes", not auto, never or always'):
        NativeNetwork(nn.Conv2d(2, 3, 5), (2, 8, 8)).ready()
