from __future__ import annotations

import warnings

import torch
from torch import nn

from convscope.inspect import trace
from convscope.rules import checked


def test_results_that_require_gradients_are_compared_in_silence() -> None:
    """torch warns once a process where such a tensor becomes a number; here it is made to warn always."""
    one = 2 * torch.ones(3, requires_grad=True)
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert checked._tensors_alike(one, one.clone(), {torch.float32: 1e-6})
            assert not checked._tensors_alike(one, one + 1e-4, {torch.float32: 1e-6})
    finally:
        torch.set_warn_always(False)


class OwnNorm(nn.Module):
    """Batch normalisation by the function, its statistics buffers of the module's own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3))
        self.register_buffer("mean", torch.randn(3))
        self.register_buffer("var", torch.rand(3) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.batch_norm(x, self.mean, self.var, self.weight, self.bias, False)  # type: ignore[arg-type]


def test_running_statistics_have_no_gradient_where_autograd_stands_in() -> None:
    """torch's slope of the hard sigmoid is off by 3e-8 in float64, so that each step is compared by itself."""
    torch.manual_seed(0)
    model = (
        nn.Sequential(nn.Conv2d(1, 3, 3), OwnNorm(), nn.Hardsigmoid(), nn.Flatten(), nn.Linear(48, 2)).double().eval()
    )
    x, targets = torch.randn(4, 1, 6, 6, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    traced = trace(model, x, targets)
    torch.nn.functional.cross_entropy(model(x), targets).backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(traced.gradients[name], parameter.grad, rtol=1e-11, atol=1e-14), name
    assert [layer.type for layer in traced.layers if layer.kind == "other"] == ["Hardsigmoid"]
