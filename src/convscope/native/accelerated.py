"""A drop-in module whose forward and backward run on the native engine inside any torch program."""

from __future__ import annotations

import collections
import copy
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.errors import ArgumentError, LoweringError
from convscope.graph import structure
from convscope.graph.heap import give_back
from convscope.layers import Loss
from convscope.lowering.lower import lower, restore
from convscope.lowering.segments import cut
from convscope.native import availability
from convscope.native.calling import call, draw_seed, transformed
from convscope.native.low_trust import LowTrust, rounding_report
from convscope.native.lowprecision import (
    anchor,
    calibrate,
    checked_calibration,
    checked_precision,
    low_precision,
    refusal,
    refuse_not_finite,
    refusing,
)
from convscope.native.memory import SharedMemory
from convscope.native.mixed import Mixed, MixedNetwork, loss_and_grad, value_of
from convscope.native.network import Compiled, LowPrecision, NativeNetwork
from convscope.native.trust import AnyNetwork, Trust, Verdict, in_torch, plans_of

KEPT_SHAPES = 8  # image shapes whose networks are kept; the one unused for longest goes first


def accelerate(
    model: nn.Module,
    loss: str | Loss | nn.Module | None = None,
    *,
    check: bool | None = None,
    precision: str | None = None,
    calibration: torch.Tensor | None = None,
) -> Accelerated:
    """``model`` as a module that computes on the native CPU engine.

    It has the model's own parameters, buffers and state-dict keys, and works with any torch optimiser, with autograd
    to the parameters and to the input, in training and evaluation mode. Layers that the engine has not run in torch,
    between segments that are native (``report()`` says which and why). ``loss`` (default cross-entropy) is what
    ``loss_and_grad`` minimises. Images of a new shape make a new network.

    ``check``: the first call of every plan (for each mode, picture size and precision) is compared with torch on its
    own batch; where it differs by more than rounding, a DiffersFromTorchWarning names the layer and torch is used from
    then on. ``report()`` tells the outcome and what it cost. None: unless a ``native.checking(False)`` is around.

    ``precision``: "bf16" or "int8" for answers alone, of a model in evaluation mode: convolutions and linear layers are
    multiplied in that where it was measured to be quicker, on the processor's own units for it; ``report()`` says which
    and why. The rest, and every sum, is float32. Gradients, and training mode, are refused. "int8" wants
    ``calibration``, pictures like those to come, (n, c, h, w), on which the range of every layer's input is found. What
    the check allows then is derived in ``native.low_trust``.

    Raises EngineUnavailableError where the engine is not built, ArgumentError for parameters that are not float32 on
    the CPU and for a precision that the processor does not have, saying what it lacks, and LoweringError naming the
    layer that is in the way where the engine can run nothing of any weight: now, where the model knows its input shape,
    else at the first call.
    """
    availability.engine()
    precision = checked_precision(precision, calibration)
    accelerated = Accelerated(model, loss, check)
    if precision is not None:
        accelerated._networks.lower_precision(precision, calibration)
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
        if transformed() and self._networks.low is None:
            return self.model(x)
        network, trust = self._networks.find(x)
        if self._networks.low is not None:
            return self._in_low_precision(self._networks.low.precision, network, trust, x)
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

    def _in_low_precision(self, precision: str, network: AnyNetwork, trust: Trust, x: torch.Tensor) -> Any:
        if precision == "int8":
            refuse_not_finite("x", x)
        with torch.no_grad():
            ready = network.ready()
            if self.training or self.model.training or any(plan.training for plan in plans_of(ready)):
                raise refusal(precision, "training mode")
            refused = network.memory.lent or trust.difference is not None
            trusted = None if refused else trust.forward(network, ready, x)
            if trusted is None:
                result = in_torch(network, self.model)(x)
            elif isinstance(network, MixedNetwork):
                assert isinstance(trusted, Mixed)
                result = network(x, trusted)
            else:
                assert isinstance(trusted, Compiled)
                compiled, outputs = call(network, x, trusted)
                result = restore(compiled.plan.structure, outputs)
        root = anchor(self.model, x)
        if root is None:
            return result
        return structure.transform(result, functools.partial(refusing, precision, root))

    def loss_and_grad(self, x: torch.Tensor, targets: torch.Tensor, seed: int | None = None) -> torch.Tensor:
        """The loss as a scalar tensor, with ``.grad`` of every trained parameter **overwritten** by ∂J/∂w.

        Quicker than ``forward`` and ``backward``, for one pass does both where all layers are native. ``x`` float32
        (n, c, h, w), or uint8 where the model carries its preprocessing; ``targets`` class indices (n,) or numbers as
        the loss takes them. ``seed`` decides what dropout drops; None draws it from torch's generator.
        """
        if self._networks.low is not None:
            raise refusal(self._networks.low.precision, "loss_and_grad")
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

    def __init__(
        self,
        model: nn.Module,
        loss: str | Loss | nn.Module,
        trusted: bool | None = None,
        low: LowPrecision | None = None,
    ) -> None:
        self.model, self.loss, self.trusted = model, loss, trusted
        self.low = low
        self._pictures: dict[tuple[object, ...], int] = {}  # of the latest call
        self._memory: SharedMemory | None = None
        self._kept: collections.OrderedDict[tuple[object, ...], tuple[AnyNetwork, Trust]] = collections.OrderedDict()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Networks:
        return _Networks(copy.deepcopy(self.model, memo), copy.deepcopy(self.loss, memo), self.trusted, self.low)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Networks, (self.model, self.loss, self.trusted, self.low)

    def lower_precision(self, precision: str, calibration: torch.Tensor | None) -> None:
        """Let later networks answer in ``precision``, with ranges found on the pictures of ``calibration``."""
        if any(module.training for module in self.model.modules()):
            raise ArgumentError(
                "model",
                "in training mode",
                "one in evaluation mode, for low precision only answers",
                "Call model.eval() first.",
            )
        seen: list[tuple[NativeNetwork, torch.Tensor]] = []
        if calibration is not None:
            network, _ = _Networks(self.model, self.loss, False).find(checked_calibration(calibration))
            if isinstance(network, MixedNetwork):
                with torch.no_grad():
                    network(calibration, seen=lambda one, given: seen.append((one, given)))
            else:
                seen.append((network, calibration))
        self.low = low_precision(precision, calibrate(seen))

    def find(self, x: torch.Tensor, with_loss: bool = False) -> tuple[AnyNetwork, Trust]:
        """The network for images like ``x``, and what is known of it beside torch."""
        if not isinstance(x, torch.Tensor) or x.is_nested or x.ndim != 4:
            plain = isinstance(x, torch.Tensor) and not x.is_nested
            got = tuple(x.shape) if plain else "a nested tensor" if isinstance(x, torch.Tensor) else type(x).__name__
            raise ArgumentError("x", got, "a tensor of images, (n, c, h, w)")
        key = (with_loss, *x.shape[1:])
        found = self._kept.get(key)
        if found is None:
            trust = Trust(self.trusted) if self.low is None else LowTrust(self.trusted)
            found = self._make((x.shape[1], x.shape[2], x.shape[3]), with_loss), trust
            give_back()
            self._kept[key] = found
            if len(self._kept) > KEPT_SHAPES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        self._pictures[key] = max(len(x), 1)
        return found

    def _make(self, shape: tuple[int, int, int], with_loss: bool) -> AnyNetwork:
        described = spec.spec_of(self.model)
        preprocessing = None if described is None else described.preprocessing
        if self._memory is None:
            self._memory = SharedMemory(self.model)
        try:
            loss = self.loss if with_loss else None
            return NativeNetwork(
                self.model, shape, loss, preprocessing=preprocessing, memory=self._memory, low=self.low
            )
        except LoweringError as problem:
            if problem.layer == "loss":
                raise
        return MixedNetwork(self.model, shape, self._memory, preprocessing, low=self.low)

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
            if self.low is not None and trust.difference is None:
                where += "\n" + rounding_report(network, self.low, self._pictures[with_loss, *shape])
            blocks.append(f"pictures of {size}\n{where}\n{trust.report()}")
        return "\n\n".join(blocks)
