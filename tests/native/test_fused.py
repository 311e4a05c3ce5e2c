"""Steps that the engine makes for a torch optimiser, beside that optimiser's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.native.comparing import pictures, randomised
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from convscope.native import NativeNetwork, available
from convscope.native.fused import FusedDescent

pytestmark = pytest.mark.skipif(not available(), reason="the engine is not built")

SHAPE = (2, 9, 7)
TARGETS = torch.arange(33) % 4


def net() -> nn.Sequential:
    return randomised(  # type: ignore[return-value]
        nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(30, 4))
    )


Make = Callable[[Any], torch.optim.Optimizer]


def run(make: Make, count: int, *, fused: bool, threads: int = 2, steps: int = 4) -> tuple[nn.Module, Any]:
    """Steps by ``descend``, or by ``loss_and_grad`` and a float64 optimiser that is given the same gradients."""
    model = net()
    network = NativeNetwork(model, SHAPE, "cross_entropy", threads=threads)
    exact = [nn.Parameter(each.detach().double()) for each in model.parameters()]
    optimiser = make(list(model.parameters()) if fused else exact)
    for step in range(steps):
        x = pictures(count, SHAPE, seed=step)
        if fused:
            fusable = FusedDescent(network.engine, optimiser, network.memory).rules() is not None
            assert fusable or step == 0, "only the first step is torch's"
            network.descend(x, TARGETS[:count], optimiser, step=step)
            continue
        network.loss_and_grad(x, TARGETS[:count], step=step)
        for one, other in zip(exact, model.parameters(), strict=True):
            assert other.grad is not None
            one.grad = other.grad.double()
        optimiser.step()
        with torch.no_grad():
            for one, other in zip(exact, model.parameters(), strict=True):
                other.copy_(one)
    return model, optimiser


def compare(make: Make, count: int = 17, threads: int = 2, tolerance: float = 2e-5) -> None:
    got, optimiser = run(make, count, fused=True, threads=threads)
    wanted, exact = run(make, count, fused=False, threads=threads)
    start = net()
    pairs = zip(got.parameters(), wanted.parameters(), start.parameters(), strict=True)
    for place, (parameter, other, first) in enumerate(pairs):
        one = parameter.detach()
        scale = float((other - first).detach().abs().max()) + 1e-6 * float(other.detach().abs().max())
        # what cancels out to 0 before batch normalisation is rounding alone, which Adam blows up
        if place == 1:
            continue
        assert float((one - other).detach().abs().max()) <= tolerance * scale + 4e-7 * float(other.detach().abs().max())
        assert not torch.equal(one, first), "the canary: it did move"
        for name, value in optimiser.state[parameter].items():
            its = exact.state[exact.param_groups[0]["params"][place]][name]
            torch.testing.assert_close(value.double(), its.double(), rtol=1e-4, atol=1e-4 * float(its.abs().max()))


@pytest.mark.parametrize(("count", "threads"), [(2, 1), (15, 1), (16, 2), (33, 3)])
def test_awkward_batches(count: int, threads: int) -> None:
    compare(lambda each: torch.optim.SGD(each, lr=0.05, momentum=0.9), count, threads)


@settings(max_examples=25, deadline=None)
@given(
    rate=st.floats(1e-4, 0.1),
    weight_decay=st.sampled_from([0.0, 0.01, 0.3]),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    dampening=st.sampled_from([0.0, 0.4]),
    nesterov=st.booleans(),
)
def test_gradient_descent(rate: float, weight_decay: float, momentum: float, dampening: float, nesterov: bool) -> None:
    nesterov = nesterov and momentum > 0
    dampening = 0.0 if nesterov else dampening
    compare(
        lambda each: torch.optim.SGD(
            each, lr=rate, weight_decay=weight_decay, momentum=momentum, dampening=dampening, nesterov=nesterov
        )
    )


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from([torch.optim.Adam, torch.optim.AdamW]),
    rate=st.floats(1e-4, 0.05),
    betas=st.tuples(st.sampled_from([0.3, 0.5, 0.9]), st.sampled_from([0.9, 0.999])),
    epsilon=st.sampled_from([1e-4, 1e-2]),
    weight_decay=st.sampled_from([0.0, 0.1]),
)
def test_adam(
    kind: type[torch.optim.Adam], rate: float, betas: tuple[float, float], epsilon: float, weight_decay: float
) -> None:
    # Gradients of 1e-9 apart would be 1e-9/ε apart in a parameter: ε well above rounding keeps the comparison sharp.
    compare(lambda each: kind(each, lr=rate, betas=betas, eps=epsilon, weight_decay=weight_decay), tolerance=1e-4)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_one_step_is_torchs_own_to_the_last_bits(kind: type[torch.optim.Optimizer]) -> None:
    """From the same memory, one step by the engine and one by torch's fused optimiser in float32."""
    more: dict[str, Any] = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    model = net()
    network = NativeNetwork(model, SHAPE, "cross_entropy", threads=2)
    optimiser = kind(model.parameters(), lr=0.01, weight_decay=0.1, fused=True, **more)  # type: ignore[call-arg]
    x = pictures(17, SHAPE)
    network.descend(x, TARGETS[:17], optimiser)
    other = copy.deepcopy(model)
    its = kind(other.parameters(), lr=0.01, weight_decay=0.1, fused=True, **more)  # type: ignore[call-arg]
    its.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    network.descend(x, TARGETS[:17], optimiser)
    for one, peer in zip(other.parameters(), model.parameters(), strict=True):
        assert peer.grad is not None
        one.grad = peer.grad.clone()
    its.step()
    for one, peer in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, peer, rtol=5e-7, atol=1e-8)
        for name, value in optimiser.state[one].items():
            torch.testing.assert_close(value, its.state[peer][name], rtol=5e-7, atol=1e-9)


