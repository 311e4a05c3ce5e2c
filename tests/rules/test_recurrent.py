"""RNN, LSTM and GRU: layers, directions, lengths, states, packed sequences."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from tests.oracles import check_model, slope, worst
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from convscope.errors import ArgumentError
from convscope.rules import tape
from convscope.rules.base import apply_module
from convscope.rules.gru import GRU
from convscope.rules.lstm import LSTM
from convscope.rules.recurrent import Packing
from convscope.rules.rnn import RNN

KINDS: dict[str, Any] = {
    "tanh": (nn.RNN, {}), "relu": (nn.RNN, {"nonlinearity": "relu"}), "lstm": (nn.LSTM, {}), "gru": (nn.GRU, {}),
    "projected": (nn.LSTM, {"proj_size": 2}),
}  # fmt: skip
LENGTHS = torch.tensor([2, 7, 1, 7, 4])


def made(kind: str, **options: Any) -> nn.RNNBase:
    cls, own = KINDS[kind]
    torch.manual_seed(3)
    layer: nn.RNNBase = cls(3, 5, **own, **options).double()
    return layer


def state_of(layer: nn.RNNBase, count: int) -> Any:
    """A state to begin with, as the layer's call takes it."""
    number = layer.num_layers * (1 + layer.bidirectional)
    h = torch.randn(number, count, layer.proj_size or layer.hidden_size, dtype=torch.float64)
    return (h, torch.randn(number, count, layer.hidden_size, dtype=torch.float64)) if layer.mode == "LSTM" else h


