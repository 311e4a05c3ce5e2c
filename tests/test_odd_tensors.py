"""Tensors of unusual kinds get torch's result, or an error that names the argument."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convscope import accelerate, native, predict, trace
from convscope.errors import ArgumentError
from convscope.spec import ModelSpec, Preprocessing, attach

ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "sparse": lambda x: x.to_sparse(),
    "mkldnn": lambda x: x.to_mkldnn(),
    "meta": lambda x: x.to("meta"),
}


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()


def pictures() -> Tensor:
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def negative(x: Tensor) -> Tensor:
    """The same numbers in a view that torch negates when it is read."""
    view = torch._neg_view(-x)
    assert view.is_neg()
    return view


@pytest.mark.parametrize("kind", ODD)
def test_a_trace_names_what_it_cannot_take(kind: str) -> None:
    with pytest.raises(ArgumentError, match=rf"x: got 'a \w*{kind}\w* tensor', wanted a dense tensor"):
        trace(net(), ODD[kind](pictures()))


def test_a_trace_of_nothing_and_of_a_negated_view() -> None:
    with pytest.raises(ArgumentError, match=r"x: got \(0, 1, 8, 8\), wanted at least one example"):
        trace(net(), pictures()[:0])
    model = net()
    torch.testing.assert_close(trace(model, negative(pictures())).logits, model(pictures()))


@pytest.mark.skipif(not native.available(), reason="the native engine is not built here")
def test_an_accelerated_model_names_what_it_cannot_take() -> None:
    model = accelerate(net())
    for kind, change in ODD.items():
        with pytest.raises(ArgumentError, match=rf"images: got '(a \w*{kind}\w* tensor|on {kind})', wanted"):
            model(change(pictures()))
    with pytest.raises(ArgumentError, match="images: got torch.bfloat16, wanted torch.float32 or torch.uint8"):
        model(pictures().bfloat16())
    torch.testing.assert_close(model(negative(pictures())), net()(pictures()), rtol=1e-4, atol=1e-5)


def test_predictions_name_what_they_cannot_take() -> None:
    described = ModelSpec("graph", {}, (1, 8, 8), ("a", "b", "c"), Preprocessing(1, (8, 8), (0.1,), (0.3,)))
    model = attach(net(), described)
    pixels = (pictures().abs() * 50).to(torch.uint8)
    for kind in ("sparse", "meta"):
        with pytest.raises(ArgumentError, match=rf"images: got 'a {kind}\w* tensor', wanted a dense tensor"):
            predict(model, ODD[kind](pixels), engine="torch")
    with pytest.raises(ArgumentError, match="wanted at least one picture"):
        predict(model, pixels[:0], engine="torch")
