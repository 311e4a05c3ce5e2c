"""Any model as JSON and back; nothing but the allowed names."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope import layers
from convscope.errors import ArgumentError
from convscope.graph.capture import capture
from convscope.models import create_model, portable, spec_of
from convscope.spec import ModelSpec


class Everything(nn.Module):
    """Parameters and buffers outside layers, tied weights, constants, functions, methods, a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.gain = nn.Parameter(torch.rand(4, 1, 1))
        self.steps: Tensor
        self.kept: Tensor
        self.register_buffer("steps", torch.arange(4.0).reshape(4, 1, 1), persistent=False)
        self.register_buffer("kept", torch.ones(1))
        self.twice = nn.PReLU()
        self.first = nn.Linear(4, 3)
        self.second = nn.Linear(3, 3, bias=False)
        self.third = nn.Linear(3, 3, bias=False)
        self.third.weight = self.second.weight
        self.unused = nn.Linear(2, 2)
        self.chain = nn.Sequential(layers.CombinedConv2d(4, 4, 3, padding=1), layers.ScaledTanh())

    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        y = self.twice(self.norm(self.conv(x))) * self.gain + self.steps * self.kept
        y = F.relu(self.twice(self.chain(y)) - torch.tensor([0.1, 0.2, 0.3, 0.4]).reshape(4, 1, 1))
        y = F.dropout(y, 0.5, training=self.training)
        y = torch.cat([y, y], dim=1)[:, :4] / scale
        y = F.adaptive_avg_pool2d(y, (1, 1)).view(y.shape[0], -1)
        z: Tensor = self.third(self.second(self.first(y)).clamp(min=-float("inf")))
        return z


PICTURE = torch.randn(2, 1, 6, 5)


def copied(model: nn.Module, *inputs: Tensor) -> nn.Module:
    return portable.build(json.loads(json.dumps(portable.describe(model, inputs or None))))


def test_everything_round_trips() -> None:
    torch.manual_seed(0)
    model = Everything()
    again = copied(model, PICTURE)
    assert set(again.state_dict()) == set(model.state_dict())
    again.load_state_dict(model.state_dict())
    x = torch.randn(3, 1, 6, 5)
    for mode in (True, False):
        torch.manual_seed(1)
        expected = model.train(mode)(x)
        torch.manual_seed(1)
        assert torch.equal(again.train(mode)(x), expected)
    assert again.get_parameter("third.weight") is again.get_parameter("second.weight")
    assert model.training is False  # describing and running changed nothing else


def test_describing_twice_gives_the_same() -> None:
    model = Everything()
    description = portable.describe(model, [PICTURE])
    assert portable.describe(portable.build(description)) == description
    assert capture(portable.build(description), PICTURE) is not None


def test_rebuilt_model_trains_like_the_first() -> None:
    torch.manual_seed(0)
    model = Everything().eval()
    again = copied(model, PICTURE).eval()
    again.load_state_dict(model.state_dict())
    x = torch.randn(2, 1, 6, 5)
    for each in (model, again):
        each(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        other = again.get_parameter(name)
        if parameter.grad is None:
            assert other.grad is None
        else:
            assert other.grad is not None
            assert torch.equal(parameter.grad, other.grad)


def test_auxiliary_outputs_in_training_only() -> None:
    torch.manual_seed(0)
    model = create_model("googlenet", classes=3, input_size=32)
    again = copied(model)
    again.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32)
    torch.manual_seed(1)
    expected = model(x)
    torch.manual_seed(1)
    found = again(x)
    assert isinstance(found, layers.AuxiliaryOutputs)
    assert found.weight == 0.3
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.auxiliary[1], expected.auxiliary[1])
    assert isinstance(copy.deepcopy(again).eval()(x), Tensor)


