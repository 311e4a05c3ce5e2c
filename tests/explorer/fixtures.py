"""Models made for these tests, and what float64 autograd on torch's own modules says of them."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from convscope.graph.examples import example_inputs
from convscope.layers import Conv2d as TrueConv2d
from convscope.layers import L2Pool2d, MedianPool2d, MinPool2d, ScaledTanh, Subsample2d, SumPool2d, TableConv2d
from convscope.models.portable import describe
from convscope.spec import ModelSpec, Preprocessing, attach


@dataclasses.dataclass
class Reference:
    """By module name: outputs y, ∂J/∂y, and the input's x with ∂J/∂x; by parameter name its gradient."""

    y: dict[str, Tensor]
    grad_y: dict[str, Tensor]
    grad_x: dict[str, Tensor]
    gradients: dict[str, Tensor]
    logits: Tensor
    loss: Tensor


def reference(
    model: nn.Module,
    x: Tensor,
    target: int,
    relu: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Reference:
    """Autograd in float64, values kept by forward hooks; ``relu(u, ∂J/∂y)`` replaces the ReLUs' way back.

    Hooks see a module's last use, so each module here is used once.
    """
    model = copy.deepcopy(model).double().eval()
    for parameter in model.parameters():
        parameter.requires_grad_()
    y: dict[str, Tensor] = {}
    before: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., Tensor]:
        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            before[name] = inputs[0]
            y[name] = output
            if output.requires_grad:
                output.retain_grad()
            return output.clone()  # what follows may work in place

        return keep

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, u: Tensor) -> Tensor:
            ctx.save_for_backward(u)
            return u.clamp_min(0)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            assert relu is not None
            return relu(ctx.saved_tensors[0], grads[0])

    for name, module in model.named_modules():
        if getattr(module, "inplace", False):
            module.inplace = False
        if isinstance(module, nn.ReLU) and relu is not None:
            module.__dict__["forward"] = lambda u: Backward.apply(u)  # type: ignore[no-untyped-call]
        if name and not list(module.children()):
            module.register_forward_hook(hook(name))
    start = x.detach().double().requires_grad_()
    logits = model(start)
    for value in before.values():
        if value.requires_grad:
            value.retain_grad()
    loss = nn.functional.cross_entropy(logits, torch.tensor([target]))
    torch.autograd.backward(loss)
    return Reference(
        y={name: value.detach() for name, value in y.items()},
        grad_y={name: value.grad for name, value in y.items() if value.grad is not None},
        grad_x={name: value.grad for name, value in before.items() if value.requires_grad and value.grad is not None},
        gradients={name: value.grad for name, value in model.named_parameters() if value.grad is not None},
        logits=logits.detach(),
        loss=loss.detach(),
    )