class Begun(nn.Module):
    """A layer that is given its first state, one tensor for each part."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Any:
        return self.layer(x, (h, c) if self.layer.mode == "LSTM" else h)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "both", "bias", "first"), [*itertools.product((1, 3), *[(True, False)] * 3)])
def test_as_torch_goes(kind: str, layers: int, both: bool, bias: bool, first: bool) -> None:
    layer = made(kind, num_layers=layers, bidirectional=both, bias=bias, batch_first=first)
    check_model(nn.Sequential(layer), torch.randn(4, 6, 3), expected_rules=1)
    check_model(nn.Sequential(layer), torch.randn(4, 3), expected_rules=1)  # one sequence without a batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("both", [False, True])
def test_a_state_that_is_given_has_its_delta(kind: str, both: bool) -> None:
    layer = made(kind, num_layers=2, bidirectional=both)
    state = state_of(layer, 4)
    h, c = state if isinstance(state, tuple) else (state, torch.zeros(()))
    check_model(Begun(layer), torch.randn(6, 4, 3), h, c)
    check_model(Begun(layer), torch.randn(6, 3), h[:, 0], c[:, 0] if c.ndim else c)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("both", "given"), [*itertools.product((False, True), repeat=2)])
def test_packed_sequences_of_very_unequal_length(kind: str, both: bool, given: bool) -> None:
    layer = made(kind, num_layers=2, bidirectional=both)
    x = torch.randn(7, 5, 3, dtype=torch.float64)
    state = state_of(layer, 5) if given else None
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    data = packed.data.clone().requires_grad_()
    y, end = layer(PackedSequence(data, *packed[1:]), state)
    ends = end if isinstance(end, tuple) else (end,)
    deltas = [torch.randn_like(each) for each in (y.data, *ends)]
    wanted = torch.autograd.grad([y.data, *ends], [data, *layer.parameters()], deltas)
    applied = apply_module(layer, (packed, state), {})
    assert applied is not None
    weights = {name: value.detach() for name, value in applied.arguments.items() if value is not None}
    (mine, my_end), saved = applied.rule.forward(*applied.inputs, **weights)
    assert isinstance(mine, PackedSequence)
    assert mine.batch_sizes.tolist() == packed.batch_sizes.tolist()
    assert mine.sorted_indices is not None
    assert packed.sorted_indices is not None
    assert mine.sorted_indices.tolist() == packed.sorted_indices.tolist()
    assert worst(mine.data, y.data.detach()) < 1e-12
    for own, other in zip(my_end if isinstance(my_end, tuple) else (my_end,), ends, strict=True):
        assert worst(own, other.detach()) < 1e-12
    to_end = tuple(deltas[1:]) if len(ends) > 1 else deltas[1]
    to_inputs, gradients = applied.rule.backward(saved, ((deltas[0], None, None, None), to_end))
    assert to_inputs[0] is not None
    assert worst(to_inputs[0], wanted[0]) < 1e-9
    for (name, _), each in zip(layer.named_parameters(), wanted[1:], strict=True):
        assert worst(gradients[name], each) < 1e-9, name


def test_packed_sequences_go_through_a_model() -> None:
    """A PackedSequence is a value of the graph like others: δ finds back through it."""

    class Stacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first: nn.Module = made("lstm")
            self.second = nn.GRU(5, 4).double()

        def forward(self, rows: PackedSequence) -> Any:
            return self.second(self.first(rows)[0])[1]

    packed = pack_padded_sequence(torch.randn(7, 5, 3, dtype=torch.float64), LENGTHS, enforce_sorted=False)
    model = Stacked()
    y = model(packed)
    delta = torch.randn_like(y)
    wanted = torch.autograd.grad(y, list(model.parameters()), delta)
    ran = tape.forward(model, packed)
    assert [step.rule.kind for step in ran if step.module is not None] == ["recurrent"] * 2
    back = ran.backward(delta)
    for (name, _), each in zip(model.named_parameters(), wanted, strict=True):
        assert worst(back.gradients[name], each) < 1e-9, name


@pytest.mark.parametrize("kind", KINDS)
def test_where_only_a_part_of_the_output_is_used(kind: str) -> None:
    class Last(nn.Module):
        def __init__(self, which: int) -> None:
            super().__init__()
            self.layer, self.which = made(kind, num_layers=2), which

        def forward(self, x: Tensor) -> Any:
            y, end = self.layer(x)
            return y if self.which == 0 else end[0] if self.which == 1 else end[-1]

    for which in (0, 1, 2):
        check_model(Last(which), torch.randn(5, 2, 3))


@pytest.mark.parametrize(("rule", "kind"), [(RNN, "tanh"), (LSTM, "lstm"), (GRU, "gru")])
def test_against_finite_differences(rule: Any, kind: str) -> None:
    layer = made(kind, num_layers=2, bidirectional=True)
    x = torch.randn(7, 5, 3, dtype=torch.float64)
    configured = rule(layers=2, bidirectional=True, form="lengths")
    weights = {name: value.detach() for name, value in layer.named_parameters()}
    y, saved = configured.forward(x, LENGTHS, **weights)
    assert set(saved) == set(configured.needs)
    delta = torch.randn_like(y)
    (to_x, *_), gradients = configured.backward(saved, delta)

    def along(name: str, tensor: Tensor, found: Tensor) -> None:
        direction = torch.randn_like(tensor)

        def value(moved: Tensor) -> Tensor:
            named = weights | {name: moved} if name else weights
            total: Tensor = (configured.forward(x if name else moved, LENGTHS, **named)[0] * delta).sum()
            return total

        numeric = slope(value, tensor, direction, 1e-4)
        assert numeric == pytest.approx(float((found * direction).sum()), rel=1e-6, abs=1e-6)

    along("", x, to_x)
    for name, weight in weights.items():
        along(name, weight, gradients[name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_does_not_see_its_neighbours(kind: str) -> None:
    """The answer for a batch of unequal lengths is that for each alone, and what is behind an end counts nothing."""
    layer = made(kind, bidirectional=True)
    rule = {"tanh": RNN, "relu": RNN, "lstm": LSTM, "gru": GRU, "projected": LSTM}[kind](
        bidirectional=True, form="lengths", **({"nonlinearity": "relu"} if kind == "relu" else {})
    )
    weights = {name: value.detach() for name, value in layer.named_parameters()}
    x = torch.randn(7, 5, 3, dtype=torch.float64)
    y, _ = rule.forward(x, LENGTHS, **weights)
    for place, length in enumerate(LENGTHS.tolist()):
        alone, _ = layer(x[:length, place])
        assert worst(y[:length, place], alone.detach()) < 1e-12
        assert not y[length:, place].any()


def test_dropout_between_layers_draws_torchs_mask() -> None:
    layer = made("lstm", num_layers=3, dropout=0.4, bidirectional=True)
    check_model(nn.Sequential(layer).train(), torch.randn(6, 4, 3), expected_rules=1)
    still = nn.Sequential(layer).eval()
    assert tape.forward(still, torch.randn(6, 4, 3, dtype=torch.float64)).steps[0].saved["masks"] == [None] * 3


def test_hand_worked_lstm() -> None:
    """One unit, all weights 1 but a forget gate that is shut by its bias of −100."""
    layer = nn.LSTM(1, 1).double()
    with torch.no_grad():
        for each in layer.parameters():
            each.fill_(1.0)
        layer.get_parameter("bias_ih_l0").copy_(torch.tensor([0.0, -100, 0, 0]))
        layer.get_parameter("bias_hh_l0").zero_()
    y, (h, c) = tape.forward(layer, torch.tensor([[[0.0]], [[0.0]]], dtype=torch.float64)).output
    assert y.flatten().tolist() == [0, 0]
    y, (h, c) = tape.forward(layer, torch.tensor([[[1.0]]], dtype=torch.float64)).output
    gate, inner = 0.7310585786300049, 0.7615941559557649  # σ(1), tanh(1)
    assert float(c) == pytest.approx(gate * inner, rel=1e-14)
    assert float(h) == pytest.approx(gate * float(torch.tanh(torch.tensor(gate * inner, dtype=torch.float64))))


def test_wrong_lengths_are_refused() -> None:
    rule = LSTM(form="lengths")
    weights = {name: value.detach() for name, value in nn.LSTM(3, 5).named_parameters()}
    x = torch.zeros(4, 2, 3)
    with pytest.raises(ArgumentError, match=r"lengths: got \[5, 1\], wanted numbers of steps from 1 to 4"):
        rule.forward(x, torch.tensor([5, 1]), **weights)
    with pytest.raises(ArgumentError, match="lengths: got 3, wanted one for each of the 2 sequences"):
        rule.forward(x, torch.tensor([4, 1, 1]), **weights)
    with pytest.raises(ArgumentError, match=r"lengths: got 'torch.float32 \(2,\)', wanted an integer"):
        Packing.of(torch.ones(2), 4)
    with pytest.raises(ArgumentError, match="x: .* wanted at least one sequence and one step"):
        LSTM().forward(torch.zeros(0, 2, 3), **weights)


def test_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    right = GRU.back

    def wrong(self: GRU, *given: Any) -> Any:
        a, r, before = right(self, *given)
        return a, r * (1 + 1e-7), before

    monkeypatch.setattr(GRU, "back", wrong)
    with pytest.raises(AssertionError):
        check_model(nn.Sequential(made("gru")), torch.randn(6, 4, 3))
