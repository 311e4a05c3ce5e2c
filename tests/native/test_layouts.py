"""The two layouts of a network that only evaluates: the same answers, and no changed parameter is missed."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.native.comparing import ONE_LAYER, WHOLE_NETWORK, pictures, randomised, relative
from torch import Tensor, nn

from convscope import create_model
from convscope.errors import ArgumentError
from convscope.native import NativeNetwork, accelerate, availability
from convscope.spec import Preprocessing

pytestmark = pytest.mark.skipif(not availability.available(), reason=f"not built: {availability.problem()}")

SHAPE = (3, 13, 10)


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1, bias=False),
        nn.BatchNorm2d(20),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 33, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(33 * 6 * 5, 7),
    )


@pytest.mark.parametrize("count", [1, 2, 15, 17, 33])
@pytest.mark.parametrize("layout", ["images", "channels", "auto"])
def test_layouts_agree_with_torch(layout: str, count: int) -> None:
    model = randomised(small()).eval()
    x = pictures(count, SHAPE)
    with torch.no_grad():
        wanted = copy.deepcopy(model).double()(x.double())
        network = NativeNetwork(model, SHAPE, layout=layout, threads=2)
        got = network.forward(x)
    assert relative(got.double(), wanted) <= ONE_LAYER
    assert torch.equal(network.forward(x), got)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet", "mobilenet_v2", "squeezenet1_1"])
def test_deep_networks(name: str) -> None:
    model = randomised(create_model(name, classes=10)).eval()
    x = pictures(2, (3, 64, 64))
    with torch.no_grad():
        wanted = copy.deepcopy(model).double()(x.double())
        got = NativeNetwork(model, (3, 64, 64), layout="channels", threads=2).forward(x)
    assert relative(got.double(), wanted) <= WHOLE_NETWORK


def test_bytes_are_normalised() -> None:
    model = randomised(small()).eval()
    preprocessing = Preprocessing(3, SHAPE[1:], (0.3, 0.4, 0.5), (0.2, 0.3, 0.25))
    x = torch.randint(0, 256, (3, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = copy.deepcopy(model)(preprocessing.normalise(x))
        network = NativeNetwork(model, SHAPE, preprocessing=preprocessing, layout="channels")
        assert relative(network.forward(x), wanted) <= ONE_LAYER


def _with_data(model: Any) -> None:
    model[0].weight.data.mul_(1.5)  # raises no version


def _with_numpy(model: Any) -> None:
    model[4].weight.detach().numpy()[3] += 0.5  # nor does this


def _with_other_data(model: Any) -> None:
    model[7].weight.data = model[7].weight.data * 2


def _with_an_optimiser(model: Any) -> None:
    model[0].weight.grad = torch.ones_like(model[0].weight)
    torch.optim.SGD([model[0].weight], lr=0.1).step()


def _with_a_state_dict(model: Any) -> None:
    model.load_state_dict({name: each + 0.1 for name, each in model.state_dict().items() if each.is_floating_point()}
                          | {"1.num_batches_tracked": torch.tensor(3)})  # fmt: skip


def _with_a_statistic(model: Any) -> None:
    model[1].running_var.data.mul_(4)


def _with_a_new_parameter(model: Any) -> None:
    model[4].bias = nn.Parameter(torch.ones(33))


@pytest.mark.parametrize(
    "change",
    [
        _with_data,
        _with_numpy,
        _with_other_data,
        _with_an_optimiser,
        _with_a_state_dict,
        _with_a_statistic,
        _with_a_new_parameter,
    ],
)
def test_a_changed_parameter_is_never_missed(change: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_LAYOUT", "channels")
    model = randomised(small()).eval()
    x = pictures(2, SHAPE)
    fast = accelerate(model)
    with torch.no_grad():
        before: Tensor = fast(x)
        change(model)
        wanted = copy.deepcopy(model)(x)
        got: Tensor = fast(x)
    assert relative(got, wanted) <= ONE_LAYER
    assert relative(before, wanted) > 10 * ONE_LAYER


def test_the_layout_is_told() -> None:
    model = small().eval()
    assert "channels-blocked" in NativeNetwork(model, SHAPE, layout="channels").describe()
    assert "channels-blocked" not in NativeNetwork(model, SHAPE, layout="images").describe()
    network = NativeNetwork(model, SHAPE, layout="modelled", threads=1)
    assert network.describe(pictures=1).startswith("layout: channels innermost")
    for count in (1, 8, 64, 256):
        told = re.match(
            r"layout: (\w+) innermost, (\S+) million cycles by the model; (\w+) (\S+)", network.describe(count)
        )
        assert told is not None
        assert {told[1], told[3]} == {"images", "channels"}
        assert float(told[2]) <= float(told[4])


@pytest.mark.parametrize("count", [1, 9, 40])
def test_the_layout_is_measured_once(count: int) -> None:
    model, x = randomised(small()).eval(), pictures(count, SHAPE)
    with torch.no_grad():
        network = NativeNetwork(model, SHAPE, threads=1)
        first = network.forward(x)
        assert "to be measured" not in network.describe(count)
        other = NativeNetwork(copy.deepcopy(model), SHAPE, threads=1)
        assert other.describe(count) == network.describe(count)  # what was measured counts for the whole process
        assert torch.equal(other.forward(x), first)


def test_a_training_goes_by_the_model() -> None:
    network = NativeNetwork(small(), SHAPE, "cross_entropy", threads=1)
    network.model.eval()
    assert "by the model" in network.describe(8)
    assert "to be measured" not in network.describe(8)
    network.model.train()
    assert network.describe(8).startswith("layout: images innermost, as training has no other")


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"layout.*rows.*auto, modelled, images, channels"):
        NativeNetwork(small().eval(), SHAPE, layout="rows")


def _parts(self: nn.Module, x: Tensor) -> Tensor:
    one, other = x.chunk(2, 1)
    return one * torch.sigmoid(other) + 1


class _Gate(nn.Module):
    forward = _parts


def test_what_the_layout_lacks_is_run_by_the_other() -> None:
    model = randomised(nn.Sequential(nn.Conv2d(3, 8, 3), _Gate(), nn.GELU(), nn.Conv2d(4, 2, 1))).eval()
    x = pictures(2, SHAPE)
    network = NativeNetwork(model, SHAPE, layout="auto")
    with torch.no_grad():
        assert relative(network.forward(x), model(x)) <= ONE_LAYER
    assert "channels-blocked" not in network.describe(pictures=2)
    with pytest.raises(ValueError, match=r"layout is 'channels', which has no .*\(gather\); take auto or images"):
        NativeNetwork(model, SHAPE, layout="channels")


@pytest.mark.parametrize("kind", [nn.GELU, nn.Mish, nn.Hardswish, nn.Softsign, nn.Tanhshrink, nn.Hardshrink])
def test_activations_before_a_maximum(kind: type[nn.Module]) -> None:
    """A function that does not rise may not come after the maximum."""
    model = randomised(
        nn.Sequential(nn.Conv2d(3, 20, 3, padding=1), kind(), nn.MaxPool2d(2), nn.Conv2d(20, 4, 1))
    ).eval()
    x = pictures(2, SHAPE)
    with torch.no_grad():
        wanted = copy.deepcopy(model).double()(x.double())
        assert relative(NativeNetwork(model, SHAPE, layout="channels").forward(x), wanted) <= ONE_LAYER


@pytest.mark.parametrize("before", ["always", "never"])
@pytest.mark.parametrize("after", ["always", "never"])
def test_what_a_network_answers_by_may_change_until_it_is_wanted(
    before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layers of images innermost are made when gradients are first wanted, by the environment as it is then."""
    pooled = (nn.Conv2d(3, 80, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2))
    rest = (nn.Conv2d(80, 33, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(33 * 6 * 5, 7))
    model = randomised(nn.Sequential(*pooled, *rest)).eval()
    x = pictures(3, SHAPE)
    monkeypatch.setenv("CONVSCOPE_WINOGRAD", before)
    fast = accelerate(copy.deepcopy(model), check=False)
    with torch.no_grad():
        assert relative(fast(x), model(x)) <= ONE_LAYER
    monkeypatch.setenv("CONVSCOPE_WINOGRAD", after)
    for each in (model, fast):
        each(x).square().sum().backward()
    with torch.no_grad():
        assert relative(fast(x), model(x)) <= ONE_LAYER
    for ours, theirs in zip(fast.parameters(), model.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert relative(ours.grad, theirs.grad) <= WHOLE_NETWORK
