"""Rarer things that the models of ``tests.programs`` do: what they remember, chance, custom functions, modes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

SETTINGS: dict[str, Any] = {"shift": 0.2, "gains": [0.9, 1.1]}


class Seen:
    """Counts, where no dictionary of attributes is."""

    __slots__ = ("times",)

    def __init__(self) -> None:
        self.times = 0


class Wrote(torch.autograd.Function):
    """Writes over its argument."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.mul_(1.5)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> Tensor:
        return delta * 1.5


class Remembered(torch.autograd.Function):
    """Two outputs, of what it has kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, gain)
        return x * gain, x + gain

    @staticmethod
    def backward(ctx: Any, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        x, gain = ctx.saved_tensors
        return one * gain + other, (one * x + other).sum((0, 2, 3)).view(gain.shape)


def _inference(m: Any, x: Tensor) -> Tensor:
    with torch.inference_mode():
        z: Tensor = x.detach().sigmoid() * m.scale
    return x + z.clone()


def _functional(m: Any, x: Tensor) -> Tensor:
    weights = {"inner.weight": m.gated.inner.weight * m.scale, "inner.bias": m.gated.inner.bias + 0.1}
    found: Tensor = torch.func.functional_call(m.gated, weights, (x,))
    return found


def _enabled(m: Any, x: Tensor) -> Tensor:
    with torch.set_grad_enabled(m.deep):
        y: Tensor = m.conv(x)
    return x + y


def _slope(m: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(z.tanh().sum(), z)
    return x * slope


def _hook(m: Any, x: Tensor) -> Tensor:
    y = x * 1.25
    if y.requires_grad:
        y.register_hook(lambda delta: delta * 0.5)  # type: ignore[no-untyped-call]
    return y


def _seen(m: Any, x: Tensor) -> Tensor:
    m.seen.times += 1
    y: Tensor = x * (1 + 0.1 * m.seen.times)
    return y


def _last(m: Any, x: Tensor) -> Tensor:
    before = 0.0 if m.last is None else float(m.last)
    m.last = x.detach().mean()
    return x + before


def _exchanged(m: Any, x: Tensor) -> Tensor:
    m.offset = m.offset * 1.25
    y: Tensor = x * m.offset
    return y


def _listed(m: Any, x: Tensor) -> Tensor:
    for function in m.functions:
        x = function(x)
    return x


def _moved_on(m: Any, x: Tensor) -> Tensor:
    return x * float(next(m.gains))


def _walked(m: Any, x: Tensor) -> Tensor:
    for gain in m.options["gains"]:
        return x * float(gain)
    return x


def _drawn(m: Any, x: Tensor) -> Tensor:
    return x * 2 if random.random() < 0.5 else x.tanh()


def _kept_tensor(m: Any, x: Tensor) -> Tensor:
    table = torch.as_tensor(m.table).to(x.dtype)
    return x * table[0]


def _einsum(m: Any, x: Tensor) -> Tensor:
    return torch.einsum("nchw,dc->ndhw", x, m.layers[0].weight[:, :, 0, 0])


def _remembered(m: Any, x: Tensor) -> Tensor:
    one, other = Remembered.apply(x, m.gain)  # type: ignore[no-untyped-call]
    found: Tensor = one.tanh() - other * 0.25
    return found


def _augmented(m: Any, x: Tensor) -> Tensor:
    x *= 0.75
    x -= 0.1
    return x


def _diagonal(m: Any, x: Tensor) -> Tensor:
    y = x * 1.0
    torch.diagonal(y, dim1=2, dim2=3).mul_(0.5)
    y.unfold(3, 2, 2)[..., 0].add_(0.25)
    return y


def _guest(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        z: Tensor = m.guests[0](x.detach().float()).to(x.dtype)
    return x + z


ODDITIES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "inference": _inference, "functional": _functional, "set_grad_enabled": _enabled, "slope": _slope, "hook": _hook,
    "seen": _seen, "last": _last, "exchanged": _exchanged, "listed": _listed, "iterator": _moved_on, "walked": _walked,
    "drawn": _drawn, "kept tensor": _kept_tensor, "einsum": _einsum, "remembered": _remembered, "guest": _guest,
    "augmented": _augmented, "diagonal": _diagonal,
    "own write": lambda m, x: Wrote.apply(x * 1.0),  # type: ignore[no-untyped-call]
    "numpy's chance": lambda m, x: x * float(m.numbers.random()),
    "own chance": lambda m, x: x * torch.rand((), generator=m.chance).to(x.dtype),
    "dropped": lambda m, x: nn.functional.dropout(x, 0.3, m.training),
    "class": lambda m, x: x * type(m).factor,
    "global": lambda m, x: x + SETTINGS["shift"],
    "global list": lambda m, x: x * SETTINGS["gains"][0],
    "array": lambda m, x: x * float(m.table[0]),
    "checkpointed": lambda m, x: checkpoint(m.gated, x, use_reentrant=False),
    "mapped": lambda m, x: torch.vmap(torch.tanh)(x),
}  # fmt: skip
#: What a call cannot be made for only to look at it, for it cannot be put back.
HIDDEN = frozenset(("iterator", "walked"))
#: What the engine, or torch on other numbers, draws otherwise.
CHANCE = frozenset(("dropped",))