def test_groups_schedules_and_state_stay_the_optimisers() -> None:
    def make(each: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            [{"params": each[:2], "lr": 0.0}, {"params": each[2:], "weight_decay": 0.1}], lr=0.05, momentum=0.9
        )

    model = net()
    network = NativeNetwork(model, SHAPE, "cross_entropy", threads=2)
    optimiser = make(list(model.parameters()))
    still, moving = model.get_parameter("0.weight").detach().clone(), model.get_parameter("5.weight")
    for step in range(3):
        network.descend(pictures(17, SHAPE), TARGETS[:17], optimiser, step=step)
    assert torch.equal(model.get_parameter("0.weight"), still)
    saved = copy.deepcopy(optimiser.state_dict())
    weights = copy.deepcopy(model.state_dict())
    optimiser.param_groups[1]["lr"] = 0.01  # as a schedule does
    before = moving.detach().clone()
    network.descend(pictures(17, SHAPE), TARGETS[:17], optimiser)
    slow = float((moving - before).detach().abs().max())
    after = moving.detach().clone()
    # Put back: the memory's tensors are others now, and the same step is made again, at the old rate a longer one.
    model.load_state_dict(weights)
    optimiser.load_state_dict(copy.deepcopy(saved))  # or its tensors would be those of `saved`
    optimiser.param_groups[1]["lr"] = 0.01
    network.descend(pictures(17, SHAPE), TARGETS[:17], optimiser)
    assert torch.equal(moving, after)
    model.load_state_dict(weights)
    optimiser.load_state_dict(copy.deepcopy(saved))
    network.descend(pictures(17, SHAPE), TARGETS[:17], optimiser)
    assert float((moving - before).detach().abs().max()) == pytest.approx(5 * slow, rel=1e-3)
    state = optimiser.state[moving]["momentum_buffer"]
    assert state.shape == moving.shape


