"""Models whose layers the engine has in part: segments on the engine, torch between them, against torch's float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from tests.native.comparing import ONE_LAYER, WHOLE_NETWORK, check, pictures, randomised, relative
from torch import Tensor, nn
from torch.nn import functional as F

from convscope import accelerate
from convscope.errors import ArgumentError, LoweringError
from convscope.lowering.segments import NativeSegment, cut, pack, packed, parts
from convscope.native.memory import SharedMemory
from convscope.native.mixed import MixedNetwork
from convscope.spec import ModelSpec, Preprocessing, attach

pytestmark = pytest.mark.usefixtures("any_engine")

SHAPE = (3, 9, 8)


class Odd(nn.Module):
    """Smooth, and not the engine's."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.4 * torch.cumsum(x, 1)


class Scaled(nn.Module):
    """Not the engine's, with a parameter of its own and a buffer that training moves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(channels, 1, 1))
        self.norm = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x[:, :, None])[:, :, 0]
        return self.slope * y


class Branched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.side = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), Scaled(6), nn.Conv2d(6, 6, 1))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.norm(self.stem(x)))
        x = x + self.side(x)
        y: Tensor = self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return y


class Gated(nn.Module):
    """Two tensors of different sides go over the border, and the image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(3, 3, 1)
        self.c = nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> dict[str, Any]:
        gate = torch.softmax(torch.cumsum(self.a(x).mean((2, 3)), 1), 1)  # (n, 4)
        maps = torch.cumsum(self.b(x), 2)
        y = self.c(maps + x) * gate.sum(1, keepdim=True)[:, :, None, None]
        return {"maps": y, "list": [gate, (y.mean((2, 3)),)], "count": 7}


