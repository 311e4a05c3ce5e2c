"""torch's own Transformer, by the rules of its parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.oracles import check_model
from torch import Tensor, nn

OPTIONS: dict[str, Any] = {"nhead": 2, "dim_feedforward": 12, "batch_first": True}


def encoder(**options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, **{**OPTIONS, **options})
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Alone(nn.Module):
    """A model called with its inputs alone, without all that may be left out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


class Both(Alone):
    def forward(self, source: Tensor, target: Tensor) -> Any:  # type: ignore[override]
        return self.model(source, target)


class Masked(nn.Module):
    """A decoder that sees no later word, and no padding of the source."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, dropout=0.0, **OPTIONS), 1)
        self.register_buffer("later", torch.ones(5, 5, dtype=torch.bool).triu(1))
        self.register_buffer("padding", torch.tensor([[False] * 4, [False, False, True, True]]))

    def forward(self, target: Tensor, source: Tensor) -> Any:
        return self.decoder(
            target, source, tgt_mask=self.later, tgt_is_causal=True, memory_key_padding_mask=self.padding
        )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{"dropout": 0.0}, {"dropout": 0.3}, {"dropout": 0.0, "norm_first": True}], ids=str)
def test_an_encoder(options: dict[str, Any], training: bool) -> None:
    torch.manual_seed(1)
    ran = check_model(Alone(encoder(**options)).train(training), torch.randn(2, 5, 8))
    kinds = [step.rule.kind for step in ran]
    assert kinds.count("attention") == 2
    assert kinds.count("norm") == 4
    assert "other" not in kinds


def test_a_decoder_with_masks() -> None:
    torch.manual_seed(2)
    ran = check_model(Masked().train(), torch.randn(2, 5, 8), torch.randn(2, 4, 8))
    assert [step.rule.kind for step in ran].count("attention") == 2
    assert all(step.rule.kind != "other" for step in ran)


def test_the_whole_transformer() -> None:
    torch.manual_seed(3)
    model = nn.Transformer(8, 2, 1, 1, 12, 0.0, batch_first=True)
    model.encoder.enable_nested_tensor = False
    ran = check_model(Both(model).train(), torch.randn(2, 4, 8), torch.randn(2, 5, 8))
    assert [step.rule.kind for step in ran].count("attention") == 3
