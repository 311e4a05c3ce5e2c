"""What a model of tokens does inside: every layer from the embedding on, with its sensitivities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from convscope import trace
from convscope.models import create_model


class Reader(nn.Module):
    """The class of a sentence from the last state of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.cells = nn.LSTM(4, 5, batch_first=True, bidirectional=True)
        self.output = nn.Linear(10, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.cells(self.words(tokens))
        scores: Tensor = self.output(y[:, -1])
        return scores


@pytest.mark.parametrize("build", [Reader, lambda: create_model("text_cnn", classes=3, vocabulary=9, size=4, maps=3)])
def test_every_layer_is_there_with_its_delta(build: type[nn.Module]) -> None:
    torch.manual_seed(1)
    model = build().double().eval()
    tokens, target = torch.tensor([[4, 8, 4, 5], [6, 7, 8, 2]]), torch.tensor([2, 0])
    found = trace(model, tokens, target)
    kept: dict[str, Tensor] = {}
    table = next(module for module in model.modules() if isinstance(module, nn.Embedding))

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        output.retain_grad()
        kept["words"] = output

    handle = table.register_forward_hook(keep)
    loss = nn.functional.cross_entropy(model(tokens), target)
    loss.backward()  # type: ignore[no-untyped-call]
    handle.remove()
    first = found[0]
    assert first.kind == "embedding"
    assert torch.equal(first.x, tokens)
    torch.testing.assert_close(first.y, kept["words"].detach())
    torch.testing.assert_close(first.delta, kept["words"].grad)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found.gradients[name], parameter.grad, rtol=1e-9, atol=1e-12, msg=name)
    alone = trace(model, tokens[0])
    torch.testing.assert_close(alone.logits, found.logits[:1])


def test_a_table_that_shortens_its_rows_stays_as_it_was() -> None:
    model = nn.Sequential(nn.Embedding(5, 3, max_norm=0.5), nn.Flatten(), nn.Linear(6, 2)).double()
    table = next(model.parameters())
    before = table.detach().clone()
    found = trace(model, torch.tensor([[0, 1], [2, 3]]), torch.tensor([0, 1]))
    assert torch.equal(table, before)
    torch.testing.assert_close(found.logits, model(torch.tensor([[0, 1], [2, 3]])).detach())
    assert not torch.equal(table, before)