class Recurrent(nn.Module):
    """Columns as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lstm, self.head = (
            nn.Conv2d(3, 4, 3, padding=1),
            nn.LSTM(36, 5, batch_first=True),
            nn.Linear(5, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        n, _, _, columns = x.shape
        rows = torch.tanh(self.conv(x)).permute(0, 3, 1, 2).reshape(n, columns, -1)
        y: Tensor = self.head(self.lstm(rows)[0][:, -1])
        return y


class Parted(nn.Module):
    """Parts of a tensor, of which torch takes one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(4, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.conv(x).chunk(2, 1)
        y: Tensor = self.last(torch.cumsum(one, 3) * 0.3 + torch.tanh(other))
        return y.view(y.size(0), -1)


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.conv(x)), inplace=True)
        x = torch.cumsum(x, 1).mul_(0.5)
        x += 1
        y: Tensor = self.last(x)
        return y


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "beginning": lambda: nn.Sequential(Odd(), nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(210, 4)),
    "middle": lambda: nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), Odd(), nn.Tanh(), nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4)),
    "end": lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.AvgPool2d(2), Odd()),
    "twice": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), Odd(), nn.Conv2d(4, 4, 3), Scaled(4), nn.Flatten(), nn.Linear(80, 3)),
    "residual branch": Branched,
    "several tensors": Gated,
    "recurrent": Recurrent,
    "parts": Parted,
    "in place": InPlace,
    "frozen": lambda: nn.Sequential(nn.Conv2d(3, 5, 3).requires_grad_(False), Odd(), nn.Conv2d(5, 4, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_outputs_gradients_and_buffers_are_torchs(name: str) -> None:
    model = _with_numbers(randomised(MODELS[name]()))
    check(model.train(), pictures(17, SHAPE), ONE_LAYER)
    check(model.eval(), pictures(1, SHAPE), ONE_LAYER)


def _with_numbers(model: nn.Module) -> nn.Module:
    """``Gated`` returns a number beside tensors, which a weighed sum has no use for."""
    return _Tensors(model) if isinstance(model, Gated) else model


class _Tensors(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        y = self.model(x)
        return {key: each for key, each in y.items() if key != "count"}


def test_what_is_returned_has_the_models_own_structure() -> None:
    model = randomised(Gated()).eval()
    x = pictures(3, SHAPE)
    own, other = accelerate(model)(x), model(x)
    assert list(own) == ["maps", "list", "count"]
    assert own["count"] == 7
    assert type(own["list"]) is list
    assert type(own["list"][1]) is tuple
    assert relative(own["list"][1][0], other["list"][1][0]) < 1e-5


def test_segments_are_as_large_as_the_graph_allows() -> None:
    steps = cut(Branched(), SHAPE).steps
    native = [[str(node.target) for node in step.nodes] for step in steps if isinstance(step, NativeSegment)]
    assert len(native) == 2
    assert {"stem", "norm", "side.0"} <= set(native[0])
    assert {"side.2", "head"} <= set(native[1])


def test_the_report_says_what_ran_where_and_why() -> None:
    fast = accelerate(randomised(Branched()))
    assert fast.report() == "no pictures have come yet"
    fast(pictures(2, SHAPE))
    lines = fast.report().splitlines()
    assert lines[0] == "pictures of 3×9×8"
    assert [line.split(":")[0].strip() for line in lines if line.startswith(("native", " torch"))] == [
        "native", "torch", "native",
    ]  # fmt: skip
    assert any("side.1.norm: the engine has no BatchNorm3d" in line for line in lines)
    whole = accelerate(nn.Sequential(nn.Conv2d(3, 4, 3)))
    whole(pictures(2, SHAPE))
    assert whole.report() == "pictures of 3×9×8\nnative: every layer\nnot compared with torch"


def test_training_by_segments_goes_as_in_torch() -> None:
    plain = randomised(Branched()).train()
    fast = accelerate(copy.deepcopy(plain))
    optimisers = [torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9) for each in (plain, fast)]
    for step in range(5):
        x, targets = pictures(16, SHAPE, seed=step), torch.arange(16) % 4
        for model, optimiser in zip((plain, fast), optimisers, strict=True):
            optimiser.zero_grad()
            F.cross_entropy(model(x), targets).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    for (name, own), other in zip(fast.state_dict().items(), plain.state_dict().values(), strict=True):
        assert relative(own.double(), other.double()) < 1e-3, name
    x = pictures(5, SHAPE)
    assert relative(fast.eval()(x), plain.eval()(x)) < WHOLE_NETWORK


def test_loss_and_grad_overwrites() -> None:
    plain = randomised(Branched()).train()
    fast = accelerate(copy.deepcopy(plain))
    x, targets = pictures(16, SHAPE), torch.arange(16) % 4
    for _ in range(2):
        loss = fast.loss_and_grad(x, targets)
    assert fast.get_buffer("norm.num_batches_tracked") == 2
    wanted = F.cross_entropy(plain(x), targets)
    wanted.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    for name, own in fast.named_parameters():
        right = plain.get_parameter(name).grad
        assert own.grad is not None
        assert right is not None
        assert float((own.grad - right).abs().max()) < 1e-5 + 1e-4 * float(right.abs().max()), name


def test_chance_is_torchs_generator() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), Odd(), nn.Dropout(0.5), nn.Conv2d(4, 4, 1), nn.Flatten())
    fast = accelerate(randomised(model))
    x = pictures(4, SHAPE).requires_grad_()
    torch.manual_seed(3)
    y = fast(x)
    torch.manual_seed(3)
    assert torch.equal(fast(x), y)
    assert not torch.equal(fast(x), y)
    before = torch.get_rng_state()
    targets = torch.zeros(4, dtype=torch.int64)
    losses = [float(fast.loss_and_grad(x.detach(), targets, seed)) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(torch.get_rng_state(), before)
    # the backward pass drops what the forward pass dropped: without biases y is linear in x, so δ·x = y
    linear = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.Dropout(0.5), Odd(), nn.Dropout(0.5), nn.Conv2d(4, 2, 1, bias=False)
    )
    total = accelerate(linear)(x).sum()
    (delta,) = torch.autograd.grad(total, x)
    assert float((delta * x).sum().detach()) == pytest.approx(float(total.detach()), rel=1e-3, abs=1e-4)


def test_cutting_changes_nothing() -> None:
    model = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Scaled(4), nn.Dropout())).train()
    before, chance = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    cut(model, SHAPE)
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())


def test_modes_and_layers_may_change() -> None:
    model: Any = randomised(Branched()).train()
    fast = accelerate(model)
    x = pictures(6, SHAPE)
    fast(x)
    for change in (fast.eval, fast.train, lambda: model.stem.requires_grad_(False)):
        change()
        twin = copy.deepcopy(model)
        assert relative(fast(x), twin(x)) < 1e-5
    assert not fast.model.stem.weight.requires_grad
    model.side[2] = randomised(nn.Conv2d(6, 6, 1), seed=4)
    assert relative(fast.eval()(x), copy.deepcopy(model).eval()(x)) < 1e-5


