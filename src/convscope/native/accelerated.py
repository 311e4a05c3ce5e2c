"""A drop-in module whose forward and backward run on the native engine inside any torch program."""

from __future__ import annotations

import collections
import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from convscope import spec
from convscope.errors import ArgumentError
from convscope.layers import Loss
from convscope.lowering.lower import lower, restore
from convscope.native import availability
from convscope.native.memory import SharedMemory
from convscope.native.network import Compiled, NativeNetwork

KEPT_SHAPES = 8  # image shapes whose networks are kept; the one unused for longest goes first


def accelerate(model: nn.Module, loss: str | Loss | nn.Module | None = None) -> Accelerated:
    """``model`` as a module that computes on the native CPU engine.

    It has the model's own parameters, buffers and state-dict keys, and works with any torch optimiser, with autograd
    to the parameters and to the input, in training and evaluation mode; only the hooks inside are not called.
    ``loss`` (default cross-entropy) is what ``loss_and_grad`` minimises. Images of a new shape make a new network.

    Raises EngineUnavailableError where the engine is not built, ArgumentError for parameters that are not float32 on
    the CPU, and LoweringError naming the layer that the engine cannot run: now, where the model knows its input shape,
    else at the first call.
    """
    availability.engine()
    accelerated = Accelerated(model, loss)
    described = spec.spec_of(model)
    if described is not None and len(described.input_shape) == 3:
        lower(model, described.input_shape, loss)
    return accelerated


class Accelerated(nn.Module):
    """What ``accelerate`` returns; ``model`` is the module as it was."""

    def __init__(self, model: nn.Module, loss: str | Loss | nn.Module | None = None) -> None:
        super().__init__()
        if isinstance(model, Accelerated):
            model = model.model
        # The model's own dictionaries: what is added, replaced or moved here happens there.
        self.__dict__["_parameters"] = model._parameters
        self.__dict__["_buffers"] = model._buffers
        self.__dict__["_non_persistent_buffers_set"] = model._non_persistent_buffers_set
        self.__dict__["_modules"] = model._modules
        self.__dict__["model"] = model
        self.__dict__["training"] = model.training
        self.__dict__["_networks"] = _Networks(model, "cross_entropy" if loss is None else loss)
        described = spec.spec_of(model)
        if described is not None:
            spec.attach(self, described)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["model"], name)

    def train(self, mode: bool = True) -> Accelerated:
        super().train(mode)
        self.model.training = mode
        return self

    def forward(self, x: torch.Tensor) -> Any:
        network = self._networks.find(x)
        compiled = network.ready()
        if network.memory.lent:
            return self.model(x)
        plan = compiled.plan
        seed = _draw_seed() if plan.training else 0
        if torch.is_grad_enabled():
            trained = [network.memory.slices[name] for name in compiled.trained]
            if trained or x.requires_grad:
                call = _Call(network, compiled, seed)
                return restore(plan.structure, _Run.apply(call, x, *(each.parameter for each in trained)))  # type: ignore[no-untyped-call]
        return restore(plan.structure, network.run(compiled, x, seed, 0))

    def loss_and_grad(self, x: torch.Tensor, targets: torch.Tensor, seed: int | None = None) -> torch.Tensor:
        """The loss as a scalar tensor, with ``.grad`` of every trained parameter **overwritten** by ∂J/∂w.

        Quicker than ``forward`` and ``backward``, for one pass does both. ``x`` float32 (n, c, h, w), or uint8 where
        the model carries its preprocessing; ``targets`` class indices (n,) or numbers as the loss takes them.
        ``seed`` decides what dropout drops; None draws it from torch's generator.
        """
        network = self._networks.find(x, with_loss=True)
        if seed is None:
            seed = _draw_seed() if network.ready().plan.training else 0
        return torch.tensor(network.loss_and_grad(x, targets, seed)[0])

    def extra_repr(self) -> str:
        return "on the native engine"


class _Networks:
    """The networks for the latest image shapes. A copy of an accelerated module starts with none."""

    def __init__(self, model: nn.Module, loss: str | Loss | nn.Module) -> None:
        self.model, self.loss = model, loss
        self._memory: SharedMemory | None = None
        self._kept: collections.OrderedDict[tuple[object, ...], NativeNetwork] = collections.OrderedDict()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Networks:
        return _Networks(copy.deepcopy(self.model, memo), copy.deepcopy(self.loss, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return _Networks, (self.model, self.loss)

    def find(self, x: torch.Tensor, with_loss: bool = False) -> NativeNetwork:
        """The network for images like ``x``."""
        if not isinstance(x, torch.Tensor) or x.ndim != 4:
            got = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise ArgumentError("x", got, "a tensor of images, (n, c, h, w)")
        key = (with_loss, *x.shape[1:])
        network = self._kept.get(key)
        if network is None:
            network = self._make(x.shape[1:], with_loss)
            self._kept[key] = network
            if len(self._kept) > KEPT_SHAPES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return network

    def _make(self, shape: Sequence[int], with_loss: bool) -> NativeNetwork:
        described = spec.spec_of(self.model)
        if self._memory is None:
            self._memory = SharedMemory(self.model)
        return NativeNetwork(
            self.model,
            tuple(shape),
            self.loss if with_loss else None,
            preprocessing=None if described is None else described.preprocessing,
            memory=self._memory,
        )


@dataclasses.dataclass(frozen=True)
class _Call:
    """One forward pass: what its backward pass needs beside tensors."""

    network: NativeNetwork
    compiled: Compiled
    seed: int


class _Run(torch.autograd.Function):
    """The whole network as one node of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, call: _Call, x: torch.Tensor, *parameters: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.call = call
        ctx.save_for_backward(x, *parameters)  # so that torch notices changes in place before the backward pass
        return tuple(call.network.run(call.compiled, x, call.seed, 0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *deltas: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        call: _Call = ctx.call
        x, *parameters = ctx.saved_tensors
        if len(x) == 0:
            return None, torch.zeros_like(x), *map(torch.zeros_like, parameters)
        x_delta = torch.empty(x.shape) if ctx.needs_input_grad[1] else None
        gradients = call.network.run_backward(call.compiled, x, deltas, call.seed, 0, x_delta)
        return None, x_delta, *gradients


def _draw_seed() -> int:
    return int(torch.randint(1 << 62, ()))
