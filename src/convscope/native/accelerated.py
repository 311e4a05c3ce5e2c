"""A drop-in module whose forward and backward run on the native engine inside any torch program."""

from __future__ import annotations

import collections
import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.errors import ArgumentError, LoweringError
from convscope.layers import Loss
from convscope.lowering.lower import lower, restore
from convscope.lowering.segments import cut
from convscope.native import availability
from convscope.native.calling import call, draw_seed
from convscope.native.memory import SharedMemory
from convscope.native.mixed import Mixed, MixedNetwork, loss_and_grad, value_of
from convscope.native.network import Compiled, NativeNetwork
from convscope.native.trust import AnyNetwork, Trust, Verdict, in_torch

KEPT_SHAPES = 8  # image shapes whose networks are kept; the one unused for longest goes first


def accelerate(
    model: nn.Module, loss: str | Loss | nn.Module | None = None, *, check: bool | None = None
) -> Accelerated:
    """``model`` as a module that computes on the native CPU engine.

    It has the model's own parameters, buffers and state-dict keys, and works with any torch optimiser, with autograd
    to the parameters and to the input, in training and evaluation mode. Layers that the engine has not run in torch,
    between segments that are native (``report()`` says which and why). ``loss`` (default cross-entropy) is what
    ``loss_and_grad`` minimises. Images of a new shape make a new network.

    ``check``: the first call of every plan (for each mode, picture size and precision) is compared with torch on its
    own batch; where it differs by more than rounding, a DiffersFromTorchWarning names the layer and torch is used from
    then on. ``report()`` tells the outcome and what it cost. None: unless a ``native.checking(False)`` is around.

    Raises EngineUnavailableError where the engine is not built, ArgumentError for parameters that are not float32 on
    the CPU, and LoweringError naming the layer that is in the way where the engine can run nothing of any weight: now,
    where the model knows its input shape, else at the first call.
    """
    availability.engine()
    accelerated = Accelerated(model, loss, check)
    described = spec.spec_of(model)
    if described is not None and len(described.input_shape) == 3:
        # the usual loss is a classifier's: of a model for something else only its outputs were asked for
        accelerated._networks.check(described.input_shape, loss is not None or described.task == "classification")
    return accelerated


class Accelerated(nn.Module):
    """What ``accelerate`` returns; ``model`` is the module as it was."""

    def __init__(self, model: nn.Module, loss: str | Loss | nn.Module | None = None, check: bool | None = None) -> None:
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
        self.__dict__["_networks"] = _Networks(model, "cross_entropy" if loss is None else loss, check)
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

    def forward(self, x: torch.Tensor, *more: Any, **named: Any) -> Any:
        if more or named:
            got = ", ".join([f"{1 + len(more)} in order", *named])
            wanted = "one tensor of images, (n, c, h, w)"
            raise ArgumentError("inputs", got, wanted, "Call the model itself, without accelerate, on several inputs.")
        network, trust = self._networks.find(x)
        if trust.difference is not None:
            return in_torch(network, self.model)(x)
        ready = network.ready()
        trusted = None if network.memory.lent else trust.forward(network, ready, x)
        if trusted is None:
            return in_torch(network, self.model)(x)
        if isinstance(network, MixedNetwork):
            assert isinstance(trusted, Mixed)
            return network(x, trusted)
        assert isinstance(trusted, Compiled)
        compiled, outputs = call(network, x, trusted)
        return restore(compiled.plan.structure, outputs)

    def loss_and_grad(self, x: torch.Tensor, targets: torch.Tensor, seed: int | None = None) -> torch.Tensor:
        """The loss as a scalar tensor, with ``.grad`` of every trained parameter **overwritten** by ∂J/∂w.

        Quicker than ``forward`` and ``backward``, for one pass does both where all layers are native. ``x`` float32
        (n, c, h, w), or uint8 where the model carries its preprocessing; ``targets`` class indices (n,) or numbers as
        the loss takes them. ``seed`` decides what dropout drops; None draws it from torch's generator.
        """
        network, trust = self._networks.find(x, with_loss=True)
        loss = self._networks.loss
        if isinstance(network, MixedNetwork):
            with torch.enable_grad():
                trusted = trust.forward(network, network.ready(), x)
            run = network if trusted is not None else in_torch(network, self.model)
            return loss_and_grad(run, network.memory, x, targets, loss, seed)
        if trust.difference is None:
            ready = network.ready()
            own_seed = (draw_seed() if ready.plan.training else 0) if seed is None else seed
            trusted = trust.loss(network, ready, x, targets, own_seed, value_of(loss, self.model))
            if trusted is not None:
                return torch.tensor(network.loss_and_grad(x, targets, own_seed, compiled=trusted)[0])
        return loss_and_grad(in_torch(network, self.model), network.memory, x, targets, loss, seed)

    def report(self) -> str:
        """For each picture size met so far: what runs on the native engine, what in torch, and why; and what came of
        comparing the first calls with torch, at what cost."""
        text: str = self._networks.describe()
        return text

    def verdicts(self) -> list[Verdict]:
        """What came of each comparison with torch so far."""
        return [verdict for _, trust in self._networks.kept() for verdict in trust.verdicts]

    def extra_repr(self) -> str:
        return "on the native engine"


