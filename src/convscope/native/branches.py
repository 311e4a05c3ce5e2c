"""Torch along an engine's own way: at kinks it goes back as the plan went.

A rectifier's unit, or two candidates of a maximum, within rounding of a kink may go either way, and both are right. A
plan's own numbers say which way it went; torch's gradients along the same way differ from the plan's by rounding alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from convscope.lowering.plan import Record
from convscope.native.network import NativeNetwork

_KINKED = frozenset((
    "abs", "adaptive_max_pool1d", "adaptive_max_pool2d", "amax", "amin", "celu", "clamp", "clamp_max", "clamp_min",
    "elu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "max_pool1d", "max_pool2d", "relu",
    "relu6", "selu", "softshrink", "threshold",
))  # fmt: skip
_MAXIMA = frozenset(("adaptive_max_pool1d", "adaptive_max_pool2d", "amax", "max_pool1d", "max_pool2d"))
# They rise everywhere, but so slowly in places that other numbers become the same: which of them is the largest the
# engine sees before, where it takes the maximum first (``engine/ops/convolution.cpp``).
_RISING = frozenset(("sigmoid", "tanh", "scaled_tanh", "softplus"))
_CLOSE = 1e-3  # parts of a tensor's length by which the plan's and torch's may differ and be the same place still


def every_value(network: NativeNetwork, x: Tensor, seed: int, records: Sequence[Record] | None = None) -> list[Tensor]:
    """What the plan's ``records`` (None: all but losses) put out for images, (n, c, h, w) each; nothing is changed."""
    plan, memory = network.ready().plan, network.memory
    if records is None:
        records = whole_records(network)
    engine = network.engine.Network(
        input_shape=network.input_shape,
        records=[each for each in memory.bind(plan) if each.get("output") is not None],
        outputs=[record.output for record in records],
        parameter_count=len(memory.flat.memory),
        state_count=len(memory.state),
        layout="images",  # as in passes with gradients, so that what comes out is theirs to the bit
    )
    memory.check()
    results = [
        torch.empty(len(x), *record.shape, dtype=torch.float32) for record in records if record.shape is not None
    ]
    network.run_on(engine, plan, x, results, seed)
    memory.check()
    return results


def whole_records(network: NativeNetwork) -> list[Record]:
    """The records of the plan that put out something."""
    return [each for each in network.ready().plan.records if each.output is not None and each.shape is not None]


def before_rising(network: NativeNetwork) -> dict[int, int]:
    """For what rising functions put out, by its place among ``whole_records``, that of what they took."""
    records = whole_records(network)
    places = {record.output: place for place, record in enumerate(records)}
    return {
        place: places[record.inputs[0]]
        for place, record in enumerate(records)
        if record.kind in _RISING and record.inputs[0] in places
    }


class Along(TorchFunctionMode):
    """While entered, functions with kinks go back as if their input had been the plan's own, one of ``values``, where
    one is that input but for rounding.

    ``ordered``: for places of ``values`` those of others of the same order, by which maxima of them are told.
    """

    def __init__(self, values: Sequence[Tensor], ordered: Mapping[int, int] | None = None) -> None:
        super().__init__()
        self._values = values
        self._ordered = ordered or {}
        self._next = 0  # after the last that was met: a model meets them in the plan's order

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name.removesuffix("_") not in _KINKED or name.startswith("__") or not torch.is_grad_enabled():
            return function(*args, **kwargs)
        u = args[0] if args else kwargs.get("input")
        if not isinstance(u, Tensor) or not args or not u.requires_grad:  # whole numbers, as of places, never do
            return function(*args, **kwargs)
        own = self._own(u, name.removesuffix("_") in _MAXIMA)
        if own is None or any(isinstance(each, Tensor) for each in args[1:]):
            return function(*args, **kwargs)
        in_place = name.endswith("_") or bool(kwargs.get("inplace"))
        call = functools.partial(
            _again, function, args[1:], {**kwargs, "inplace": False} if "inplace" in kwargs else kwargs
        )
        with torch.no_grad():
            y = call(u.detach().clone())
        if not isinstance(y, Tensor):
            return function(*args, **kwargs)
        result = _Way.apply(u.clone() if in_place else u, own, y, call)  # type: ignore[no-untyped-call]
        return u.copy_(result) if in_place else result

    def _own(self, u: Tensor, for_maxima: bool) -> Tensor | None:
        """The plan's tensor in the place of ``u``, or one of its order where that is enough."""
        count = len(self._values)
        size = float(torch.linalg.vector_norm(u.detach()))
        for step in range(count):
            place = (self._next + step) % count
            value = self._values[place]
            if value.numel() != u.numel() or value.dtype != u.dtype:
                continue
            value = value.reshape(u.shape)
            if float(torch.linalg.vector_norm(value - u.detach())) <= _CLOSE * size:
                self._next = place + 1
                return self._values[self._ordered.get(place, place)].reshape(u.shape) if for_maxima else value
        return None


def _again(function: Callable[..., Any], more: tuple[Any, ...], keywords: dict[str, Any], u: Tensor) -> Any:
    return function(u, *more, **keywords)


class _Way(torch.autograd.Function):
    """The value of a function, and its way back from another input."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, own: Tensor, y: Tensor, call: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.own, ctx.call = own, call
        return y

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None, None, None]:
        with torch.enable_grad():
            leaf = ctx.own.detach().clone().requires_grad_()
            # One number's gradient, which is exactly δ's way back: given δ itself, torch imports sympy for 0.6 s.
            (found,) = torch.autograd.grad((ctx.call(leaf.clone()) * delta).sum(), leaf)
        return found, None, None, None