def test_weights_that_change_between_calls_are_seen() -> None:
    model: Any = randomised(Branched()).eval()
    fast, x = accelerate(model), pictures(3, SHAPE)
    fast(x)
    with torch.no_grad():
        model.side[1].slope.mul_(3)
        model.head.weight.mul_(-2)
    model.stem.weight.data = model.stem.weight.data * 0.5
    assert relative(fast(x), model(x)) < 1e-5


def test_sizes_of_pictures_may_differ() -> None:
    model = randomised(Branched()).eval()
    fast = accelerate(model)
    for shape in ((3, 5, 7), (3, 12, 6), (3, 5, 7)):
        for images in (1, 2, 3, 33):
            x = pictures(images, shape)
            assert relative(fast(x), model(x)) < 1e-5


def test_layers_with_hooks_run_in_torch() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1))
    model: Any = randomised(layers).eval()
    seen: list[tuple[int, ...]] = []
    model[1].register_forward_hook(lambda module, args, y: seen.append(tuple(y.shape)))
    fast = accelerate(model)
    x = pictures(5, SHAPE)
    y = fast(x)
    assert seen[-1] == (5, 4, 5, 4)
    assert relative(y, model(x)) < 1e-5
    assert "1: has forward hooks" in fast.report()


def test_uint8_pictures() -> None:
    preprocessing = Preprocessing(3, SHAPE[1:], (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    model = attach(randomised(Branched()), ModelSpec("graph", {}, SHAPE, preprocessing=preprocessing))
    fast = accelerate(copy.deepcopy(model))
    pixels, targets = torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8), torch.arange(4)
    wanted = F.cross_entropy(model(preprocessing.normalise(pixels)), targets)
    assert float(fast.loss_and_grad(pixels, targets)) == pytest.approx(float(wanted.detach()), rel=1e-5)
    with pytest.raises(ArgumentError, match=r"images: got torch.float64, wanted torch.float32"):
        fast(pixels.double())
    with pytest.raises(ArgumentError, match=r"images: got torch.uint8, wanted torch.float32"):
        accelerate(Branched())(pixels)


def _shared(self: Any, x: Tensor) -> Tensor:
    y = self.a(x)
    z = torch.cumsum(y, 1)
    y.relu_()
    w: Tensor = z + y * 2 + y
    return w


class _Of(nn.Module):
    def __init__(self, forward: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self._forward = forward

    def forward(self, x: Tensor) -> Any:
        return self._forward(self, x)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Sequential(Odd(), nn.ReLU()), "layer 'cumsum': the engine has no function torch.cumsum"),
        (
            lambda: nn.Sequential(nn.Conv2d(5, 3, 3), Odd()),
            "layer '0': the model itself fails here .* to have 5 channels",
        ),
    ],
)
def test_what_has_no_segment_is_refused_by_name(make: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(LoweringError, match=reason):
        accelerate(make())(pictures(2, SHAPE))


def test_memory_that_both_change_is_followed() -> None:
    model = _Of(_shared)
    check(model, pictures(3, SHAPE), ONE_LAYER)


def test_tensors_lie_one_behind_another() -> None:
    for sizes in ([(2, 3, 4), (5, 3, 4)], [(2, 3, 4), (6,)], [(6,)], [(2, 3, 4, 5)]):
        tensors = [pictures(3, each, seed=index) for index, each in enumerate(sizes)]
        shape = packed(sizes)
        flat = pack(tensors, shape).flatten(1)
        for tensor, value in zip(tensors, parts(shape, sizes), strict=True):
            assert value.sizes == tuple(tensor.shape[1:])
            assert torch.equal(flat[:, value.offset : value.offset + value.size], tensor.flatten(1))


def test_a_copy_starts_anew() -> None:
    fast = accelerate(randomised(Branched()).eval())
    x = pictures(3, SHAPE)
    before = fast(x).detach()
    twin = copy.deepcopy(fast)
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter.mul_(0.5)
    assert torch.equal(twin(x).detach(), before)
    assert not torch.equal(fast(x).detach(), before)


def test_the_network_says_what_pictures_it_takes() -> None:
    model = Branched()
    network = MixedNetwork(model, SHAPE, SharedMemory(model))
    with pytest.raises(ArgumentError, match=r"images: got \(2, 3, 4, 4\), wanted \(n, 3, 9, 8\)"):
        network(pictures(2, (3, 4, 4)))
