"""Low precision beside torch: the same rounding in torch's own layers, and how far answers may be from it.

Let t be torch's float32 answer, r torch's with the inputs and weights of the same layers rounded as the engine rounds
them (``Rounded``), e the engine's. Sums in another order move a number by some 1e-7, and now and then over the middle
between two numbers of low precision, so that it is rounded to the other one; after a few layers the two have rounded
independently. Each is then t with a rounding noise of the length of ‖r − t‖, and ‖e − r‖ ≤ ‖e − t‖ + ‖r − t‖ is twice
that at most where all of it points apart; ``_TIMES`` leaves room for one draw of noise being twice another. Where
nothing is rounded anew, as in a model of one layer, e and r differ by the order of float32 sums alone, ``_SAME``. A
wrong tap, channel or scale is off by parts of t itself. Exact equality with references is for the engine's tests, layer
by layer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from convscope.native.mixed import MixedNetwork
from convscope.native.network import LowPrecision
from convscope.native.trust import AnyNetwork, Ready, Trust, answers, in_torch, native, pictures_compared, plans_of

_TIMES = 4.0
_SAME = 1e-4
MOST_PICTURES = 16  # that go through the engine's channels-blocked layout together

LAYERS: dict[Any, Any] = {
    torch.conv2d: torch.conv2d,
    F.conv2d: torch.conv2d,
    F.linear: F.linear,
    torch._C._nn.linear: F.linear,
}


@dataclasses.dataclass(frozen=True)
class Rounding:
    """Of one layer: its precision, and scale and zero of its input in 8 bits."""

    precision: str
    quantised: tuple[float, float] = (1.0, 0.0)

    def apply(
        self, layer: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Any, *more: Any, **named: Any
    ) -> Tensor:
        """The layer's result, as the engine defines it, in torch."""
        if self.precision == "bf16":
            low = layer(x.bfloat16().float(), weight.bfloat16().float(), None, *more, **named)
        else:
            scale, zero = self.quantised
            factor = self.weight_scales(weight)
            low = layer(self.integers(x) - zero, self.weight_integers(weight), None, *more, **named)
            shape = [1, -1, *[1] * (low.ndim - 2)] if low.ndim == 4 else [-1]
            low = low * (factor * scale).reshape(shape)
        if bias is None:
            return low
        return low.add(bias.reshape(1, -1, 1, 1) if low.ndim == 4 else bias)

    def integers(self, x: Tensor) -> Tensor:
        """Inputs in 8 bits, from 0 to 255."""
        scale, zero = (torch.tensor(each, dtype=torch.float32) for each in self.quantised)
        return (torch.clamp(x.float() * (1 / scale), -float(zero), 255 - float(zero)).round() + zero).to(x.dtype)

    def weight_integers(self, weight: Tensor) -> Tensor:
        most = weight.float().flatten(1).abs().amax(1)
        inverse = torch.where(most > 0, 127 / most, 0)
        rows = weight.float() * inverse.reshape(-1, *[1] * (weight.ndim - 1))
        return rows.clamp(-127, 127).round().to(weight.dtype)

    def weight_scales(self, weight: Tensor) -> Tensor:
        """By output channel."""
        return weight.flatten(1).abs().amax(1) / 127


class Rounded(TorchFunctionMode):
    """While entered, layers of the ``weights`` (by the parameter's identity, in the order of their calls) round as
    told; a None among them leaves that call alone. ``left`` counts those that have not come."""

    def __init__(self, weights: Mapping[int, list[Rounding | None]]) -> None:
        super().__init__()
        self._weights = {each: list(calls) for each, calls in weights.items()}

    @property
    def left(self) -> int:
        return sum(each is not None for calls in self._weights.values() for each in calls)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        layer = LAYERS.get(function)
        if layer is None:
            return function(*args, **kwargs)
        named = dict(kwargs)
        order = ("input", "weight", "bias")
        first = [args[i] if i < len(args) else named.pop(order[i], None) for i in range(3)]
        calls = self._weights.get(id(first[1]))
        rounding = calls.pop(0) if calls else None
        if rounding is None:
            return function(*args, **kwargs)
        return functools.partial(rounding.apply, layer)(first[0], first[1], first[2], *args[3:], **named)


def difference(own: list[Tensor], rounded: list[Tensor], exact: list[Tensor]) -> str | None:
    """Why the engine's answer e (``own``) is not to be had for r (``rounded``) beside t (``exact``); None where it
    is."""
    for place, (e, r, t) in enumerate(zip(own, rounded, exact, strict=True)):
        gap, noise, size = (float(torch.linalg.vector_norm(each.double())) for each in (e - r, r - t, t))
        if not gap <= _TIMES * noise + _SAME * size:
            return (
                f"output {place}: {gap / max(size, 1e-30):.2g} of its length from the same rounding in torch, which is "
                f"{noise / max(size, 1e-30):.2g}"
            )
    return None


class LowTrust(Trust):
    """``Trust`` with the bound of this module; only outputs are compared, for there are no gradients."""

    def _outputs(self, network: AnyNetwork, ready: Ready, x: Tensor, gradients: bool) -> tuple[int, str, str | None]:
        passes = -(-len(x) // MOST_PICTURES)
        x = x[: min(len(x) // passes, pictures_compared(ready, len(x)))]  # the same choices as in the call's first pass
        model, torchs = network.memory.model, in_torch(network, network.memory.model)
        run = network if isinstance(network, MixedNetwork) else native(network, 0)
        own = answers(run, model, x, False)
        mode = Rounded(_calls(network, ready, rounded_layers(network, len(x))))
        count = mode.left
        rounded = answers(torchs, model, x, False, lambda: mode)
        exact = answers(torchs, model, x, False)
        what = f"outputs, {count} layers in {network.low.precision if network.low else 'float32'}"
        if mode.left:
            return len(x), what, f"{mode.left} layers in low precision are none that torch calls by their weights"
        outputs = [name for name in exact if name.startswith("output")]
        found = difference(*([each[name] for name in outputs] for each in (own, rounded, exact)))
        return len(x), what, found


def rounded_layers(network: AnyNetwork, pictures: int) -> set[str]:
    """Names of the layers, with those that they took in, that so many pictures, at most 16 and met before, are
    multiplied in low precision by."""
    networks = network.ready().networks.values() if isinstance(network, MixedNetwork) else [network]
    names: set[str] = set()
    for each in networks:
        for fused in each.ready().network.low_layers(pictures, each.used_threads()):
            names |= set(fused.split("+"))
    return names


def rounding_report(network: AnyNetwork, low: LowPrecision, pictures: int) -> str:
    """Which layers are in low precision and why, for so many pictures."""
    count = pictures // -(-pictures // MOST_PICTURES)
    networks = network.ready().networks.values() if isinstance(network, MixedNetwork) else [network]
    lines = [f"precision {low.precision}, layer by layer, for {count} pictures at once:"]
    return "\n".join(lines + [each.describe(count).rstrip() for each in networks])


def _calls(network: AnyNetwork, ready: Ready, names: set[str]) -> dict[int, list[Rounding | None]]:
    """By weight, how each of its calls rounds."""
    low = network.low
    assert low is not None
    calls: dict[int, list[Rounding | None]] = {}
    for plan in plans_of(ready):
        for record in plan.records:
            held = network.memory.slices.get(record.parameters.get("weight", ""))
            if record.kind not in ("conv2d", "linear"):
                continue
            rounding = Rounding(low.precision, low.quantised.get(record.name, (1.0, 0.0)))
            key = 0 if held is None else id(held.parameter)
            calls.setdefault(key, []).append(rounding if record.name in names else None)
    return calls
