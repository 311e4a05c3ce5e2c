"""Random programs of a user's own training loop: an accelerated module goes through them as its plain twin does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.native.comparing import pictures, randomised, relative
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.native import accelerate

SHAPE = (2, 7, 6)
CLASSES = 3
# Rounding grows from step to step; tanh has no kink at which either side would be right.
DRIFT = 1e-3

OPTIMISERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, eps=1e-3),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=1e-3, eps=1e-2),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=1e-2, eps=1e-2),
    "foreach": lambda parameters: torch.optim.SGD(parameters, lr=0.05, foreach=True),
}


class Foreign(nn.Module):
    """In the place of a pooling: what the engine lacks, with a parameter and statistics of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x[:, :, :4, None, :4].cumsum(1))[:, :, ::2, 0, ::2]
        return y


def network(seed: int, part: type[nn.Module] = nn.Identity) -> nn.Module:
    pool = nn.AvgPool2d(2) if part is nn.Identity else part()
    return randomised(
        nn.Sequential(
            nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Tanh(), pool, nn.Conv2d(5, 4, (2, 1)), nn.Sigmoid(),
            nn.Flatten(), nn.Linear(8, CLASSES),
        ),
        seed,
    )  # fmt: skip


class Program:
    """One side: a module in a training loop. ``turn`` counts the batches, which both sides draw alike."""

    def __init__(self, module: nn.Module, optimiser: str, part: type[nn.Module] = nn.Identity) -> None:
        self.module, self.kind, self.part = module, optimiser, part
        self.turn = 0
        self.new_optimiser()

    def new_optimiser(self) -> None:
        self.optimiser = OPTIMISERS[self.kind](self.module.parameters())

    def backward(self, count: int) -> Tensor:
        self.turn += 1
        x, targets = pictures(count, SHAPE, seed=self.turn), torch.arange(count) % CLASSES
        loss = F.cross_entropy(self.module(x), targets)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def do(self, what: str, count: int) -> Tensor:
        """Carry out one statement; the numbers that it gives, else those of the module on some pictures."""
        module, optimiser = self.module, self.optimiser
        if what in ("step", "step, kept", "clipped"):
            optimiser.zero_grad(set_to_none=what != "step, kept")
            loss = self.backward(count)
            if what == "clipped":
                nn.utils.clip_grad_norm_(module.parameters(), 0.1)
            optimiser.step()
            return loss
        if what == "accumulate":
            optimiser.zero_grad()
            total = self.backward(count) + self.backward(count)
            optimiser.step()
            return total
        if what == "by hand":
            module.zero_grad()
            self.backward(count)
            with torch.no_grad():
                for parameter in module.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(0.01 * parameter.grad)
        elif what == "eval":
            module.eval()
        elif what == "train":
            module.train()
        elif what == "load":
            module.load_state_dict(network(self.turn + 100, self.part).state_dict())
        elif what == "assign":
            module.load_state_dict(network(self.turn + 200, self.part).state_dict(), assign=True)
            self.new_optimiser()
        elif what == "replace":
            last: Any = module.get_submodule("7")
            last.weight = nn.Parameter(pictures(CLASSES, (8,), seed=self.turn))
            self.new_optimiser()
        elif what == "freeze":
            module.get_submodule("0").requires_grad_(False)
        elif what == "thaw":
            module.get_submodule("0").requires_grad_(True)
        elif what == "copy":
            old = self.module
            self.module = copy.deepcopy(old)
            self.new_optimiser()
            with torch.no_grad():
                for parameter in old.parameters():
                    parameter.fill_(float("nan"))
        elif what == "input":
            x = pictures(count, SHAPE, seed=self.turn).requires_grad_()
            (gradient,) = torch.autograd.grad(self.module(x).square().sum(), x)
            return gradient
        with torch.no_grad():
            found: Tensor = self.module(pictures(count, SHAPE, seed=7))
        return found


STATEMENTS = (
    "step", "step, kept", "clipped", "accumulate", "by hand", "eval", "train", "load", "assign", "replace", "freeze",
    "thaw", "copy", "input", "look",
)  # fmt: skip


@pytest.mark.parametrize("examples", [8, pytest.param(60, marks=pytest.mark.long)])
def test_it_goes_through_any_program(any_engine: str, examples: int) -> None:
    programs = st.lists(
        st.tuples(st.sampled_from(STATEMENTS), st.sampled_from([2, 15, 16, 17])), min_size=1, max_size=10
    )
    optimisers, parts = st.sampled_from(sorted(OPTIMISERS)), st.sampled_from([nn.Identity, Foreign])
    settings(max_examples=examples, deadline=None)(given(programs, optimisers, parts)(run_beside_torch))()


def run_beside_torch(statements: list[tuple[str, int]], optimiser: str, part: type[nn.Module]) -> None:
    plain = Program(network(1, part), optimiser, part)
    fast = Program(accelerate(network(1, part)), optimiser, part)
    for what, count in statements:
        own, other = fast.do(what, count), plain.do(what, count)
        assert relative(own, other, 1e-2) < DRIFT, what
        assert fast.module.training == plain.module.training
        for (name, value), (same, wanted) in zip(
            fast.module.state_dict().items(), plain.module.state_dict().items(), strict=True
        ):
            assert name == same
            assert relative(value.double(), wanted.double(), 0.1) < DRIFT, f"{name} after {what}"
        for (name, one), another in zip(fast.module.named_parameters(), plain.module.parameters(), strict=True):
            assert (one.grad is None) == (another.grad is None), f"{name} after {what}"


@pytest.mark.parametrize("part", [nn.Identity, Foreign])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_statement_between_two_steps(any_engine: str, statement: str, part: type[nn.Module]) -> None:
    plain = Program(network(1, part), "sgd", part)
    fast = Program(accelerate(network(1, part)), "sgd", part)
    for what in ("step", statement, "step", "look"):
        assert relative(fast.do(what, 17), plain.do(what, 17), 1e-2) < DRIFT, what


def test_the_comparison_can_fail(any_engine: str) -> None:
    plain, fast = Program(network(1), "sgd"), Program(accelerate(network(1)), "adamw")
    for _ in range(2):
        plain.do("step", 16), fast.do("step", 16)
    assert relative(fast.do("look", 16), plain.do("look", 16), 1e-2) > DRIFT
