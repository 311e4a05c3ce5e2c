"""Histograms, dead and saturated units, on networks where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from convscope.inspect import trace
from convscope.inspect.statistics import Histogram, dead_table, layer_statistics


def test_a_histogram_counts_every_finite_value_once() -> None:
    values = torch.tensor([0.0, 0.0, 1.0, 4.0, float("nan"), float("inf")])
    histogram = Histogram.of(values, bins=4)
    assert histogram.counts.tolist() == [2, 1, 0, 1]
    assert (histogram.low, histogram.high) == (0, 4)
    wanted, _ = np.histogram(values[:4].numpy(), 4)
    assert histogram.counts.tolist() == wanted.tolist()


def test_equal_values_are_one_bar() -> None:
    histogram = Histogram.of(torch.full((7,), 3.0), bins=5)
    assert histogram.counts.tolist() == [0, 0, 7, 0, 0]
    assert Histogram.of(torch.tensor([float("nan")])).counts.sum() == 0


def network() -> nn.Sequential:
    """Unit 1 of the rectifier can never fire, unit 3 fires for one picture only; the sigmoid is saturated by half."""
    first, second = nn.Linear(2, 4), nn.Linear(4, 2)
    model = nn.Sequential(first, nn.ReLU(), second, nn.Sigmoid())
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, -1.0], [1.0, 1.0], [0.0, 1.0]]))
        first.bias.copy_(torch.tensor([0.1, -0.1, 0.0, -1.5]))
        second.weight.copy_(torch.tensor([[100.0, 0, 100, 0], [0, 0, 0, 0]]))
        second.bias.zero_()
    return model


def test_dead_and_saturated_units() -> None:
    x = torch.tensor([[0.5, 1.0], [1.0, 0.2], [0.3, 2.0]])
    statistics = layer_statistics(trace(network(), x, torch.tensor([0, 1, 0]), loss="squared_error"))
    by_name = {item.name: item for item in statistics}
    assert [item.name for item in statistics] == ["0", "1", "2", "3"]
    assert by_name["1"].dead_units == (1,)
    assert (by_name["1"].dead, by_name["1"].units) == (1, 4)
    assert by_name["1"].zero == pytest.approx(5 / 12)  # unit 1 three times, unit 3 twice
    assert by_name["3"].saturated == pytest.approx(0.5)
    assert by_name["0"].dead is None
    assert by_name["0"].saturated is None
    assert by_name["0"].delta is not None
    assert by_name["0"].delta.counts.sum() == 12
    rows = dead_table(statistics).splitlines()
    assert rows[1].split() == ["1", "ReLU", "4", "1", "(25%)", "–", "42%", "1"]
    assert rows[2].split()[:5] == ["3", "Sigmoid", "2", "–", "50.0%"]


def test_a_map_is_dead_only_if_every_place_is() -> None:
    conv = nn.Conv2d(1, 2, 1)
    model = nn.Sequential(conv, nn.ReLU())
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 1.0]).reshape(2, 1, 1, 1))
        assert conv.bias is not None
        conv.bias.copy_(torch.tensor([0.0, -5.0]))
    x = torch.zeros(3, 1, 4, 4)
    x[1, 0, 2, 3] = 0.1
    statistics = layer_statistics(trace(model, x))
    assert statistics[1].dead_units == (1,)
    assert statistics[1].delta is None


def test_nothing_to_tell() -> None:
    assert dead_table(layer_statistics(trace(nn.Sequential(nn.Linear(2, 2)), torch.ones(1, 2)))) == (
        "No rectifiers and no saturating activations."
    )