class _Networks:
    """The networks for the latest image shapes. A copy of an accelerated module starts with none."""

    def __init__(self, model: nn.Module, loss: str | Loss | nn.Module, trusted: bool | None = None) -> None:
        self.model, self.loss, self.trusted = model, loss, trusted
        self._memory: SharedMemory | None = None
        self._kept: collections.OrderedDict[tuple[object, ...], tuple[AnyNetwork, Trust]] = collections.OrderedDict()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Networks:
        return _Networks(copy.deepcopy(self.model, memo), copy.deepcopy(self.loss, memo), self.trusted)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Networks, (self.model, self.loss, self.trusted)

    def find(self, x: torch.Tensor, with_loss: bool = False) -> tuple[AnyNetwork, Trust]:
        """The network for images like ``x``, and what is known of it beside torch."""
        if not isinstance(x, torch.Tensor) or x.ndim != 4:
            got = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise ArgumentError("x", got, "a tensor of images, (n, c, h, w)")
        key = (with_loss, *x.shape[1:])
        found = self._kept.get(key)
        if found is None:
            found = self._make((x.shape[1], x.shape[2], x.shape[3]), with_loss), Trust(self.trusted)
            self._kept[key] = found
            if len(self._kept) > KEPT_SHAPES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return found

    def _make(self, shape: tuple[int, int, int], with_loss: bool) -> AnyNetwork:
        described = spec.spec_of(self.model)
        preprocessing = None if described is None else described.preprocessing
        if self._memory is None:
            self._memory = SharedMemory(self.model)
        try:
            loss = self.loss if with_loss else None
            return NativeNetwork(self.model, shape, loss, preprocessing=preprocessing, memory=self._memory)
        except LoweringError as problem:
            if problem.layer == "loss":
                raise
        return MixedNetwork(self.model, shape, self._memory, preprocessing)

    def check(self, shape: Sequence[int], with_loss: bool = True) -> None:
        """LoweringError unless the engine can run all or part of the model on pictures of ``shape``, and, where that is
        wanted, its loss."""
        try:
            lower(self.model, shape, self.loss if with_loss else None)
        except LoweringError as problem:
            if problem.layer == "loss":
                raise
            cut(self.model, shape)

    def kept(self) -> list[tuple[AnyNetwork, Trust]]:
        return list(self._kept.values())

    def describe(self) -> str:
        """What runs where, for each network."""
        if not self._kept:
            return "no pictures have come yet"
        blocks = []
        for (with_loss, *shape), (network, trust) in self._kept.items():
            size = "×".join(map(str, shape)) + (", with the loss" if with_loss else "")
            where = network.describe() if isinstance(network, MixedNetwork) else "native: every layer"
            if trust.difference is not None:
                where = "torch: every layer"
            blocks.append(f"pictures of {size}\n{where}\n{trust.report()}")
        return "\n\n".join(blocks)
