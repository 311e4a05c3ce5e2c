"""Steps over the flat buffer against torch's optimisers over single parameters, and against hand-written formulas."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.layers.flat import FlatParameters
from convscope.training import Config
from convscope.training.optimisers import (
    OPTIMISERS,
    Descent,
    lean,
    optimiser_names,
    rate_factor,
    usual_learning_rate,
)


def small() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def descend(config: Config, steps: int = 5) -> tuple[nn.Sequential, FlatParameters, Descent]:
    model = small()
    flat = FlatParameters(model)
    descent = Descent(config, flat)
    for number in range(steps):
        flat.gradients.zero_()
        loss_of(model, number).backward()
        descent.step(config.learning_rate or usual_learning_rate(config.optimiser))
    return model, flat, descent


def loss_of(model: nn.Module, number: int) -> Any:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(number))
    return model(x).square().mean()


PEERS: list[tuple[dict[str, Any], type[torch.optim.Optimizer], dict[str, Any]]] = [
    ({"optimiser": "sgd", "momentum": 0.0}, torch.optim.SGD, {"lr": 0.01}),
    ({"optimiser": "sgd", "weight_decay": 0.1}, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
    ({"optimiser": "nesterov"}, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    ({"optimiser": "adam"}, torch.optim.Adam, {"lr": 1e-3}),
    ({"optimiser": "adam", "optimiser_options": {"betas": [0.8, 0.9]}}, torch.optim.Adam, {"betas": (0.8, 0.9)}),
    ({"optimiser": "adamw", "weight_decay": 0.2}, torch.optim.AdamW, {"weight_decay": 0.2}),
    ({"optimiser": "rmsprop"}, torch.optim.RMSprop, {"lr": 1e-3}),
    ({"optimiser": "adagrad"}, torch.optim.Adagrad, {"lr": 1e-2}),
    ({"optimiser": "Adadelta"}, torch.optim.Adadelta, {}),
    ({"optimiser": "NAdam"}, torch.optim.NAdam, {}),
    ({"optimiser": "Rprop"}, torch.optim.Rprop, {}),
    ({"optimiser": "Adafactor"}, torch.optim.Adafactor, {}),
]


@pytest.mark.parametrize(("options", "peer", "its_options"), PEERS)
def test_the_same_steps_as_torchs_own(
    options: dict[str, Any], peer: type[torch.optim.Optimizer], its_options: dict[str, Any]
) -> None:
    model, flat, _ = descend(Config.of(**options))
    assert flat.intact()
    other = small()
    optimiser = peer(other.parameters(), **its_options)
    for number in range(5):
        optimiser.zero_grad()
        loss_of(other, number).backward()
        optimiser.step()
    start = small()
    for own, its, first in zip(model.parameters(), other.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(own, its, rtol=1e-5, atol=1e-7)
        assert not torch.equal(own, first), "the canary: it did move"


def test_momentum_by_the_formula() -> None:
    """v ← μv + g, w ← w − ηv, twice, with the gradients put in by hand."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    flat = FlatParameters(model)
    descent = Descent(Config.of(optimiser="sgd", momentum=0.5), flat)
    flat.values.fill_(1.0)
    flat.gradients.fill_(2.0)
    descent.step(0.1)
    assert model.get_parameter("0.weight").item() == pytest.approx(1 - 0.1 * 2)
    flat.gradients.fill_(4.0)
    descent.step(0.01)
    assert model.get_parameter("0.weight").item() == pytest.approx(0.8 - 0.01 * (0.5 * 2 + 4))


def test_learning_rates_by_prefix() -> None:
    rates = {"0": 0.0, "2.weight": 0.5}
    assert rate_factor("0.bias", rates) == 0
    assert rate_factor("2.weight", rates) == 0.5
    assert rate_factor("2.bias", rates) == 1
    assert rate_factor("20.bias", {"2": 0.1}) == 1, "a prefix ends at a dot"
    assert rate_factor("a.b.weight", {"a": 0.1, "a.b": 0.2, "": 3.0}) == 0.2
    model, _, _ = descend(Config.of(optimiser="sgd", momentum=0.0, learning_rates=rates), steps=1)
    start = small()
    loss_of(start, 0).backward()
    for name, factor in (("0.weight", 0), ("0.bias", 0), ("2.weight", 0.5), ("2.bias", 1)):
        before = start.get_parameter(name)
        assert before.grad is not None
        torch.testing.assert_close(model.get_parameter(name), before - 0.01 * factor * before.grad)


def test_gradient_clipping_shortens_only_long_gradients() -> None:
    flat = FlatParameters(nn.Sequential(nn.Linear(2, 1)))
    descent = Descent(Config.of(optimiser="sgd", momentum=0.0, gradient_clip=1.0), flat)
    for gradient, expected in (([3.0, 0.0, 4.0], [0.6, 0.0, 0.8]), ([0.3, 0.0, 0.4], [0.3, 0.0, 0.4])):
        flat.values.zero_()
        flat.gradients.copy_(torch.tensor(gradient))
        descent.step(1.0)
        torch.testing.assert_close(-flat.values, torch.tensor(expected))


