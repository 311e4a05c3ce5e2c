"""The drop-in module inside ordinary torch programs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.native.comparing import pictures, randomised, relative
from torch import nn
from torch.nn import functional as F

from convscope import accelerate, create_model
from convscope.errors import ArgumentError, ConvscopeError, LoweringError
from convscope.native.accelerated import KEPT_SHAPES
from convscope.spec import spec_of

pytestmark = pytest.mark.usefixtures("any_engine")

SHAPE = (3, 8, 8)


def net(dropout: float = 0.0) -> nn.Sequential:
    """Without kinks, at which torch's float32 and ours may both be right and differ (``tests.kinks``)."""
    return randomised(  # type: ignore[return-value]
        nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Dropout(dropout), nn.Linear(5, 4),
        )
    )  # fmt: skip


def test_it_is_the_same_model() -> None:
    model = net()
    fast = accelerate(model)
    assert list(fast.state_dict()) == list(model.state_dict())
    assert [id(each) for each in fast.parameters()] == [id(each) for each in model.parameters()]
    assert [name for name, _ in fast.named_modules()] == [name for name, _ in model.named_modules()]
    fast.eval()
    assert not model.training
    assert not model[1].training
    fast.train()
    assert model.training
    other = net()
    with torch.no_grad():
        other[0].weight.fill_(2.0)
    fast.load_state_dict(other.state_dict())
    assert torch.equal(model[0].weight, other[0].weight)
    x = pictures(3, SHAPE)
    assert relative(fast.eval()(x), model(x)) < 1e-5
    assert accelerate(fast).model is model
    assert fast.model is model


def test_it_trains_as_torch_does() -> None:
    plain, fast = net(), accelerate(net())
    optimisers = [torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9) for each in (plain, fast)]
    for step in range(6):
        x, targets = pictures(17, SHAPE, seed=step), torch.arange(17) % 4
        losses = []
        for model, optimiser in zip((plain, fast), optimisers, strict=True):
            optimiser.zero_grad()
            loss = F.cross_entropy(model(x), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.item())
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for (name, own), other in zip(fast.state_dict().items(), plain.state_dict().values(), strict=True):
        assert relative(own.double(), other.double()) < 1e-3, name


def test_gradients_add_up_over_backward_calls() -> None:
    fast = accelerate(net()).eval()
    x = pictures(4, SHAPE)
    fast(x).sum().backward()
    once = [each.grad.clone() for each in fast.parameters() if each.grad is not None]
    fast(x).sum().backward()
    for parameter, first in zip(fast.parameters(), once, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, 2 * first)


def test_it_is_a_layer_among_others() -> None:
    head, tail, fast = nn.Conv2d(1, 3, 1), nn.Linear(4, 2), accelerate(net())
    twin = copy.deepcopy(nn.ModuleList([head, fast.model, tail]))
    x = pictures(5, (1, 8, 8))
    tail(fast(head(x)).tanh()).square().sum().backward()
    twin[2](twin[1](twin[0](x)).tanh()).square().sum().backward()
    for own, other in zip(
        [*head.parameters(), *fast.parameters(), *tail.parameters()],
        [*twin[0].parameters(), *twin[1].parameters(), *twin[2].parameters()],
        strict=True,
    ):
        assert own.grad is not None
        assert other.grad is not None
        # a bias before batch normalisation has a gradient of 0 but for rounding
        assert float((own.grad - other.grad).abs().max()) < 1e-4 * max(1.0, float(other.grad.abs().max()))


def test_input_gradient_alone() -> None:
    model = net().eval().requires_grad_(False)
    x = pictures(2, SHAPE).requires_grad_()
    (delta,) = torch.autograd.grad(accelerate(model)(x)[:, 1].sum(), x)
    (wanted,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    assert relative(delta, wanted) < 1e-5


def test_without_gradients() -> None:
    fast = accelerate(net()).eval()
    x = pictures(3, SHAPE)
    with torch.no_grad():
        assert not fast(x).requires_grad
    with torch.inference_mode():
        inside = fast(x)
    assert torch.equal(inside.clone(), fast(x).detach())


def test_loss_and_grad() -> None:
    model = net()
    plain, fast = copy.deepcopy(model), accelerate(model)
    x, targets = pictures(17, SHAPE), torch.arange(17) % 4
    loss = fast.loss_and_grad(x, targets)
    wanted = F.cross_entropy(plain(x), targets)
    wanted.backward()  # type: ignore[no-untyped-call]
    assert loss.ndim == 0
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    for name, own in fast.named_parameters():
        right = plain.get_parameter(name).grad
        assert own.grad is not None
        assert right is not None
        assert name == "0.bias" or relative(own.grad, right) < 2e-5
    fast.loss_and_grad(x, targets)
    again = {name: each.grad.clone() for name, each in fast.named_parameters() if each.grad is not None}
    fast.loss_and_grad(x, targets)
    assert all(torch.equal(again[n], p.grad) for n, p in fast.named_parameters() if p.grad is not None)


def test_picture_sizes_change() -> None:
    plain = net()
    fast = accelerate(plain).eval()
    for size in (*range(5, 5 + KEPT_SHAPES + 3), 6, 5):
        x = pictures(2, (3, size, size + 1))
        assert relative(fast(x), plain(x)) < 1e-5
    assert len(fast._networks._kept) == KEPT_SHAPES


def test_dropout_repeats_in_the_backward_pass_and_follows_the_seed() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    fast = accelerate(model)
    x = torch.ones(33, *SHAPE, requires_grad=True)
    torch.manual_seed(3)
    y = fast(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad.flatten(1), y.detach()), "dropped going forward, dropped going back"
    assert set(y.detach().unique().tolist()) == {0.0, 2.0}
    torch.manual_seed(3)
    assert torch.equal(fast(x), y)
    assert not torch.equal(fast(x), y)
    assert torch.equal(fast.eval()(x), x.flatten(1))


def test_dropout_drops_as_much_as_it_says() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.3))
    x = torch.ones(512, 3, 16, 16)
    y = accelerate(model)(x)
    dropped = (y == 0).float()
    units = x.numel()
    # the share of n draws has a deviation of √(p(1−p)/n); five of them
    assert abs(float(dropped.mean()) - 0.3) < 5 * (0.21 / units) ** 0.5
    assert torch.allclose(y[y != 0], torch.tensor(1 / 0.7))
    # no image and no unit is treated otherwise than the rest
    assert float((dropped.mean(1) - 0.3).abs().max()) < 6 * (0.21 / 768) ** 0.5
    assert float((dropped.mean(0) - 0.3).abs().max()) < 6 * (0.21 / 512) ** 0.5
    # neighbours are independent: images side by side, units side by side
    for one, other in ((dropped[1:], dropped[:-1]), (dropped[:, 1:], dropped[:, :-1])):
        assert abs(float(((one - 0.3) * (other - 0.3)).mean())) < 5 * 0.21 / units**0.5


