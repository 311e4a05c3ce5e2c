"""The buffers that a model and the engine share: parameters, gradients and state (running statistics, fixed codes)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from convscope.errors import ArgumentError
from convscope.layers.flat import FlatParameters, Slice
from convscope.lowering.plan import Plan


@dataclasses.dataclass(frozen=True)
class _Buffer:
    """A float32 buffer of the model as part of the state."""

    name: str
    buffer: torch.Tensor
    start: int


class SharedMemory:
    """One flat buffer each for the parameters, gradients and state of ``model``, of which its own tensors are views.

    Whatever torch does in place (optimisers, ``load_state_dict``) the engine sees. Where a tensor of the model was
    replaced or moved, ``check`` puts it back. ``version`` goes up when places have changed, ``structure`` when the
    model has other layers or parameters than before, so that plans made of it are out of date.

    Raises ArgumentError for parameters that are not float32 on the CPU.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.version = 0
        self.structure = 0
        self._constants = 0
        self._scratch = 0
        self._filled: object = None
        self._build()

    def _build(self) -> None:
        _check_types(self.model)
        self.flat = FlatParameters(self.model, whole=True, contiguous=True, reserve=self._constants)
        self.places = {each.name: each.start for each in (*self.flat.slices, *self.flat.frozen)}
        self.slices: dict[str, Slice] = {each.name: each for each in (*self.flat.slices, *self.flat.frozen)}
        self._buffers, length = [], 0
        for name, buffer in _state(self.model):
            self._buffers.append(_Buffer(name, buffer, length))
            length += buffer.numel()
        self._own_state = length
        self.state = torch.zeros(length + self._scratch)
        self.state_places = {each.name: each.start for each in self._buffers}
        self._attach_state()
        self._note_owners()
        self._make_gradients()
        # The engine takes arrays; numpy's cross the border in 0.2 µs, torch's in 4 µs.
        self.arrays = (self.flat.memory.numpy(), self.flat.gradient_memory.numpy(), self.state.numpy())
        self._filled = None
        self.version += 1

    def _attach_state(self) -> None:
        for each in self._buffers:
            view = self.state[each.start : each.start + each.buffer.numel()].view(each.buffer.shape)
            view.copy_(each.buffer)
            each.buffer.data = view

    def _note_owners(self) -> None:
        """Who holds which tensor, and where it must lie: (owner's dictionary, attribute, tensor, address)."""
        first, state = self.flat.memory.data_ptr(), self.state.data_ptr()
        at = {id(each.parameter): first + 4 * each.start for each in self.slices.values()}
        at |= {id(each.buffer): state + 4 * each.start for each in self._buffers}
        self.modules = list(self.model.modules())
        self._owners: list[tuple[dict[str, Any], str, torch.Tensor, int]] = []
        self._others: list[tuple[dict[str, Any], str, object]] = []  # children, and parameters that are None
        for module in self.modules:
            for owner in (module._parameters, module._buffers, module._modules):
                for attribute, held in owner.items():
                    if id(held) in at and isinstance(held, torch.Tensor):
                        self._owners.append((owner, attribute, held, at[id(held)]))
                    else:
                        self._others.append((owner, attribute, held))

    def make_room(self, plan: Plan) -> None:
        """See to it that the plan's constants and own state fit behind the model's."""
        constants = sum(each.size for each in plan.constants)
        scratch = sum(plan.scratch.values())
        if constants > self._constants or scratch > self._scratch:
            self._constants, self._scratch = max(constants, self._constants), max(scratch, self._scratch)
            self._build()

    def bind(self, plan: Plan) -> list[dict[str, Any]]:
        """The plan's records with places in these buffers."""
        parameters, state = dict(self.places), dict(self.state_places)
        at = self.flat.reserved.start
        for constant in plan.constants:
            parameters[constant.name] = at
            at += constant.size
        at = self._own_state
        for name, size in plan.scratch.items():
            state[name] = at
            at += size
        return plan.bind(parameters, state)

    def check(self) -> None:
        """Make every tensor of the model a view of the buffers again where it no longer is one."""
        for owner, attribute, tensor, address in self._owners:
            if owner.get(attribute) is not tensor or tensor.data_ptr() != address:
                self._repair()
                return
        for owner, attribute, held in self._others:
            if owner.get(attribute) is not held:
                self._repair()
                return

    def _repair(self) -> None:
        places = (*self.flat.slices, *self.flat.frozen)
        now = dict(self.model.named_parameters())
        _check_types(self.model)
        same = [(each.name, each.parameter.shape) for each in places] == [
            (name, now[name].shape) for name in self.places if name in now
        ]
        buffers = _state(self.model)
        same = same and len(now) == len(places)
        same = same and [(each.name, each.buffer.shape) for each in self._buffers] == [(n, b.shape) for n, b in buffers]
        same = same and len(self.modules) == len(list(self.model.modules()))
        same = same and all(owner.get(attribute) is held for owner, attribute, held in self._others)
        if not same:
            self._build()
            self.structure += 1
            return
        # The buffers stay, for an optimiser may work on them.
        for held in (self.flat.slices, self.flat.frozen):
            held[:] = [dataclasses.replace(each, parameter=now[each.name]) for each in held]
        self.slices = {each.name: each for each in (*self.flat.slices, *self.flat.frozen)}
        self._buffers = [
            dataclasses.replace(each, buffer=buffer) for each, (_, buffer) in zip(self._buffers, buffers, strict=True)
        ]
        self.flat.attach_values()
        self._attach_state()
        self._make_gradients()
        self._note_owners()

    def _make_gradients(self) -> None:
        """Views of the gradient buffer; a gradient that a parameter has already moves there."""
        self._gradients = {
            name: self.flat.view(self.flat.gradient_memory, place) for name, place in self.slices.items()
        }
        for name, place in self.slices.items():
            if place.parameter.grad is not None:
                self._gradients[name].copy_(place.parameter.grad)
                place.parameter.grad = self._gradients[name]

    def fill_constants(self, plan: Plan) -> None:
        """Write the plan's constants, where another plan's stand or they may have changed."""
        fresh = self._filled is not plan
        at = self.flat.reserved.start
        for constant in plan.constants:
            if fresh or not constant.fixed:
                self.flat.memory[at : at + constant.size] = constant.value()
            at += constant.size
        self._filled = plan

    def attach_gradients(self, names: Iterable[str]) -> None:
        """Point ``.grad`` of these parameters into the gradient buffer."""
        for name in names:
            parameter, gradient = self.slices[name].parameter, self._gradients[name]
            if parameter.grad is not gradient:
                parameter.grad = gradient


def _state(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """The model's buffers of numbers; counters and tables are none."""
    return [(name, each) for name, each in model.named_buffers() if each.is_floating_point()]


def _check_types(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *_state(model)):
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise ArgumentError("model", f"{name}: {tensor.dtype} on {tensor.device}", "float32 on the CPU")