@pytest.mark.parametrize("optimiser", [*OPTIMISERS, "Adadelta", "NAdam", "RAdam", "Rprop", "ASGD", "Adafactor"])
def test_memory_saved_and_put_back_goes_on_exactly(optimiser: str) -> None:
    config = Config.of(optimiser=optimiser, learning_rates={"2": 0.3})
    model, flat, descent = descend(config, steps=3)
    saved = {name: each.clone() for name, each in descent.state().items()}
    weights = flat.values.clone()
    again = small()
    again_flat = FlatParameters(again)
    again_descent = Descent(config, again_flat)
    again_flat.values.copy_(weights)
    again_descent.load_state(saved)
    assert torch.equal(again_flat.values, weights), "loading leaves the weights alone"
    for number in range(3, 6):
        for each, its_flat, its_descent in ((model, flat, descent), (again, again_flat, again_descent)):
            its_flat.gradients.zero_()
            loss_of(each, number).backward()
            its_descent.step(1e-3 * number)
    assert torch.equal(again_flat.values, flat.values)
    assert not torch.equal(flat.values, weights)


@pytest.mark.parametrize("optimiser", ["Adadelta", "rmsprop", "NAdam", "ASGD"])
def test_the_same_steps_and_memory_a_part_at_a_time(optimiser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts begin and end within parameters, one of which lies in an order of its own."""
    config = Config.of(optimiser=optimiser, learning_rates={"1": 0.5})

    def begun() -> tuple[FlatParameters, Descent]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(7, 4)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        flat = FlatParameters(model)
        return flat, Descent(config, flat)

    def stepped(flat: FlatParameters, descent: Descent, numbers: range) -> None:
        for number in numbers:
            flat.gradients.copy_(torch.randn(len(flat.gradients), generator=torch.Generator().manual_seed(number)))
            descent.step(0.01)

    whole, descent = begun()
    stepped(whole, descent, range(3))
    monkeypatch.setattr("convscope.training.optimisers._AT_A_TIME", 16)
    parted, its = begun()
    stepped(parted, its, range(3))
    torch.testing.assert_close(parted.values, whole.values, rtol=1e-6, atol=1e-7)
    memory, parts = descent.state(), {name: each.contiguous() for name, each in its.state().items()}
    assert list(memory) == list(parts)
    assert len({len(its.optimiser.param_groups[0]["params"]), len(descent.optimiser.param_groups[0]["params"])}) == 2
    for name, each in memory.items():
        torch.testing.assert_close(parts[name], each, rtol=1e-5, atol=1e-7)
    again, its_descent = begun()
    again.values.copy_(parted.values)
    its_descent.load_state(parts)
    for pair in ((parted, its), (again, its_descent)):
        stepped(*pair, range(3, 6))
    assert torch.equal(again.values, parted.values)


def test_memory_of_another_optimiser_is_refused() -> None:
    _, _, descent = descend(Config.of(optimiser="sgd"), 1)
    _, _, other = descend(Config.of(optimiser="adam"), 0)
    with pytest.raises(ArgumentError, match="the saved memory of the same optimiser"):
        other.load_state(descent.state())


def test_every_name_that_is_offered_works() -> None:
    for name in optimiser_names():
        if name == "Muon":  # matrices only, by design: it says so
            with pytest.raises(ArgumentError, match="options that Muon takes"):
                descend(Config.of(optimiser=name), 1)
        else:
            descend(Config.of(optimiser=name), 1)


def test_what_cannot_work_is_refused() -> None:
    flat = FlatParameters(small())
    with pytest.raises(UnknownNameError, match="optimiser: got 'adem'.*Did you mean 'adam"):
        Descent(Config.of(optimiser="adem"), flat)
    with pytest.raises(ArgumentError, match="optimiser: got 'LBFGS'.*several times a step"):
        Descent(Config.of(optimiser="LBFGS"), flat)
    with pytest.raises(UnknownNameError, match="option of optimiser 'adam': got 'beta'.*Did you mean 'betas'"):
        Descent(Config.of(optimiser_options={"beta": 1}), flat)
    with pytest.raises(ArgumentError, match=r"optimiser_options: got .* options that Adam takes.*Invalid beta"):
        Descent(Config.of(optimiser_options={"betas": [2.0, 0.9]}), flat)
    with pytest.raises(ArgumentError, match="options that SGD takes.*Nesterov momentum"):
        Descent(Config.of(optimiser="nesterov", momentum=0.0), flat)
    with pytest.raises(UnknownNameError, match="learning_rates: got '1'"):
        Descent(Config.of(learning_rates={"1": 0.1}), flat)
    with pytest.raises(ArgumentError, match="learning_rates: got .* a factor above 0 for at least one"):
        Descent(Config.of(learning_rates={"": 0.0}), flat)
    with pytest.raises(ArgumentError, match="weight_decay: got 0.1, wanted 0: Rprop has no weight decay"):
        Descent(Config.of(optimiser="Rprop", weight_decay=0.1), flat)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_lean_optimisers_make_the_same_steps(kind: type[torch.optim.Optimizer]) -> None:
    own, other = (nn.Parameter(torch.linspace(-1, 1, 100)) for _ in range(2))
    made: list[torch.optim.Optimizer] = [lean(kind)([own], lr=0.1), kind([other], lr=0.1)]  # type: ignore[call-arg]
    for step in range(4):
        for parameter, optimiser in zip((own, other), made, strict=True):
            parameter.grad = torch.sin(parameter.detach() * (step + 1))
            optimiser.step()
    assert torch.equal(own, other)
    assert not torch.equal(own.detach(), torch.linspace(-1, 1, 100))
    assert isinstance(made[0], kind)


def test_the_compiler_is_not_imported_for_a_step() -> None:
    program = (
        "import sys, torch; from convscope.training.optimisers import lean; p = torch.nn.Parameter(torch.ones(3)); "
        "p.grad = torch.ones(3); o = lean(torch.optim.Adam)([p], fused=True); o.step(); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
