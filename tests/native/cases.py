"""Small models that use each operator with each option, as modules and as functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tests.native.parts import MANY, MAPS, ONE, Case, conv, function, sequence
from tests.native.tensor_cases import TENSORS
from torch import Tensor, nn
from torch.nn import functional as F

from convscope import layers


class Residual(nn.Module):
    """Two convolutions beside a short cut, with the activations in place as torchvision writes them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.conv2(y)
        y += x
        last: Tensor = self.relu(y)
        return last


class OwnConv2d(nn.Conv2d):
    """Computes otherwise than its parent, and is traced into."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, stride=2, padding=self.padding)


def _chunks(s: Any, x: Tensor) -> Tensor:
    parts = s.a(x).chunk(3, dim=1)
    return torch.cat([parts[2], parts[0], parts[1]], 1)


def _split(s: Any, x: Tensor) -> Tensor:
    parts = torch.split(s.a(x), [2, 4, 2], 1)
    return parts[0] - parts[2]


def _slices(s: Any, x: Tensor) -> Tensor:
    last: Tensor = s.a(x)[:, 1:6:2] + s.b(x[:, 1:, :, :])
    return last


CONVOLUTIONS: dict[str, Case] = {
    "conv 1": (conv(1, 1, 1), ONE),
    "conv": (conv(3, 5, 3), MAPS),
    "conv 17 maps": (conv(17, 19, (3, 2)), MANY),
    "conv no bias": (conv(3, 4, 3, bias=False), MAPS),
    "conv stride": (conv(3, 6, (3, 2), stride=(2, 3)), MAPS),
    "conv padding": (conv(3, 6, 3, padding=(2, 1)), MAPS),
    "conv padding beyond": (conv(1, 2, 3, padding=3), ONE),
    "conv dilation": (conv(3, 6, 3, dilation=(2, 3), padding=(0, 1)), MAPS),
    "conv everything": (conv(4, 6, (3, 4), stride=(2, 1), padding=(1, 3), dilation=(3, 2), groups=2), (4, 11, 9)),
    "conv depthwise": (conv(6, 6, 3, groups=6, padding=1), (6, 8, 5)),
    "conv depthwise twice": (conv(3, 6, 3, groups=3, stride=2), MAPS),
    "conv groups": (conv(6, 9, 3, groups=3), (6, 6, 7)),
    "conv whole picture": (conv(3, 33, (9, 7)), MAPS),
    "conv same": (conv(3, 4, (3, 5), padding="same", dilation=(2, 1)), MAPS),
    "conv valid": (conv(3, 4, 3, padding="valid"), MAPS),
    "conv stride over": (conv(3, 4, 2, stride=5), MAPS),
    "true convolution": (lambda: layers.Conv2d(3, 4, (3, 2), stride=2, padding=1, flip_kernel=True), MAPS),
    "table": (lambda: layers.TableConv2d(6, 16, 5, table="lenet5_c3"), (6, 8, 9)),
    "table pairs": (lambda: layers.TableConv2d(4, None, 3, 2, 1, dilation=2, table="pairs"), (4, 9, 8)),
    "table flipped": (
        lambda: layers.TableConv2d(3, 2, (2, 3), table=[[1], [0, 2]], flip_kernel=True, bias=False), MAPS
    ),
    "shuffle": (sequence(conv(3, 12, 3), lambda: nn.ChannelShuffle(3)), MAPS),
    "shuffle alone": (lambda: nn.ChannelShuffle(17), MANY),
    "torch.channel_shuffle": (function(lambda s, x: torch.channel_shuffle(s.a(x), 2), a=conv(3, 6, 1)), MAPS),
    "chunk": (function(_chunks, a=conv(3, 8, 3)), MAPS),
    "split": (function(_split, a=conv(3, 8, 3)), MAPS),
    "slice of channels": (function(_slices, a=conv(3, 8, 1), b=conv(2, 3, 1)), MAPS),
    "slice of features": (function(lambda s, x: s.a(x.flatten(1))[:, 3:], a=lambda: nn.Linear(189, 8)), MAPS),
    "subclass": (lambda: OwnConv2d(3, 4, 3, padding=1), MAPS),
    "two convolutions": (sequence(conv(3, 8, 3), conv(8, 4, 3, stride=2)), MAPS),
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(189, 11)), MAPS),
    "linear no bias": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(30, 1, bias=False)), ONE),
    "linear wide": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(952, 33), nn.ReLU(), nn.Linear(33, 17)), MANY),
    "rbf": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(189, 12), layers.RBF(12, 5)), MAPS),
    "F.linear": (function(lambda s, x: F.linear(x.flatten(1), s.a.weight), a=lambda: nn.Linear(189, 4, False)), MAPS),
}  # fmt: skip

POOLINGS: dict[str, Case] = {
    "max": (lambda: nn.MaxPool2d(2), MAPS),
    "max overlapping": (lambda: nn.MaxPool2d(3, 2), MAPS),
    "max padded ceil": (lambda: nn.MaxPool2d((3, 2), (2, 3), padding=1, ceil_mode=True), MAPS),
    "max gaps": (lambda: nn.MaxPool2d(2, 3), MAPS),
    "max whole": (lambda: nn.MaxPool2d((9, 7)), MAPS),
    "min": (lambda: layers.MinPool2d(3, 2, padding=1), MAPS),
    "mean": (lambda: nn.AvgPool2d(2), MAPS),
    "mean padded": (lambda: nn.AvgPool2d(3, 2, padding=1), MAPS),
    "mean padded, inside": (lambda: nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), MAPS),
    "mean ceil": (lambda: nn.AvgPool2d((2, 3), 2, ceil_mode=True), MAPS),
    "mean ceil padded": (lambda: nn.AvgPool2d(4, 3, padding=2, ceil_mode=True), MAPS),
    "mean ceil inside": (lambda: nn.AvgPool2d(4, 3, padding=2, ceil_mode=True, count_include_pad=False), MAPS),
    "mean divisor": (lambda: nn.AvgPool2d(2, divisor_override=3), MAPS),
    "sum": (lambda: layers.SumPool2d((3, 2), 2, padding=1), MAPS),
    "sum ceil": (lambda: layers.SumPool2d(2, ceil_mode=True), MAPS),
    "l2": (lambda: layers.L2Pool2d(2), MAPS),
    "l2 ceil": (lambda: layers.L2Pool2d(3, 2, padding=1, ceil_mode=True), MAPS),
    "subsample": (lambda: layers.Subsample2d(3, 2), MAPS),
    "subsample overlapping": (lambda: layers.Subsample2d(3, (3, 2), (2, 1), activation="sigmoid"), MAPS),
    "subsample tanh": (lambda: layers.Subsample2d(17, 2, activation="tanh"), MANY),
    "subsample linear": (lambda: layers.Subsample2d(3, 2, activation="linear"), MAPS),
    "subsample relu": (lambda: layers.Subsample2d(3, 2, activation="relu"), MAPS),
    "adaptive mean": (lambda: nn.AdaptiveAvgPool2d(1), MAPS),
    "adaptive mean divides": (lambda: nn.AdaptiveAvgPool2d((3, None)), MAPS),
    "adaptive max": (lambda: nn.AdaptiveMaxPool2d((3, 1)), MAPS),
    "adaptive same": (sequence(conv(3, 2, 1), lambda: nn.AdaptiveAvgPool2d((9, 7))), MAPS),
    "mean((2, 3))": (function(lambda s, x: x.mean((2, 3))), MAPS),
    "mean keepdim": (function(lambda s, x: torch.mean(x, dim=[-1, -2], keepdim=True)), MAPS),
    "functional": (function(lambda s, x: F.avg_pool2d(F.max_pool2d(x, 2, stride=1), kernel_size=3)), MAPS),
    "functional adaptive": (function(lambda s, x: F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)), MAPS),
    "pool by shape": (function(lambda s, x: F.avg_pool2d(x, x.shape[2:])), MAPS),
    "conv relu max": (sequence(conv(3, 5, 3, padding=1), nn.ReLU, lambda: nn.MaxPool2d(2)), MAPS),
    "conv tanh max": (sequence(conv(3, 5, 2), nn.Tanh, lambda: nn.MaxPool2d(3, 2, padding=1)), MAPS),
    "conv sigmoid mean": (sequence(conv(3, 20, 3), nn.Sigmoid, lambda: nn.AvgPool2d(2)), MAPS),
    "conv max": (sequence(conv(3, 7, 3), lambda: nn.MaxPool2d(2, ceil_mode=True)), MAPS),
}  # fmt: skip

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softplus 3": lambda: nn.Softplus(beta=3.0),
    "identity": sequence(conv(3, 2, 1), nn.Identity),
    "leaky": lambda: nn.LeakyReLU(0.2),
    "elu": lambda: nn.ELU(1.3),
    "selu": nn.SELU,
    "celu": lambda: nn.CELU(0.6),
    "log sigmoid": nn.LogSigmoid,
    "threshold at 0": lambda: nn.Threshold(0.0, 0.0),
    "hard tanh": lambda: nn.Hardtanh(-0.5, 0.8),
    "hard sigmoid": nn.Hardsigmoid,
    "scaled tanh": layers.ScaledTanh,
    "scaled sigmoid": lambda: layers.ScaledSigmoid(2.5),
    "softmax": sequence(nn.Flatten, lambda: nn.Softmax(dim=1)),
    "functions": function(lambda s, x: torch.tanh(F.relu(x) + torch.sigmoid(x)) + F.leaky_relu(x, 0.3)),
    "methods": function(lambda s, x: x.relu() + x.tanh() + x.sigmoid() + x.clamp_min(0) - x.neg()),
    "clamp": function(lambda s, x: x.clamp(-0.5, 0.6) + x.clamp(min=0) + torch.clamp(x, -1, 1)),
    "linear then relu": sequence(nn.Flatten, lambda: nn.Linear(189, 7), nn.ReLU, lambda: nn.Linear(7, 3), nn.Tanh),
}
ACTIVATIONS: dict[str, Case] = {name: (make, MAPS) for name, make in _ACTIVATIONS.items()}

NORMALISATIONS: dict[str, Case] = {
    "lrn": (lambda: nn.LocalResponseNorm(5), MANY),
    "lrn even": (lambda: nn.LocalResponseNorm(4, alpha=0.5, beta=0.6, k=2.0), MANY),
    "lrn wider": (lambda: nn.LocalResponseNorm(9, alpha=0.1), MAPS),
    "F.lrn": (function(lambda s, x: F.local_response_norm(x, 3, alpha=0.2)), MAPS),
    "batch norm": (lambda: nn.BatchNorm2d(3), MAPS),
    "batch norm plain": (lambda: nn.BatchNorm2d(3, affine=False, eps=1e-3, momentum=0.3), MAPS),
    "batch norm no statistics": (lambda: nn.BatchNorm2d(3, track_running_stats=False), MAPS),
    "batch norm features": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(189, 9), nn.BatchNorm1d(9), nn.Tanh()), MAPS),
    "batch norm chain": (
        sequence(conv(3, 6, 3), lambda: nn.BatchNorm2d(6), nn.ReLU, conv(6, 5, 3), lambda: nn.BatchNorm2d(5)), MAPS
    ),
    "batch norm maximum": (
        sequence(conv(3, 6, 3, bias=False), lambda: nn.BatchNorm2d(6), nn.ReLU, lambda: nn.MaxPool2d(2)), MAPS
    ),
    # a 1×1 convolution of 1×1 maps runs as a linear layer, whose output has no border of zeros by itself
    "border after a linear layer": (sequence(conv(3, 8, 1), nn.ReLU, conv(8, 5, 3, padding=1)), (3, 1, 1)),
    "residual": (sequence(lambda: Residual(3), lambda: Residual(3)), MAPS),
    "residual, pooled": (sequence(lambda: Residual(3), lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten), MAPS),
}  # fmt: skip


def _shared() -> nn.Module:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    return nn.Sequential(shared, nn.ReLU(), shared, nn.Tanh(), shared)


GRAPHS: dict[str, Case] = {
    "shared module": (_shared, MAPS),
    "shared batch norm": (function(lambda s, x: s.a(s.b(s.a(x))), a=lambda: nn.BatchNorm2d(3), b=conv(3, 3, 3)), MAPS),
    "add": (function(lambda s, x: s.a(x) + s.b(x), a=conv(3, 4, 3), b=conv(3, 4, 3)), MAPS),
    "add itself": (function(lambda s, x: s.a(x) + s.a(x), a=conv(3, 4, 3)), MAPS),
    "add the input": (function(lambda s, x: x + s.a(x), a=conv(3, 3, 3, padding=1)), MAPS),
    "torch.add": (function(lambda s, x: torch.add(s.a(x), x, alpha=0.5).add(x), a=conv(3, 3, 1)), MAPS),
    "subtract": (function(lambda s, x: s.a(x) - x, a=conv(3, 3, 1)), MAPS),
    "numbers": (function(lambda s, x: (1 - 2 * s.a(x) / 4 + 0.5) * -1, a=conv(3, 3, 1)), MAPS),
    "minus": (function(lambda s, x: -s.a(x).neg(), a=conv(3, 3, 1)), MAPS),
    "concatenate": (function(lambda s, x: torch.cat([s.a(x), x, s.a(x)], 1), a=conv(3, 5, 3, padding=1)), MAPS),
    "concatenate features": (
        function(lambda s, x: torch.cat((s.a(x.flatten(1)), x.mean((2, 3))), dim=-1), a=lambda: nn.Linear(189, 5)), MAPS
    ),
    "inception": (
        function(
            lambda s, x: torch.cat((s.a(x), s.b(F.relu(s.a(x))), F.max_pool2d(x, 3, 1, 1)), 1),
            a=conv(3, 4, 1), b=conv(4, 6, 3, padding=1),
        ), MAPS,
    ),
    "two outputs": (function(lambda s, x: (s.a(x), {"mean": x.mean((2, 3))}, [s.a(x).relu()]), a=conv(3, 4, 3)), MAPS),
    "view": (function(lambda s, x: s.a(x.view(x.size(0), -1)), a=lambda: nn.Linear(189, 5)), MAPS),
    "view -1": (function(lambda s, x: s.a(x.view(-1, 189)), a=lambda: nn.Linear(189, 5)), MAPS),
    "reshape": (function(lambda s, x: s.a(torch.reshape(x, (x.shape[0], 189))), a=lambda: nn.Linear(189, 5)), MAPS),
    "view product": (
        function(lambda s, x: s.a(x.view(-1, x.shape[1] * x.shape[2] * x.size(3))), a=lambda: nn.Linear(189, 5)), MAPS
    ),
    "there and back": (function(lambda s, x: s.a(x.mean((2, 3))[:, :, None, None])[:, :, 0, 0], a=conv(3, 5, 1)), MAPS),
    "squeeze": (function(lambda s, x: s.a(x.mean((2, 3), True).squeeze((2, 3))), a=lambda: nn.Linear(3, 5)), MAPS),
    "unflatten": (function(lambda s, x: s.a(x.flatten(1).view(x.size(0), 189, 1, 1)), a=conv(189, 4, 1)), MAPS),
    # Maps of one place, as each layer that makes some leaves them, where the next one reads beyond their edges.
    "unflatten, padded": (
        function(lambda s, x: s.a(x.flatten(1).view(x.size(0), 189, 1, 1)), a=conv(189, 4, 3, padding=1)), MAPS
    ),
    "unflatten, padded, grouped": (
        function(
            lambda s, x: s.b(s.a(x).relu().flatten(1).view(x.size(0), 60, 1, 1)),
            a=conv(3, 4, 5), b=conv(60, 60, 7, padding=3, groups=60),
        ), MAPS,
    ),
    "linear, padded": (
        function(
            lambda s, x: s.b(s.a(x.flatten(1)).view(x.size(0), 7, 1, 1)),
            a=lambda: nn.Linear(189, 7), b=conv(7, 4, (3, 1), padding=(1, 0)),
        ), MAPS,
    ),
    "softmax, padded": (
        function(
            lambda s, x: s.a(x.flatten(1).softmax(1).view(x.size(0), 189, 1, 1)), a=conv(189, 4, 3, padding=1)
        ), MAPS,
    ),
    "mean, padded": (function(lambda s, x: s.a(x.mean((2, 3), keepdim=True)), a=conv(3, 5, 3, padding=1)), MAPS),
    "largest, padded": (sequence(lambda: nn.AdaptiveMaxPool2d(1), conv(3, 5, 3, padding=1)), MAPS),
    "norm, padded": (
        function(
            lambda s, x: s.b(s.a(x.mean((2, 3))).view(x.size(0), 3, 1, 1)),
            a=lambda: nn.LayerNorm(3), b=conv(3, 5, 3, padding=1),
        ), MAPS,
    ),
    "joined, padded": (
        function(
            lambda s, x: s.a(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1).view(x.size(0), 6, 1, 1)),
            a=conv(6, 5, 3, padding=1),
        ), MAPS,
    ),
    "in place": (function(lambda s, x: _in_place(s, x), a=conv(3, 4, 3)), MAPS),
    "in place, read again": (function(lambda s, x: _in_place_again(s, x), a=conv(3, 4, 3)), MAPS),
    "dead branch": (function(lambda s, x: _dead(s, x), a=conv(3, 4, 3)), MAPS),
    "input returned": (function(lambda s, x: (x, s.a(x)), a=conv(3, 4, 3)), MAPS),
    "no parameters": (sequence(nn.ReLU, lambda: nn.MaxPool2d(2)), MAPS),
    "dropout off": (sequence(nn.Flatten, lambda: nn.Dropout(0.0), lambda: nn.Linear(189, 5)), MAPS),
}  # fmt: skip


def _in_place(model: Any, x: Tensor) -> Any:
    y = model.a(x)
    y += 1
    y.mul_(0.5)
    return y.tanh()


def _in_place_again(model: Any, x: Tensor) -> Any:
    y = model.a(x)
    F.relu_(y)
    return y + 1


def _dead(model: Any, x: Tensor) -> Any:
    torch.fft.fft(x)
    return model.a(x)


ALL: dict[str, Case] = {**CONVOLUTIONS, **POOLINGS, **ACTIVATIONS, **NORMALISATIONS, **GRAPHS, **TENSORS}