@pytest.mark.parametrize(
    "make",
    [
        lambda each: torch.optim.SGD(each, lr=0.1, maximize=True),
        lambda each: torch.optim.Adam(each, lr=torch.tensor(0.1)),
        lambda each: torch.optim.Adam(each, amsgrad=True),
        lambda each: torch.optim.RMSprop(each),
    ],
)
def test_what_the_engine_does_not_know_is_torchs(make: Make) -> None:
    model, other = net(), net()
    network = NativeNetwork(model, SHAPE, "cross_entropy", threads=1)
    peer = NativeNetwork(other, SHAPE, "cross_entropy", threads=1)
    optimiser, its = make(model.parameters()), make(other.parameters())
    for _ in range(3):
        network.descend(pictures(9, SHAPE), TARGETS[:9], optimiser)
        assert FusedDescent(network.engine, optimiser, network.memory).rules() is None
        peer.loss_and_grad(pictures(9, SHAPE), TARGETS[:9])
        its.step()
    for one, another in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, another)


def test_hooks_own_classes_and_strange_memory_are_torchs() -> None:
    model = net()
    network = NativeNetwork(model, SHAPE, "cross_entropy", threads=1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    network.descend(pictures(9, SHAPE), TARGETS[:9], optimiser)
    fused = FusedDescent(network.engine, optimiser, network.memory)
    assert fused.rules() is not None
    seen: list[int] = []
    handle = optimiser.register_step_post_hook(lambda *_: seen.append(1))
    assert fused.rules() is None
    network.descend(pictures(9, SHAPE), TARGETS[:9], optimiser)
    assert seen == [1]
    handle.remove()
    assert fused.rules() is not None
    for everywhere in (register_optimizer_step_pre_hook, register_optimizer_step_post_hook):
        handle = everywhere(lambda *_: seen.append(2))
        assert fused.rules() is None
        handle.remove()

    class Own(torch.optim.SGD):
        pass

    own = Own(model.parameters(), lr=0.1)
    assert FusedDescent(network.engine, own, network.memory).rules() is None
    model.get_parameter("5.weight").grad = torch.zeros(4, 30)  # not the engine's
    assert fused.rules() is None
    elsewhere = nn.Parameter(torch.zeros(3))
    elsewhere.grad = torch.zeros(3)
    foreign = torch.optim.SGD([elsewhere], lr=0.1)
    assert FusedDescent(network.engine, foreign, network.memory).rules() is None


def test_runs_repeat_bit_for_bit_and_nan_comes_through() -> None:
    def make(each: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(each, lr=0.01)

    first, second = (run(make, 33, fused=True, threads=3)[0] for _ in range(2))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    model = net()
    network = NativeNetwork(model, SHAPE, "cross_entropy", threads=2)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    x = pictures(17, SHAPE)
    x[3] = math.nan
    loss, _ = network.descend(x, TARGETS[:17], optimiser)
    assert math.isnan(loss)
    assert model.get_parameter("5.weight").isnan().any()


def test_refused_rules() -> None:
    model = net()
    network = NativeNetwork(model, SHAPE, "cross_entropy")
    rule = network.engine.Rule
    with pytest.raises(ValueError, match=r"end has 3, wanted a place behind begin, 3"):
        rule(3, 3)
    with pytest.raises(ValueError, match=r"mean has shape \(2\), wanted one axis of 3"):
        rule(0, 3, torch.zeros(2).numpy())
    with pytest.raises(ValueError, match="mean, squares and steps go together"):
        rule(0, 3, torch.zeros(3).numpy(), torch.zeros(3).numpy())
    with pytest.raises(ValueError, match="Adam wants mean, squares and steps"):
        rule(0, 3).adam(0.1, 0.0, 0.9, 0.99, 1e-8, False)
    with pytest.raises(ValueError, match="gradient descent wants mean with momentum"):
        rule(0, 3).gradient_descent(0.1, 0.0, 0.9)
