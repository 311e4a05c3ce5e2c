"""General tensor operations with each option, as modules, functions and methods, in networks of odd sizes."""

from __future__ import annotations

import math
from typing import Any

import torch
from tests.native.function_cases import ELEMENTWISE
from tests.native.parts import MANY, MAPS, ONE, Case, conv, function, sequence
from torch import Tensor, nn
from torch.nn import functional as F


class Scaled(nn.Module):
    """x·γ + β with parameters of any shape; ``codes`` is a buffer."""

    def __init__(self, *shape: int, codes: tuple[int, ...] = (1,)) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.codes: Tensor
        self.register_buffer("codes", torch.zeros(codes))

    def forward(self, x: Tensor) -> Any:
        return x * self.gamma + self.beta - self.codes


class ChannelsLast(nn.Module):
    """Normalised and mixed over channels that are the last side, as ConvNeXt's blocks are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.wide, self.narrow = nn.LayerNorm(channels), nn.Linear(channels, 7), nn.Linear(7, channels)
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Any:
        y = self.narrow(F.gelu(self.wide(self.norm(x.permute(0, 2, 3, 1)))))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


class Tokens(nn.Module):
    """Positions as a row of tokens: a class token, a positional code, mixing of tokens and of their numbers."""

    def __init__(self, channels: int, tokens: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, tokens, channels))
        self.norm, self.mix = nn.LayerNorm(channels), nn.Linear(tokens, tokens)
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Any:
        y = x.flatten(2).transpose(1, 2) + self.place
        y = y + self.mix(self.norm(y).transpose(1, 2)).transpose(1, 2)
        return self.head(y).mean(1)


def _squeeze_and_excite(s: Any, x: Tensor) -> Any:
    gate = torch.sigmoid(s.b(F.relu(s.a(F.adaptive_avg_pool2d(x, 1)))))
    return x * gate


def _spatial_attention(s: Any, x: Tensor) -> Any:
    two = torch.cat([x.mean(1, keepdim=True), x.max(dim=1, keepdim=True)[0]], dim=1)
    return x * torch.sigmoid(s.a(two))


def _channel_attention(s: Any, x: Tensor) -> Any:
    both = s.a(x.amax((2, 3), keepdim=True)) + s.a(F.adaptive_max_pool2d(x, 1))
    return x * both.softmax(dim=1)


def _global_context(s: Any, x: Tensor) -> Any:
    weights = s.a(x).flatten(2).softmax(-1)
    context = (x.flatten(2) * weights).sum(-1)[:, :, None, None]
    return x + context.expand_as(x)


def _response(s: Any, x: Tensor) -> Any:
    """Global response normalisation of ConvNeXt V2."""
    y = s.a(x).permute(0, 2, 3, 1)
    length = y.norm(p=2, dim=(1, 2), keepdim=True)
    return y * (length / (length.mean(dim=-1, keepdim=True) + 1e-6)) + y


def _selective(s: Any, x: Tensor) -> Any:
    """Two branches weighed by a softmax between them, as in selective kernels."""
    branches = torch.stack([s.a(x), s.b(x)], dim=1)
    weights = branches.sum(1).mean((2, 3), keepdim=True)
    weights = torch.cat([weights, -weights], 1).view(x.size(0), 2, 4, 1, 1).softmax(1)
    return (branches * weights).sum(dim=1)


def _split_attention(s: Any, x: Tensor) -> Any:
    b, _, h, w = x.shape
    y = s.a(x).reshape(b, 2, 4, h, w)
    gap = y.sum(dim=1).mean((2, 3))
    attention = torch.stack((gap, gap * 0.5), 1).softmax(1).reshape(b, -1)[:, :, None, None]
    return (s.a(x) * attention).reshape(b, 2, 4, h, w).sum(1)


def _patches(s: Any, x: Tensor) -> Any:
    """Four patches along the channels: the first layer of a Swin block's merging, and of YOLO's focus."""
    parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[:, :, 1::2, 1::2]]
    return s.a(torch.cat(parts, 1))


def _windows(s: Any, x: Tensor) -> Any:
    """Windows of 3×4 and back, shifted in between."""
    b, c, h, w = x.shape
    y = torch.roll(x, shifts=(-1, 2), dims=(2, 3))
    y = y.view(b, c, h // 3, 3, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(b, -1, 12, c)
    y = y - y.mean(2, keepdim=True)
    y = y.view(b, h // 3, w // 4, 3, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
    return s.a(y)


def _pixels(s: Any, x: Tensor) -> Any:
    return F.pixel_unshuffle(F.pixel_shuffle(s.a(x), 2), 2) + s.b(nn.functional.pixel_unshuffle(x, 2)).mean(
        (2, 3), True
    )


def _upsampled_join(s: Any, x: Tensor) -> Any:
    low = s.a(F.max_pool2d(x, 2))
    return s.b(torch.cat([x, F.interpolate(low, size=x.shape[2:], mode="bilinear", align_corners=False)], dim=1))


def _extremes(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    return (
        torch.maximum(y, x) - torch.minimum(y, x * 0.5) + torch.max(y, dim=2, keepdim=True).values - y.min(1, True)[0]
    )


def _in_place(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    gate = torch.sigmoid(y.mean((2, 3), keepdim=True))
    y *= gate
    y -= 0.1
    y /= 1.5
    y.add_(x).sub_(gate).div_(2.0)
    return y


def _statistics(s: Any, x: Tensor) -> Any:
    y = s.a(x)
    mean, deviation = y.mean((2, 3), keepdim=True), y.std(dim=(2, 3), keepdim=True)
    return (y - mean) / (deviation + 0.5) + y.var(1, keepdim=True, unbiased=False) + F.normalize(x, dim=1)


BINARIES: dict[str, Case] = {
    "product": (function(lambda s, x: s.a(x) * torch.sigmoid(s.b(x)), a=conv(3, 4, 3), b=conv(3, 4, 3)), MAPS),
    "square by itself": (function(lambda s, x: (y := s.a(x)) * y + x * y, a=conv(3, 3, 1)), MAPS),
    "quotient": (
        function(lambda s, x: s.a(x) / (1.5 + torch.sigmoid(x)) - 2 / (x.square() + 1), a=conv(3, 3, 1)),
        MAPS,
    ),
    "squeeze and excite": (function(_squeeze_and_excite, a=conv(17, 4, 1), b=conv(4, 17, 1)), MANY),
    "spatial attention": (function(_spatial_attention, a=conv(2, 1, 3, padding=1)), MANY),
    "channel attention": (function(_channel_attention, a=conv(17, 17, 1)), MANY),
    "global context": (function(_global_context, a=conv(17, 1, 1)), MANY),
    "extremes": (function(_extremes, a=conv(3, 3, 3, padding=1)), MAPS),
    "shapes that go together": (
        function(lambda s, x: x.mean(2, True) + x.mean(3, True) * x.mean(1, True) - x.mean((1, 2, 3), True)),
        MAPS,
    ),
    "more changes than sides": (
        function(lambda s, x: (y := x.view(-1, 2, 3, 2, 4)) + y.mean((1, 3), keepdim=True) * y.mean((2, 4), True)),
        (6, 2, 4),
    ),
    "selective": (function(_selective, a=conv(3, 4, 3, padding=1), b=conv(3, 4, 1)), MAPS),
    "split attention": (function(_split_attention, a=conv(3, 8, 1)), MAPS),
    "in place arithmetic": (function(_in_place, a=conv(3, 3, 3, padding=1)), MAPS),
    "parameters of channels": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Scaled(4, 1, 1)), MAPS),
    "parameters of a batch of one": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Scaled(1, 4, 1, 5, codes=(7, 1))), MAPS),
    "parameters of everything": (lambda: Scaled(3, 9, 7, codes=(9, 7)), MAPS),
    "parameters of features": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(30, 6), Scaled(6), Scaled(1)), ONE),
    "global response": (function(_response, a=conv(3, 5, 1)), MAPS),
    "statistics": (function(_statistics, a=conv(3, 3, 3, padding=1)), MAPS),
    "reversed": (function(lambda s, x: x.__radd__(1.0) + (3 - x) + x.__rmul__(2.0) - (0.5 * x)), MAPS),
}

VIEWS: dict[str, Case] = {
    "channels last": (lambda: nn.Sequential(nn.Conv2d(3, 6, 2), ChannelsLast(6), ChannelsLast(6)), MAPS),
    "tokens": (lambda: nn.Sequential(nn.Conv2d(3, 6, 3, 3), Tokens(6, 6)), MAPS),
    "patches": (function(_patches, a=conv(12, 5, 1)), (3, 8, 6)),
    "windows": (function(_windows, a=conv(3, 5, 3)), (3, 9, 8)),
    "pixels": (function(_pixels, a=conv(4, 8, 1), b=conv(16, 8, 1)), (4, 6, 8)),
    "shuffle by views": (
        function(
            lambda s, x: s.b(s.a(x).view(x.size(0), 3, 4, 7, 5).transpose(1, 2).reshape(-1, 12, 7, 5)),
            a=conv(3, 12, 3),
            b=conv(12, 4, 3),
        ),
        MAPS,
    ),
    "shuffle in groups": (sequence(conv(3, 12, 3), lambda: nn.ChannelShuffle(4), conv(12, 6, 3, groups=3)), MAPS),
    "parts of all sides": (
        function(lambda s, x: s.a(x)[:, 1:4, 2:, :-1].relu() + s.a(x).narrow(1, 0, 3)[..., 2:, 1:], a=conv(3, 5, 2)),
        MAPS,
    ),
    "places": (
        function(
            lambda s, x: s.a(x)[:, 2] + s.a(x).select(2, -1)[:, 1:2] - x[:, 0, 0, 0].view(-1, 1, 1, 1)[:, 0],
            a=conv(3, 4, 1),
        ),
        MAPS,
    ),
    "flipped and repeated": (
        function(lambda s, x: s.a(torch.flip(x, (2, 3))).repeat(1, 2, 1, 3), a=conv(3, 4, 2)),
        MAPS,
    ),
    "repeated numbers": (function(lambda s, x: s.a(x.repeat_interleave(2, dim=1)).flip(1), a=conv(6, 4, 2)), MAPS),
    "expanded": (function(lambda s, x: s.a(x.mean((2, 3), True).expand(-1, -1, 4, 5)), a=conv(3, 4, 2)), MAPS),
    "joined along rows": (
        function(lambda s, x: s.a(torch.cat([x, s.b(x), x[:, :, :2]], dim=2)), a=conv(3, 4, 2), b=conv(3, 3, 1)),
        MAPS,
    ),
    "joined along columns": (function(lambda s, x: torch.cat([s.a(x), x], dim=-1).mean(1), a=conv(3, 3, 1)), MAPS),
    "stacked and unbound": (
        function(lambda s, x: (y := torch.stack([s.a(x), x], 2).unbind(2))[0] * y[1], a=conv(3, 3, 1)),
        MAPS,
    ),
    "unflattened": (function(lambda s, x: s.a(x).unflatten(1, (2, -1)).mean(2).flatten(2), a=conv(3, 6, 1)), MAPS),
    "lines": (
        function(
            lambda s, x: s.b(s.a(x.flatten(2))).mean(-1),
            a=lambda: nn.Conv1d(3, 5, 3, padding=1),
            b=lambda: nn.BatchNorm1d(5),
        ),
        MAPS,
    ),
    "efficient channel attention": (
        function(
            lambda s, x: x * s.a(x.mean((2, 3)).view(-1, 1, 17)).sigmoid().view(-1, 17, 1, 1),
            a=lambda: nn.Conv1d(1, 1, 3, padding=1, bias=False),
        ),
        MANY,
    ),
    "squeezed": (
        function(lambda s, x: s.a(x).mean(3, keepdim=True).squeeze(-1).unsqueeze(2).squeeze(2), a=conv(3, 4, 1)),
        MAPS,
    ),
    "movedim": (function(lambda s, x: s.a(x.movedim(1, -1)).swapaxes(1, 3), a=lambda: nn.Linear(3, 5)), MAPS),
    "rows as channels": (function(lambda s, x: s.a(x.transpose(1, 2)), a=conv(9, 4, (2, 3))), MAPS),
    "the same twice": (function(lambda s, x: ((y := s.a(x)), y, y.flatten(1)), a=conv(3, 2, 3)), MAPS),
    "view of the input": (function(lambda s, x: (x.flatten(1), x.permute(0, 2, 3, 1), s.a(x)), a=conv(3, 2, 3)), MAPS),
    "gated": (sequence(conv(3, 8, 3), lambda: nn.GLU(1)), MAPS),
}

RESIZINGS: dict[str, Case] = {
    **{
        f"interpolate {mode} {how}": (
            function(
                lambda s, x, mode=mode, how=how: s.b(F.interpolate(s.a(x), mode=mode, **_EXTENTS[how])),  # type: ignore[misc]
                a=conv(3, 4, 2),
                b=conv(4, 3, 2),
            ),
            MAPS,
        )
        for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
        for how in ("size", "twice", "smaller")
    },
    "interpolate with corners": (
        function(lambda s, x: F.interpolate(s.a(x), (5, 13), mode="bilinear", align_corners=True), a=conv(3, 4, 2)),
        MAPS,
    ),
    "interpolate antialiased": (
        function(lambda s, x: F.interpolate(s.a(x), (4, 3), mode="bilinear", antialias=True), a=conv(3, 4, 2)),
        MAPS,
    ),
    "interpolate a line": (
        function(lambda s, x: F.interpolate(s.a(x).mean(2), scale_factor=2.5, mode="linear"), a=conv(3, 4, 2)),
        MAPS,
    ),
    "upsample": (sequence(conv(3, 4, 2), lambda: nn.Upsample(scale_factor=(2, 3)), conv(4, 2, 3, padding=1)), MAPS),
    "upsample bilinear": (sequence(conv(3, 4, 2), lambda: nn.Upsample((11, 6), mode="bilinear")), MAPS),
    "upsample with corners": (sequence(conv(3, 4, 2), lambda: nn.UpsamplingBilinear2d(scale_factor=2)), MAPS),
    "upsampled and joined": (function(_upsampled_join, a=conv(3, 4, 3, padding=1), b=conv(7, 5, 3, padding=1)), MAPS),
    "zero padding": (sequence(lambda: nn.ZeroPad2d((1, 2, 0, 3)), conv(3, 4, 3, stride=2)), MAPS),
    "cropping": (sequence(conv(3, 4, 2), lambda: nn.ZeroPad2d((-1, 2, 1, -2)), conv(4, 4, 3)), MAPS),
    "constant padding": (sequence(conv(3, 4, 2), lambda: nn.ConstantPad2d((1, 0, 2, 1), 0.7), nn.Tanh), MAPS),
    "padding far below": (sequence(conv(3, 4, 2), lambda: nn.ConstantPad2d(1, -1e9), lambda: nn.MaxPool2d(3, 2)), MAPS),
    "padding with infinity": (
        function(lambda s, x: F.max_pool2d(F.pad(s.a(x), (1, 0, 2, 1), value=-math.inf), 3), a=conv(3, 4, 2)),
        MAPS,
    ),
    "reflection": (sequence(conv(3, 4, 2), lambda: nn.ReflectionPad2d((3, 2, 1, 0)), conv(4, 3, 3)), MAPS),
    "replication": (sequence(lambda: nn.ReplicationPad2d(2), conv(3, 4, 5)), MAPS),
    "circular": (sequence(lambda: nn.CircularPad2d((1, 2, 3, 0)), conv(3, 4, 3)), MAPS),
    "padded channels": (
        function(lambda s, x: F.pad(s.a(x[:, :, ::2, ::2]), (0, 0, 0, 0, 2, 1)), a=conv(3, 4, 1)),
        MAPS,
    ),
    "padded features": (function(lambda s, x: s.a(F.pad(x.flatten(1), (2, 1))), a=lambda: nn.Linear(33, 4)), ONE),
    "conv reflected": (conv(3, 4, 3, padding=(1, 2), padding_mode="reflect"), MAPS),
    "conv wrapped": (conv(3, 4, (3, 2), padding=1, padding_mode="circular", stride=2), MAPS),
    "conv same, even": (conv(3, 4, (2, 3), padding="same"), MAPS),
    "adaptive mean of any size": (sequence(conv(3, 4, 2), lambda: nn.AdaptiveAvgPool2d((5, 4))), MAPS),
    "adaptive mean, larger": (sequence(conv(3, 4, 2), lambda: nn.AdaptiveAvgPool2d(11), nn.Flatten), MAPS),
    "adaptive max of any size": (sequence(conv(3, 4, 2), lambda: nn.AdaptiveMaxPool2d((3, 5))), MAPS),
    "adaptive max, larger": (lambda: nn.AdaptiveMaxPool2d((10, 7)), MAPS),
    "max dilated": (sequence(conv(3, 4, 1), lambda: nn.MaxPool2d(3, 2, padding=1, dilation=2, ceil_mode=True)), MAPS),
    "max of many": (lambda: nn.MaxPool2d((17, 19)), (2, 17, 20)),
    "transposed": (sequence(conv(3, 6, 2), lambda: nn.ConvTranspose2d(6, 4, 2, stride=2), nn.ReLU), MAPS),
    "transposed overlapping": (lambda: nn.ConvTranspose2d(3, 5, (4, 3), stride=(2, 1), padding=(1, 0)), MAPS),
    "transposed everything": (
        lambda: nn.ConvTranspose2d(4, 6, (3, 2), (3, 2), (2, 0), output_padding=(2, 1), groups=2, dilation=(2, 1)),
        (4, 5, 3),
    ),
    "transposed gaps": (lambda: nn.ConvTranspose2d(3, 2, 2, stride=5, bias=False), MAPS),
    "transposed depthwise": (sequence(lambda: nn.ConvTranspose2d(3, 3, 4, 2, 1, groups=3), conv(3, 2, 3)), MAPS),
    "transposed line of maps": (sequence(conv(3, 17, 3), lambda: nn.ConvTranspose2d(17, 19, 3, 2, 1, 1)), (3, 6, 5)),
}

_EXTENTS: dict[str, dict[str, Any]] = {
    "size": {"size": (13, 9)},
    "twice": {"scale_factor": 2},
    "smaller": {"scale_factor": (0.6, 0.75)},
}

NORMS: dict[str, Case] = {
    "group norm": (sequence(conv(3, 6, 2), lambda: nn.GroupNorm(3, 6), nn.ReLU, conv(6, 4, 3)), MAPS),
    "group norm plain": (sequence(conv(3, 17, 1), lambda: nn.GroupNorm(1, 17, eps=1e-3, affine=False)), MAPS),
    "group norm of features": (sequence(nn.Flatten, lambda: nn.Linear(30, 8), lambda: nn.GroupNorm(2, 8)), ONE),
    "instance norm": (sequence(conv(3, 5, 2), lambda: nn.InstanceNorm2d(5, affine=True)), MAPS),
    "instance norm plain": (sequence(conv(3, 5, 2), lambda: nn.InstanceNorm2d(5)), MAPS),
    "layer norm of images": (sequence(conv(3, 4, 2), lambda: nn.LayerNorm((4, 8, 6))), MAPS),
    "layer norm of maps": (sequence(conv(3, 4, 2), lambda: nn.LayerNorm((8, 6), elementwise_affine=False)), MAPS),
    "layer norm of rows": (sequence(conv(3, 4, 2), lambda: nn.LayerNorm(6, bias=False), nn.Tanh), MAPS),
    "layer norm of features": (sequence(nn.Flatten, lambda: nn.Linear(30, 17), lambda: nn.LayerNorm(17)), ONE),
    "F.layer_norm": (function(lambda s, x: F.layer_norm(s.a(x).permute(0, 2, 3, 1), (4,)), a=conv(3, 4, 2)), MAPS),
    "softmax of maps": (sequence(conv(3, 5, 2), lambda: nn.Softmax2d(), conv(5, 2, 1)), MAPS),
    "softmax along rows": (function(lambda s, x: s.a(x).softmax(-1) * F.softmax(s.a(x), dim=2), a=conv(3, 4, 2)), MAPS),
    "log softmax": (sequence(nn.Flatten, lambda: nn.Linear(30, 7), lambda: nn.LogSoftmax(1)), ONE),
    "log softmax of maps": (function(lambda s, x: F.log_softmax(s.a(x), 1), a=conv(3, 4, 2)), MAPS),
    "batch norm of lines": (function(lambda s, x: s.a(x.flatten(2)), a=lambda: nn.BatchNorm1d(3)), MAPS),
    "maxima": (
        function(
            lambda s, x: s.a(x).amax(1, True) - s.a(x).amin((2, 3), True) + torch.amax(x, dim=3, keepdim=True),
            a=conv(3, 3, 1),
        ),
        MAPS,
    ),
    "maxima that are equal": (
        function(lambda s, x: F.relu(s.a(x)).amax((1, 2)) + F.relu(s.a(x)).max(1)[0].amax(1), a=conv(3, 4, 1)),
        MAPS,
    ),
    "sums": (
        function(
            lambda s, x: s.a(x).sum(1, keepdim=True) * torch.sum(x, (2, 3), True) + x.sum(dim=(1, 3), keepdim=True),
            a=conv(3, 4, 1),
        ),
        MAPS,
    ),
    "norms": (
        function(
            lambda s, x: x.norm(dim=1) + torch.linalg.vector_norm(s.a(x), dim=1) + x.norm(1, dim=1), a=conv(3, 4, 1)
        ),
        MAPS,
    ),
    "dropout of maps off": (sequence(conv(3, 4, 1), lambda: nn.Dropout2d(0.0)), MAPS),
}

TENSORS: dict[str, Case] = {**BINARIES, **VIEWS, **RESIZINGS, **NORMS, **ELEMENTWISE}