def test_changes_in_place_between_the_passes_are_noticed() -> None:
    fast = accelerate(net())
    y = fast(pictures(3, SHAPE)).sum()
    with torch.no_grad():
        fast.get_parameter("0.weight").add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_modes_change_between_the_passes() -> None:
    model = net()
    plain, fast = copy.deepcopy(model), accelerate(model)
    x = pictures(9, SHAPE)
    for each in (plain, fast):
        y = each.train()(x).square().sum()
        each.eval()
        each(x)
        y.backward()
    own, other = fast.get_parameter("6.weight").grad, plain.get_parameter("6.weight").grad
    assert own is not None
    assert other is not None
    assert relative(own, other) < 1e-4


def test_second_derivatives_are_torchs() -> None:
    model = net()
    fast = accelerate(copy.deepcopy(model))
    results = []
    for each in (model, fast):
        x = pictures(3, SHAPE).requires_grad_()
        y = each(x)
        (delta,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (y.mean() + delta.square().sum()).backward()
        results.append([x.grad, *(parameter.grad for parameter in each.parameters())])
    largest = max(float(each.abs().max()) for each in results[0] if each is not None)
    for own, other in zip(*results, strict=True):
        assert own is not None
        assert other is not None
        assert float((own - other).abs().max()) < 1e-4 * largest
    for one, other in zip(model.buffers(), fast.buffers(), strict=True):
        assert relative(one.double(), other.double()) < 1e-6  # once, not twice


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: net(dropout=0.5), "draws chance"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Cumulated(), nn.Conv2d(4, 3, 3)), "not native as a whole"),
    ],
)
def test_second_derivatives_that_torch_cannot_repeat_are_refused(make: Callable[[], nn.Module], reason: str) -> None:
    x = pictures(3, SHAPE).requires_grad_()
    with pytest.raises(ConvscopeError, match=rf"no second derivatives .* of a model that .*{reason}"):
        torch.autograd.grad(accelerate(make())(x).square().sum(), x, create_graph=True)


class Cumulated(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(x, 1)


def test_copies_are_independent() -> None:
    fast = accelerate(net()).eval()
    x = pictures(3, SHAPE)
    before = fast(x).detach()
    twin = copy.deepcopy(fast)
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter.mul_(0.5)
    assert torch.equal(twin(x).detach(), before)
    assert not torch.equal(fast(x).detach(), before)


def test_what_cannot_be_accelerated() -> None:
    with pytest.raises(ArgumentError, match=r"x: got \(3, 8, 8\), wanted a tensor of images, \(n, c, h, w\)"):
        accelerate(net())(pictures(1, SHAPE)[0])
    with pytest.raises(ArgumentError, match="inputs: got '2 in order', wanted one tensor of images"):
        accelerate(net())(pictures(1, SHAPE), pictures(1, SHAPE))
    with pytest.raises(ArgumentError, match="inputs: got '1 in order, mask', wanted one tensor of images"):
        accelerate(net())(pictures(1, SHAPE), mask=None)
    with pytest.raises(LoweringError, match="layer '0': the engine has no LPPool2d"):
        accelerate(nn.Sequential(nn.LPPool2d(2, 2), nn.ReLU()))(pictures(1, SHAPE))
    model: Any = create_model("lenet5")
    model.c1_activation = nn.Conv2d(9, 6, 1)
    with pytest.raises(LoweringError, match="layer 'c1_activation'|layer 'model': cannot be called"):
        accelerate(model)
    with pytest.raises(ArgumentError, match="wanted float32 on the CPU"):
        accelerate(net().double())(pictures(1, SHAPE))


def test_the_model_keeps_its_description_and_attributes() -> None:
    model = create_model("lenet5")
    model.colour = "red"  # type: ignore[assignment]
    fast = accelerate(model)
    assert spec_of(fast) == spec_of(model)
    assert fast.colour == "red"
    with pytest.raises(AttributeError, match="wheels"):
        _ = fast.wheels
    assert "on the native engine" in repr(fast)