LAYERS: list[Callable[[], nn.Module]] = [
    lambda: nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), groups=2, bias=False),
    lambda: nn.Conv2d(2, 3, 3, padding="same", padding_mode="reflect"),
    lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, output_padding=1),
    lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    lambda: nn.AvgPool2d(2, count_include_pad=False),
    lambda: nn.AdaptiveAvgPool2d((2, None)),
    lambda: nn.BatchNorm2d(2, eps=1e-3, momentum=0.01, affine=False),
    lambda: nn.GroupNorm(2, 2),
    lambda: nn.InstanceNorm2d(2, affine=True),
    lambda: nn.LayerNorm([8, 7]),
    lambda: nn.LocalResponseNorm(3, 1e-3, 0.5, 2.0),
    lambda: nn.LeakyReLU(0.2),
    lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    lambda: nn.ZeroPad2d((1, 2, 0, 1)),
    lambda: nn.PixelUnshuffle(1),
    lambda: nn.ChannelShuffle(2),
    lambda: layers.TableConv2d(2, None, 3, table=[[0], [0, 1], [1]], flip_kernel=True, bias=False),
    lambda: layers.Conv2d(2, 3, 3, flip_kernel=True),
    lambda: layers.LocallySharedConv2d(2, 3, 3, (8, 7), region_size=(2, 3)),
    lambda: layers.LocallyConnected2d(2, 3, 3, (8, 7)),
    lambda: layers.Subsample2d(2, 2, activation="relu"),
    lambda: layers.MedianPool2d(3, 2, 1),
    lambda: layers.ScaledSigmoid(3.0),
]


@pytest.mark.parametrize("make", LAYERS, ids=[str(make()).split("\n")[0][:60] for make in LAYERS])
def test_every_argument_of_a_layer_comes_back(make: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(make())
    x = torch.randn(3, 2, 8, 7)
    again = copied(model, x)
    assert str(again.get_submodule("0")) == str(model[0])
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(x), model.eval()(x))


def test_recurrent_layer() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(3, 5, num_layers=2, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            y, _ = self.rnn(x)
            last: Tensor = y[:, -1]
            return last

    model = Last()
    x = torch.randn(2, 4, 3)
    again = copied(model, x)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum().item() > 0 else x


class UsesOwnFunction(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.special.gammaln(x)
        return y


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        difference: Tensor = self.first(x) - self.second(y)
        return difference


class FiveInputs(nn.Module):
    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> Tensor:
        return a + b + c + d + e


def test_several_inputs_keep_their_order() -> None:
    model = TwoInputs()
    x, y = torch.randn(5, 3), torch.randn(5, 4)
    rebuilt = portable.build(portable.describe(model, (x, y)))
    rebuilt.load_state_dict(model.state_dict())
    assert torch.equal(rebuilt(x, y), model(x, y))
    again = portable.build(portable.describe(rebuilt))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x, y), model(x, y))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), Odd()), "module '1' of class Odd"),
        (Odd(), "module 'model' of class Odd"),
        (UsesOwnFunction(), "the function .*gammaln"),
        (FiveInputs(), "model: got '5 inputs', wanted one to 4 inputs"),
        (nn.Conv2d(1, 1, 1), "wrap it into nn.Sequential|module 'model'"),
    ],
)
def test_what_cannot_be_described_is_named(model: nn.Module, message: str) -> None:
    count = 5 if isinstance(model, FiveInputs) else 1
    with pytest.raises(ArgumentError, match=message):
        portable.describe(model, [torch.rand(2, 1, 4, 4)] * count)


class Attends(nn.Module):
    """torch's own attention, of one tensor to another."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attend, self.head = nn.MultiheadAttention(8, 2, **options), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        attended, _ = self.attend(x, y, y, need_weights=False)
        answer: torch.Tensor = self.head(x + attended)
        return answer


@pytest.mark.parametrize(
    "options",
    [{}, {"bias": False, "batch_first": True, "kdim": 6, "vdim": 6}, {"add_bias_kv": True, "add_zero_attn": True}],
    ids=["plain", "widths", "zeros"],
)
def test_attention_keeps_its_arguments(options: dict[str, Any]) -> None:
    model = Attends(**options).eval()
    x, y = torch.randn(4, 4, 8), torch.randn(4, 4, options.get("kdim", 8))
    rebuilt = portable.build(portable.describe(model, [x, y])).eval()
    rebuilt.load_state_dict(model.state_dict())
    assert torch.equal(rebuilt(x, y), model(x, y))


class NeedsMoreInTraining(nn.Module):
    """An auxiliary classifier, in training only, whose kernel small pictures are too small for."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.aux = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 5)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.body(x)
        return (x, self.aux(x)) if self.training else x


def test_inputs_that_only_one_mode_takes_are_refused() -> None:
    model = NeedsMoreInTraining().eval()
    with pytest.raises(ArgumentError, match=r"input_shape: got .*6, 6.* In training it stopped with: Runtime"):
        portable.describe(model, [torch.rand(2, 1, 6, 6)])
    assert not model.training
    assert portable.build(portable.describe(model, [torch.rand(2, 1, 8, 8)]))