def printed_by(code: str, alone: bool = False) -> str:
    """What a program prints that starts from nothing: in this process, or ``alone`` in one of its own."""
    if alone:
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout
    with contextlib.redirect_stdout(io.StringIO()) as printed, torch.random.fork_rng(devices=[]):
        exec(compile(code, "copied", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


class Residual(nn.Module):
    """Two branches added, the ReLUs in place, batch normalisation with real statistics."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.relu2 = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(32, classes)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            self.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.norm(self.stem(x)))
        x = self.relu2(self.conv(x) + x)
        y: Tensor = self.head(self.flatten(self.pool(x)))
        return y


class Branching(nn.Module):
    """A grouped and a dilated branch over one stem, joined by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.grouped = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.dilated = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.head = nn.Linear(10 * 7 * 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        joined = torch.cat([self.grouped(x), self.dilated(x)], 1)
        y: Tensor = self.head(torch.flatten(joined, 1))
        return y


class Detector(nn.Module):
    """An output that is a map of boxes, not a list of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.boxes = nn.Conv2d(6, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.boxes(self.relu(self.body(x)))
        return y


def described(model: nn.Module, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The model with a description, in evaluation mode."""
    channels, height, width = shape
    preprocessing = Preprocessing(channels, (height, width), (0.4,) * channels, (0.3,) * channels)
    names = tuple(f"class {number}" for number in range(classes))
    return attach(
        model.eval(), ModelSpec("graph", describe(model, example_inputs(model, shape)), shape, names, preprocessing)
    )


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.Tanh(), nn.Flatten(),
        nn.Linear(8 * 4 * 4, 4),
    )  # fmt: skip


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: described(plain(), (3, 12, 12), 4),
    "residual": lambda: described(Residual(), (3, 9, 9), 5),
    "branching": lambda: described(Branching(), (1, 14, 10), 3),
    "grouped": lambda: described(
        nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3)), (4, 6, 6), 3
    ),
    "dilated": lambda: described(
        nn.Sequential(nn.Conv2d(1, 3, 3, dilation=3), nn.Sigmoid(), nn.Flatten(), nn.Linear(3 * 9, 3)), (1, 9, 9), 3
    ),
    "non_square": lambda: described(
        nn.Sequential(nn.Conv2d(1, 2, (3, 5), (2, 1)), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 3 * 9, 3)), (1, 7, 13), 3
    ),
    "one_channel": lambda: described(
        nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)), (1, 6, 6), 2
    ),
    "no_bias": lambda: described(
        nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3, bias=False)),
        (3, 6, 6), 3,
    ),
    "batch_norm": lambda: described(
        nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(80, 3)),
        (3, 6, 6), 3,
    ),
    "global_pool": lambda: described(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
        (3, 8, 8), 3,
    ),
    "three_classes": lambda: described(
        nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), ScaledTanh(), nn.Flatten(), nn.Linear(16, 3)), (3, 9, 9), 3
    ),
    "dense_only": lambda: described(
        nn.Sequential(nn.Flatten(), nn.Linear(25, 9), nn.ReLU(), nn.Linear(9, 4)), (1, 5, 5), 4
    ),
    "detector": lambda: described(Detector(), (3, 8, 8), 0),
}  # fmt: skip

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(6, 5, 3),
    "conv_padded": lambda: nn.Conv2d(6, 5, 3, stride=2, padding=1),
    "conv_same": lambda: nn.Conv2d(6, 4, (3, 5), padding="same"),
    "conv_groups": lambda: nn.Conv2d(6, 9, 3, groups=3, padding=2, dilation=2),
    "conv_no_bias": lambda: nn.Conv2d(6, 3, (1, 4), bias=False),
    "conv_flipped": lambda: TrueConv2d(6, 4, 3, flip_kernel=True),
    "conv_table": lambda: TableConv2d(6, 16, 3, table="lenet5_c3"),
    "conv_reflected": lambda: nn.Conv2d(6, 3, 3, padding=1, padding_mode="reflect"),
    "conv_transposed": lambda: nn.ConvTranspose2d(6, 3, 3, stride=2),
    "max_pool": lambda: nn.MaxPool2d(2),
    "max_pool_overlapping": lambda: nn.MaxPool2d(3, 2, 1),
    "mean_pool": lambda: nn.AvgPool2d(3, 2, 1),
    "mean_pool_ceil": lambda: nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
    "adaptive_mean_pool": lambda: nn.AdaptiveAvgPool2d((3, 2)),
    "sum_pool": lambda: SumPool2d(2),
    "l2_pool": lambda: L2Pool2d(2),
    "min_pool": lambda: MinPool2d(3, 2),
    "median_pool": lambda: MedianPool2d(3),
    "subsample": lambda: Subsample2d(6, 2),
    "batch_norm": lambda: nn.BatchNorm2d(6),
    "lrn": lambda: nn.LocalResponseNorm(5),
    "group_norm": lambda: nn.GroupNorm(2, 6),
    "relu": lambda: nn.ReLU(),
    "relu_in_place": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "sigmoid": lambda: nn.Sigmoid(),
    "scaled_tanh": lambda: ScaledTanh(),
    "gelu": lambda: nn.GELU(),
    "mish": lambda: nn.Mish(),
    "dropout": lambda: nn.Dropout(0.4),
    "softmax": lambda: nn.Softmax(1),
    "identity": lambda: nn.Identity(),
}


def around(name: str) -> nn.Module:
    """A layer of the list between a convolution and a linear layer, on 2×7×9 inputs."""
    torch.manual_seed(sum(map(ord, name)))
    layer = LAYERS[name]()
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -0.6, 0.6)
    if isinstance(layer, nn.BatchNorm2d):
        layer.running_mean.uniform_(-0.3, 0.3)  # type: ignore[union-attr]
        layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    stem = nn.Conv2d(2, 6, 3, padding=1)
    with torch.no_grad():
        size = layer.eval()(stem(torch.zeros(1, 2, 7, 9))).numel()
    return nn.Sequential(
        *[stem, layer, nn.Flatten(), nn.Linear(size, 4)],
    ).eval()
