"""Recurrent layers for sequences of unequal length that lie side by side in one tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from convscope.errors import ArgumentError
from convscope.layers.conv import whole_number
from convscope.rules.base import Applied, rule_for_module
from convscope.rules.gru import GRU
from convscope.rules.lstm import LSTM
from convscope.rules.recurrent import apply_recurrent
from convscope.rules.rnn import RNN

_CELLS: dict[str, tuple[Any, type[Any], dict[str, Any]]] = {
    "lstm": (nn.LSTM, LSTM, {}),
    "gru": (nn.GRU, GRU, {}),
    "tanh": (nn.RNN, RNN, {"nonlinearity": "tanh"}),
    "relu": (nn.RNN, RNN, {"nonlinearity": "relu"}),
}


class RecurrentLayers(nn.Module):
    """torch's recurrent layers of ``cell`` "lstm", "gru", "tanh" or "relu", as one layer from sequences to sequences.

    Input (n, t, input_size) and, where the sequences are of unequal length, ``lengths``, int64 (n,), in steps or, with
    ``stride``, in parts of so many to a step; output
    (n, t, hidden_size), twice as wide with ``bidirectional``. What is behind a sequence's end has no influence on it,
    and the output there is 0, so that an answer does not depend on the sequences beside it.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        cell: str = "lstm",
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        stride: int = 1,
    ) -> None:
        super().__init__()
        if cell not in _CELLS:
            raise ArgumentError("cell", cell, f"one of {', '.join(_CELLS)}")
        self.input_size = whole_number(input_size, "input_size")
        self.hidden_size = whole_number(hidden_size, "hidden_size")
        self.cell, self.num_layers = cell, whole_number(num_layers, "num_layers")
        self.bidirectional, self.dropout = bidirectional, dropout
        self.stride = whole_number(stride, "stride")
        torchs, _, options = _CELLS[cell]
        self.cells: nn.RNNBase = torchs(
            input_size,
            hidden_size,
            num_layers,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout,
            **options,
        )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            y: Tensor = self.cells(x)[0]
            return y
        lengths = lengths // self.stride
        if lengths.shape != x.shape[:1]:
            raise ArgumentError("lengths", tuple(lengths.shape), f"one for each of the {len(x)} sequences")
        if int(lengths.min()) < 1 or int(lengths.max()) > x.shape[1]:
            raise ArgumentError("lengths", lengths.tolist()[:8], f"numbers of steps from 1 to {x.shape[1]}")
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        padded, _ = pad_packed_sequence(self.cells(packed)[0], batch_first=True, total_length=x.shape[1])
        return padded

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, cell={self.cell!r}, num_layers={self.num_layers}, "
            f"bidirectional={self.bidirectional}, dropout={self.dropout}, stride={self.stride}"
        )


@rule_for_module(RecurrentLayers)
def _(module: RecurrentLayers, x: Tensor, lengths: Tensor | None = None) -> Applied:
    _, rule, options = _CELLS[module.cell]
    whole = lengths // module.stride if lengths is not None else torch.full((len(x),), x.shape[1], device=x.device)
    return apply_recurrent(rule, module.cells, x, lengths=whole, **options)