def damage(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    description = copy.deepcopy(
        portable.describe(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten()), [PICTURE])
    )
    change(description)
    return description


def call(target: str, args: list[Any], op: str = "call_function") -> Callable[[dict[str, Any]], Any]:
    return lambda each: each["graph"].insert(1, {"op": op, "name": "bad", "target": target, "args": args})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda each: each.update(version=99), "description: got 99, wanted the description of a model, version 1"),
        (lambda each: each.pop("graph"), "wanted a complete description"),
        (lambda each: each["modules"]["0"].update({"class": "os.system"}), "layer class: got 'os.system'"),
        (lambda each: each["modules"]["0"]["arguments"].update(kernel=3), "wanted a complete description"),
        (lambda each: each["graph"].pop(), "a graph without output"),
        (call("torch.load", ["x"]), "function: got 'torch.load'"),
        (call("builtins.eval", ["1"]), "function: got 'builtins.eval'"),
        (call("getattr", [{"node": "input_1"}, "__class__"]), "tensor attribute: got '__class__'"),
        (call("apply_", [{"node": "input_1"}], "call_method"), "tensor method: got 'apply_'"),
        (call("__dict__", [], "get_attr"), "description: got '__dict__', wanted the path"),
        (call("x", [], "call_code"), "graph operation: got 'call_code'"),
    ],
)
def test_a_damaged_or_hostile_description_is_refused(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        portable.build(damage(change))


def test_specs_rebuild_catalogue_models_and_users_own() -> None:
    own = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    described = portable.describe_spec(own, (1, 8, 8), ("a", "b"))
    assert (described.architecture, described.input_shape, described.classes) == ("graph", (1, 8, 8), ("a", "b"))
    again = portable.rebuild(described)
    assert spec_of(again) == described
    lenet = create_model("lenet5", activation="relu", classes=3)
    known = portable.describe_spec(lenet, (1, 28, 28))
    assert known is spec_of(lenet)
    rebuilt = portable.rebuild(ModelSpec(known.architecture, json.loads(json.dumps(known.options)), known.input_shape))
    assert str(rebuilt) == str(lenet)


class DropsPaths(nn.Module):
    """Stochastic depth: noise of memory that is empty first, in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        if not self.training:
            return x + y
        noise = torch.empty([y.shape[0], 1, 1, 1], dtype=y.dtype, device=y.device).bernoulli_(0.5)
        noise.div_(0.5)
        return x + y * noise


def test_a_path_that_is_dropped_by_noise_in_empty_memory() -> None:
    torch.manual_seed(0)
    model = DropsPaths()
    again = copied(model, PICTURE)
    again.load_state_dict(model.state_dict())
    for training in (True, False):
        answers = []
        for each in (model, again):
            torch.manual_seed(3)
            answers.append(each.train(training)(PICTURE))
        assert torch.equal(*answers)
    torch.manual_seed(3)
    noise = torch.empty(2, 1, 1, 1).bernoulli_(0.5) / 0.5
    torch.manual_seed(3)
    assert torch.equal(again.train()(PICTURE), PICTURE + model.conv(PICTURE) * noise)


def test_describing_copies_no_description() -> None:
    """The model that a description is tried on changes its numbers; the description itself stays as it was built."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    before = {name: each.clone() for name, each in model.state_dict().items()}
    first = portable.describe(model, (PICTURE,))
    assert json.dumps(first) == json.dumps(portable.describe(model, (PICTURE,)))
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


class ReadsByCells(nn.Module):
    """Recurrent cells in a loop, and the distance to what the first of them says."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.gru, self.lstm = (
            nn.RNNCell(5, 4, nonlinearity="relu"),
            nn.GRUCell(4, 4, bias=False),
            nn.LSTMCell(4, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = g = c = s = torch.zeros(x.size(0), 4, dtype=x.dtype)
        for row in x.flatten(1, 2).unbind(1):
            h = self.rnn(row, h)
            g = self.gru(h, g)
            s, c = self.lstm(g, (s, c))
        return torch.pairwise_distance(h, s)


def test_cells_in_a_loop_round_trip() -> None:
    torch.manual_seed(0)
    model = ReadsByCells()
    again = copied(model, PICTURE)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(PICTURE), model(PICTURE))
    assert "nonlinearity=relu" in repr(again.get_submodule("rnn"))
