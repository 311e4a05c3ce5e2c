"""Attention, a step of an LSTM and a largest over time written out, beside torch and loops in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.explorer.test_arithmetic import closes, snapshot_of
from torch import Tensor, nn

from convscope.explorer.network import Network
from convscope.explorer.snapshot import Question, Snapshot
from convscope.layers import MaxOverTime, MultiHeadAttention, RecurrentLayers
from convscope.models import create_model


def headed(layer: nn.Module, places: int, size: int) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(places * size, 3)).double()


CASES: dict[str, tuple[Any, tuple[int, int], tuple[int, int]]] = {  # layer, its input, its output
    "attention": (lambda: MultiHeadAttention(6, 2), (5, 6), (5, 6)),
    "lstm": (lambda: RecurrentLayers(3, 4), (6, 3), (6, 4)),
    "lstm of two layers, both ways": (
        lambda: RecurrentLayers(3, 4, num_layers=2, bidirectional=True), (5, 3), (5, 8),
    ),
    "max_over_time": (MaxOverTime, (4, 7), (4, 1)),
    "other": (lambda: RecurrentLayers(3, 4, "gru"), (6, 3), (6, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_unit_and_delta_is_torchs(name: str) -> None:
    build, given, answered = CASES[name]
    model = headed(build(), *answered)
    snapshot = snapshot_of(model, given)
    x = snapshot.question.x.clone().requires_grad_()
    y = model[0](x)
    loss = nn.functional.cross_entropy(model[2](model[1](y)), torch.tensor([1]))
    back, _ = torch.autograd.grad(loss, (y, x))
    assert snapshot.layers["0"].family == name.split()[0]
    for unit in np.ndindex(*snapshot.layers["0"].shape):
        closes(snapshot.forward("0", unit), float(y[(0, *unit)].detach()))
        closes(snapshot.backward("0", unit), float(back[(0, *unit)]))
        assert snapshot.forward("0", unit).page()["family"] == snapshot.layers["0"].family


def test_the_coefficients_of_attention_are_its_weights() -> None:
    layer = MultiHeadAttention(6, 2).double()
    snapshot = snapshot_of(headed(layer, 5, 6), (5, 6))
    x = snapshot.question.x[0]
    q, k, v = (x @ layer.in_proj_weight.T + layer.in_proj_bias).detach().chunk(3, 1)
    terms = snapshot.forward("0", (3, 2)).terms
    assert terms.source is not None
    assert terms.coefficient is not None
    for row, ((head, key), place) in enumerate(zip(np.ndindex(2, 5), terms.source.tolist(), strict=True)):
        part = slice(3 * head, 3 * head + 3)
        scores = [math.exp(float(q[3, part] @ k[other, part]) / math.sqrt(3)) for other in range(5)]
        assert terms.coefficient[row] == pytest.approx(scores[key] / sum(scores), rel=1e-9)
        said = float(layer.out_weight[2, part].detach() @ v[key, part])
        assert terms.value[row] == pytest.approx(said, rel=1e-9, abs=1e-12)
        assert place == [key, -1]


def test_the_gates_are_those_of_torchs_cell() -> None:
    layer = RecurrentLayers(3, 4).double()
    snapshot = snapshot_of(headed(layer, 6, 4), (6, 3))
    cells = layer.cells
    cell = nn.LSTMCell(3, 4).double()
    cell.load_state_dict({name.removesuffix("_l0"): each for name, each in cells.state_dict().items()})
    h = c = torch.zeros(1, 4, dtype=torch.float64)
    for time, row in enumerate(snapshot.question.x[0]):
        u: Tensor = cell.weight_ih @ row + cell.bias_ih + cell.weight_hh @ h[0] + cell.bias_hh
        i, f, g, o = u.detach().reshape(4, 4)
        before = c
        h, c = (each.detach() for each in cell(row[None], (h, c)))
        for place in range(4):
            found = snapshot.forward("0", (time, place))
            lines = {line.symbol[:1]: line.value for line in found.steps if line.operation == "="}
            wanted = {"i": i.sigmoid(), "f": f.sigmoid(), "g": g.tanh(), "o": o.sigmoid(), "c": c[0], "h": h[0]}
            for symbol, vector in wanted.items():
                assert lines[symbol] == pytest.approx(float(vector[place]), rel=1e-9, abs=1e-12), symbol
            assert found.terms.value[0] == pytest.approx(float(before[0, place]), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["crnn", "caption_lstm", "caption_attention"])
def test_models_of_the_catalogue(name: str) -> None:
    options: dict[str, Any] = {"small": True, "hidden": 4} if name == "crnn" else {"maps": (2, 2, 2, 4), "size": 8}
    torch.manual_seed(1)
    model = create_model(name, **options).eval()
    network = Network(model, (1, 32, 40))
    snapshot = Snapshot(network, Question(torch.randn(1, 1, 32, 40), None, "cross_entropy"), 1)
    assert {node.family for node in network.nodes.values()} >= (
        {"lstm"} if name != "caption_attention" else {"lstm", "attention"}
    )
    for layer in ("reader", "writer", "glance", "attention"):
        if layer in snapshot.layers:
            y = snapshot.layers[layer].y
            for unit in [(0, 0), (y.shape[1] - 1, y.shape[2] - 1)]:
                closes(snapshot.forward(layer, unit), float(y[(0, *unit)]), 1e-5, float(y.abs().max()))
