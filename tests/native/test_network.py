"""Loss and gradients in one pass: every loss, uint8 pictures, wrong arguments."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.native.comparing import pictures, randomised, relative
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.layers import LOSSES, AuxiliaryOutputs, Loss, loss_for
from convscope.native import NativeNetwork
from convscope.spec import Preprocessing

pytestmark = pytest.mark.usefixtures("any_engine")

SHAPE = (3, 7, 6)
PIXELS = Preprocessing(3, (7, 6), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


def net(outputs: int = 5, last: nn.Module | None = None) -> nn.Sequential:
    return randomised(  # type: ignore[return-value]
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(120, outputs), last or nn.Identity())
    )


class WithSide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.main, self.side = nn.Conv2d(3, 4, 3), nn.Linear(80, 5), nn.Linear(80, 5)

    def forward(self, x: Tensor) -> Tensor | AuxiliaryOutputs:
        x = self.trunk(x).flatten(1)
        main: Tensor = self.main(x)
        return AuxiliaryOutputs(main, (self.side(x),), 0.3) if self.training else main


def compare(
    model: nn.Module, loss: str | Loss | nn.Module, targets: Tensor, x: Tensor, tolerance: float = 1e-5
) -> None:
    exact = copy.deepcopy(model).double()
    network = NativeNetwork(model, SHAPE, loss)
    x_delta = torch.empty(x.shape)
    value, outputs = network.loss_and_grad(x, targets, input_delta=x_delta)
    wide = x.double().requires_grad_()
    answers = exact(wide)
    wanted_targets = targets.double() if targets.is_floating_point() else targets
    if isinstance(loss, nn.Module):
        right = loss(answers, wanted_targets)
    else:
        right = loss_for(loss, model).value(answers, wanted_targets)
    right.backward()
    assert value == pytest.approx(right.item(), rel=1e-5)
    main = answers.logits if isinstance(answers, AuxiliaryOutputs) else answers
    assert relative(outputs[0].double(), main) < tolerance
    assert wide.grad is not None
    assert relative(x_delta.double(), wide.grad) < tolerance
    for (name, own), other in zip(model.named_parameters(), exact.parameters(), strict=True):
        assert own.grad is not None
        assert other.grad is not None
        assert relative(own.grad.double(), other.grad) < tolerance, name


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("count", [1, 15, 16, 17, 33])
def test_every_loss(loss: str, count: int) -> None:
    compare(net(), loss, torch.arange(count) % 5, pictures(count, SHAPE))


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.MultiMarginLoss(margin=0.7),
    ],
)
def test_losses_of_torch(loss: nn.Module) -> None:
    compare(net(), loss, torch.arange(17) % 5, pictures(17, SHAPE))


@pytest.mark.parametrize("loss", ["squared_error", "mean_squared_error", "binary_cross_entropy", nn.MSELoss()])
def test_targets_that_are_numbers(loss: str | nn.Module) -> None:
    compare(net(), loss, torch.rand(17, 5, generator=torch.Generator().manual_seed(3)), pictures(17, SHAPE))


def test_targets_fit_the_last_activation() -> None:
    compare(net(last=nn.Tanh()), "squared_error", torch.arange(17) % 5, pictures(17, SHAPE))


def test_one_column_decides_between_two_classes() -> None:
    compare(net(1), "binary_cross_entropy", torch.arange(17) % 2, pictures(17, SHAPE))


def test_auxiliary_losses_count_by_their_weight() -> None:
    compare(randomised(WithSide()).train(), "cross_entropy", torch.arange(17) % 5, pictures(17, SHAPE))


def test_uint8_is_normalised_while_it_is_packed() -> None:
    images = torch.randint(0, 256, (17, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    targets = torch.arange(17) % 5
    model = net()
    network = NativeNetwork(model, SHAPE, "cross_entropy", preprocessing=PIXELS)
    from_bytes, outputs = network.loss_and_grad(images, targets)
    gradients = network.memory.flat.gradients.clone()
    from_floats, others = network.loss_and_grad(PIXELS.normalise(images), targets)
    assert from_bytes == pytest.approx(from_floats, rel=1e-5)
    assert relative(outputs[0], others[0]) < 1e-5
    assert relative(gradients, network.memory.flat.gradients) < 1e-5
    assert relative(network.forward(images), model(PIXELS.normalise(images))) < 1e-5


def test_gradients_are_overwritten() -> None:
    model = net()
    network = NativeNetwork(model, SHAPE, "cross_entropy")
    x, targets = pictures(5, SHAPE), torch.arange(5)
    network.loss_and_grad(x, targets)
    once = network.memory.flat.gradients.clone()
    network.loss_and_grad(x, targets)
    assert torch.equal(once, network.memory.flat.gradients)


def test_wrong_arguments() -> None:
    network = NativeNetwork(net(), SHAPE, "cross_entropy")
    x, targets = pictures(4, SHAPE), torch.arange(4)
    with pytest.raises(ArgumentError, match=r"images: got \(4, 3, 7, 5\), wanted \(n, 3, 7, 6\)"):
        network.loss_and_grad(x[..., :5], targets)
    with pytest.raises(ArgumentError, match=r"images: got torch.float64, wanted torch.float32 or torch.uint8"):
        network.forward(x.double())
    with pytest.raises(ArgumentError, match="as no preprocessing says what uint8 becomes"):
        network.forward(x.to(torch.uint8))
    with pytest.raises(ArgumentError, match=r"targets: got '3 of them', wanted one for each of the 4 images"):
        network.loss_and_grad(x, targets[:3])
    with pytest.raises(ArgumentError, match=r"targets: got 'torch.float32 \(4,\)', wanted class indices, torch.int64"):
        network.loss_and_grad(x, targets.float())
    with pytest.raises(ArgumentError, match="images: got 'none', wanted at least one image"):
        network.loss_and_grad(x[:0], targets[:0])
    with pytest.raises(ArgumentError, match="loss: got None, wanted a loss, given when the network was made"):
        NativeNetwork(net(), SHAPE).loss_and_grad(x, targets)
    squared = NativeNetwork(net(), SHAPE, "squared_error")
    with pytest.raises(ArgumentError, match=r"targets: got '0…7', wanted class indices in 0…4"):
        squared.loss_and_grad(x, torch.tensor([0, 1, 7, 2]))
    with pytest.raises(ArgumentError, match=r"targets: got \(4, 3\), wanted the outputs' shape, \(4, 5\)"):
        squared.loss_and_grad(x, torch.zeros(4, 3))


def test_one_image_has_no_statistics() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(126, 5), nn.BatchNorm1d(5))
    network = NativeNetwork(model, SHAPE, "cross_entropy")
    with pytest.raises(ArgumentError, match="for the statistics of the batch normalisation '2'"):
        network.loss_and_grad(pictures(1, SHAPE), torch.tensor([0]))


def test_numbers_that_are_none_neither_hang_nor_crash() -> None:
    network = NativeNetwork(net(), SHAPE, "cross_entropy")
    x = pictures(17, SHAPE)
    for bad in (math.nan, math.inf):
        x[3, 1, 2, 2] = bad
        loss, outputs = network.loss_and_grad(x, torch.arange(17) % 5)
        assert not math.isfinite(loss) or bad == math.inf
        assert torch.isfinite(outputs[0][[0, 1, 2, 4, 16]]).all(), "the other images have their own lanes"
    assert math.isfinite(network.loss_and_grad(pictures(17, SHAPE), torch.arange(17) % 5)[0])


def test_channels_last_and_strided_images() -> None:
    model = net().eval()
    network = NativeNetwork(model, SHAPE)
    x = pictures(6, SHAPE)
    for odd in (x.contiguous(memory_format=torch.channels_last), x.repeat_interleave(2, 0)[::2]):
        assert torch.equal(network.forward(odd), network.forward(x))


def test_no_images_give_no_outputs() -> None:
    assert NativeNetwork(net(), SHAPE).forward(torch.empty(0, *SHAPE)).shape == (0, 5)
