"""What the models of ``tests.programs`` do: one function a statement, of the model and what the last one made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 4


class Doubled(torch.autograd.Function):
    """Another way back than forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1.5

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> Tensor:
        return delta * 2.5


class Gated(nn.Module):
    """A module with an option that only its forward reads."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.gate: float | None = 0.5

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        y: Tensor = self.inner(x) * gain
        return y if self.gate is None else y * self.gate + x


def _alias(m: Any, x: Tensor) -> Tensor:
    y = x * 1.0
    part = y[:, 1:3]
    part.mul_(0.5)
    return y


def _alias_kept(m: Any, x: Tensor) -> Tensor:
    y = x + 0.25
    z = y
    z += 0.5 * x
    return y * z


def _view(m: Any, x: Tensor) -> Tensor:
    y = (x * 1.25).flatten(2)
    y[:, :, ::2] = y[:, :, ::2] * -0.5
    return y.view_as(x)


def _transposed(m: Any, x: Tensor) -> Tensor:
    y = x.transpose(2, 3) + 0.0
    y.transpose(2, 3)[:, 0].add_(1.0)
    return y.transpose(2, 3)


def _clone(m: Any, x: Tensor) -> Tensor:
    y = x.clone()
    y.relu_()
    return y + x


def _no_grad(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        z = x.tanh() * 2
    return x + z


def _no_grad_write(m: Any, x: Tensor) -> Tensor:
    y = x * 2.0
    with torch.no_grad():
        y.mul_(0.5)
    return y


def _data(m: Any, x: Tensor) -> Tensor:
    y = x * 1.5
    return y - y.detach() + y.data * 0.5


def _autocast(m: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=m.cast):
        y: Tensor = m.conv(x)
    return y.to(x.dtype)


def _branch_on_data(m: Any, x: Tensor) -> Tensor:
    return x * 2 if float(x.detach().mean()) > m.bound else x.sigmoid()


def _branch_on_attribute(m: Any, x: Tensor) -> Tensor:
    return m.conv(x) if m.deep else x.tanh()


def _branch_on_shape(m: Any, x: Tensor) -> Tensor:
    return x[:, :, 1:-1, 1:-1] if x.shape[2] > 4 else F.pad(x, (1, 1, 1, 1))


def _counted(m: Any, x: Tensor) -> Tensor:
    m.steps.add_(1)
    y: Tensor = x * (1 + 0.1 * m.offset)
    return y


def _tracked(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.centre.mul_(0.9).add_(x.detach().mean((0, 2, 3)), alpha=0.1)
    y: Tensor = x - m.centre[:, None, None]
    return y


def _loop(m: Any, x: Tensor) -> Tensor:
    for layer in m.layers[: m.depth]:
        x = layer(x) + x
    return x


def _split(m: Any, x: Tensor) -> Tensor:
    one, other = x.chunk(2, 1)
    return torch.cat([other.tanh(), one * m.scale], dim=1)


def _keywords(m: Any, x: Tensor) -> Tensor:
    y: Tensor = m.gated(x, gain=m.options["gain"])
    return y


def _masked(m: Any, x: Tensor) -> Tensor:
    return torch.where(x > 0, x, m.scale * x).masked_fill(x < -2, 0.0)


def _star(m: Any, x: Tensor) -> Tensor:
    return torch.stack([*x.unbind(1)], 1).add(x, alpha=m.scale)


def _setitem(m: Any, x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, ::2] = x[:, 1::2]
    out[:, 1::2] += x[:, ::2] * 0.5
    return out


def _into(m: Any, x: Tensor) -> Tensor:
    y = x.new_empty(x.shape)
    y.copy_(x)
    y.clamp_(-1.5, 1.5)
    return y


def _checked(m: Any, x: Tensor) -> Tensor:
    torch._assert(x.ndim == 4, "pictures")  # type: ignore[no-untyped-call]
    return x.exp().clamp(max=3.0)


def _weight_by_hand(m: Any, x: Tensor) -> Tensor:
    return F.conv2d(x, m.conv.weight * m.scale, padding=1)


STATEMENTS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "convolution": lambda m, x: m.conv(x),
    "convolution again": lambda m, x: m.conv(m.conv(x).tanh()),
    "normalised": lambda m, x: m.norm(x),
    "rectified": lambda m, x: m.act(x),
    "rectified in place": lambda m, x: F.relu(x * 1.1, inplace=True),
    "pooled": lambda m, x: F.interpolate(F.avg_pool2d(x, 2), size=x.shape[-2:]),
    "maximum": lambda m, x: F.max_pool2d(x, 3, 1, 1),
    "scaled": lambda m, x: x * m.scale,
    "settings": lambda m, x: x + m.settings.shift,
    "a parameter": lambda m, x: x * m.gain,
    "own function": lambda m, x: Doubled.apply(x),  # type: ignore[no-untyped-call]
    "gated": lambda m, x: m.gated(x),
    "alias": _alias, "alias kept": _alias_kept, "view": _view, "transposed": _transposed, "clone": _clone,
    "no_grad": _no_grad, "no_grad write": _no_grad_write, "data": _data, "autocast": _autocast,
    "branch on data": _branch_on_data, "branch on attribute": _branch_on_attribute, "branch on shape": _branch_on_shape,
    "counted": _counted, "tracked": _tracked, "loop": _loop, "split": _split, "keywords": _keywords, "masked": _masked,
    "star": _star, "setitem": _setitem, "into": _into, "checked": _checked, "weight by hand": _weight_by_hand,
}  # fmt: skip
