"""The sparse autoencoder's cost beside the slides' equations written out, finite differences and autograd."""

from __future__ import annotations

import pytest
import torch
from tests.oracles import worst
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.models import create_model
from convscope.rules import tape
from convscope.rules.sparse_loss import divergence, reconstruction, sparsity
from convscope.tasks.autoencoding.task import SparseCost

RHO, BETA = 0.05, 3.0


def built(tied: bool = False, below: tuple[int, ...] = ()) -> nn.Module:
    torch.manual_seed(3)
    return create_model("sparse_autoencoder", units=6, tied=tied, below=below, input_size=(3, 5)).double()


def pictures(count: int = 7) -> Tensor:
    return torch.rand(count, 1, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_divergence_by_hand() -> None:
    """KL(0.2‖0.5) = 0.2·ln 0.4 + 0.8·ln 1.6 and nothing where ρ̂ = ρ."""
    a = torch.tensor([[0.3, 0.1], [0.7, 0.3]], dtype=torch.float64)
    value, delta = sparsity(a, 0.2)
    assert float(value) == pytest.approx(-0.18325814637 + 0.37600290339, rel=1e-9)
    assert float(divergence(torch.tensor([0.2]), 0.2)) == pytest.approx(0, abs=1e-7)
    # (−0.2/0.5 + 0.8/0.5)/2 for the first unit, 0 for the second, the same for both examples
    assert worst(delta, torch.tensor([[0.6, 0.0], [0.6, 0.0]], dtype=torch.float64)) < 1e-12


def test_units_that_never_or_always_fire_stay_finite() -> None:
    a = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    value, delta = sparsity(a, RHO)
    assert torch.isfinite(value)
    assert torch.isfinite(delta).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ArgumentError, match="rho: got 1.0, wanted a mean activation between 0 and 1"):
        sparsity(torch.rand(2, 3), 1.0)
    with pytest.raises(ArgumentError, match=r"a: got \(3,\), wanted activations \(m, units\)"):
        sparsity(torch.rand(3), RHO)
    with pytest.raises(ArgumentError, match=r"x: got \(2, 4\), wanted the shape of the reconstruction, \(2, 3\)"):
        reconstruction(torch.rand(2, 3), torch.rand(2, 4))


def test_equations_50_to_53_written_out() -> None:
    """δ³ = (h − x)·f′, δ² = (Wᵀδ³ + β·(…))·f′, gradients δ·aᵀ, means over the examples, without matrices of torch's."""
    model, x = built(), pictures()
    value, gradients = by_rules(model, x)
    weights = {name: each.detach() for name, each in model.named_parameters()}
    flat = x.flatten(1)
    a = torch.sigmoid(flat @ weights["encoder.weight"].T + weights["encoder.bias"])
    h = torch.sigmoid(a @ weights["decoder.weight"].T + weights["decoder.bias"])
    mean = a.mean(0)
    m = len(x)
    lost = (RHO * (RHO / mean).log() + (1 - RHO) * ((1 - RHO) / (1 - mean)).log()).sum()
    assert float(value) == pytest.approx(float(((h - flat) ** 2).sum() / 2 / m + BETA * lost), rel=1e-12)
    expected = {name: torch.zeros_like(each) for name, each in weights.items()}
    for example in range(m):
        last = (h[example] - flat[example]) * h[example] * (1 - h[example])
        term = BETA * (-RHO / mean + (1 - RHO) / (1 - mean))
        hidden = (weights["decoder.weight"].T @ last + term) * a[example] * (1 - a[example])
        expected["decoder.weight"] += torch.outer(last, a[example]) / m
        expected["decoder.bias"] += last / m
        expected["encoder.weight"] += torch.outer(hidden, flat[example]) / m
        expected["encoder.bias"] += hidden / m
    for name, each in expected.items():
        assert worst(gradients[name], each) < 1e-12, name
        assert worst(1.001 * gradients[name], each) > 1e-9


def by_rules(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    ran = tape.forward(model, x)
    value, delta = SparseCost(RHO, BETA).value_and_delta(ran.output, None)
    return value, dict(ran.backward(list(delta)).gradients)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("below", [(), (8,)])
def test_the_rules_are_finite_differences_and_autograd(tied: bool, below: tuple[int, ...]) -> None:
    model, x = built(tied, below), pictures()
    cost = SparseCost(RHO, BETA)
    value, gradients = by_rules(model, x)
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert not any(name.startswith("below") for name in trained)
    expected = torch.autograd.grad(cost.value(model(x), None), list(trained.values()))
    for (name, parameter), wanted in zip(trained.items(), expected, strict=True):
        assert worst(gradients[name], wanted) < 1e-10, name
        place = (parameter.numel() // 2,)
        flat = parameter.data.view(-1)
        flat[place] += 1e-6
        above = cost.value(model(x), None).item()
        flat[place] -= 2e-6
        slope = (above - cost.value(model(x), None).item()) / 2e-6
        flat[place] += 1e-6
        assert float(gradients[name].reshape(-1)[place]) == pytest.approx(slope, rel=1e-5, abs=1e-8), name
    assert float(value) == pytest.approx(cost.value(model(x), None).item(), rel=1e-12)
