"""A network of the engine called inside a torch program: one node of autograd's graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from convscope.errors import ConvscopeError
from convscope.graph import structure
from convscope.native.network import Compiled, NativeNetwork

_EXCHANGED = (
    "parameters or other tensors of the model were given other numbers (p.data = …) between its forward and its "
    "backward pass; the engine has not kept those before"
)
_SECOND = "no second derivatives (create_graph=True)"


def call(
    network: NativeNetwork, x: torch.Tensor, compiled: Compiled | None = None, seed: int | None = None
) -> tuple[Compiled, Sequence[torch.Tensor]]:
    """(what ran, its outputs) for images, float32 (n, c, h, w), or uint8 as the network says; with gradients to ``x``
    and the parameters where autograd wants them. ``compiled``: what ``network.ready()`` has just said. ``seed`` decides
    what is dropped; None draws it."""
    compiled = network.ready() if compiled is None else compiled
    if seed is None:
        seed = draw_seed() if compiled.plan.training else 0
    if torch.is_grad_enabled():
        trained = [network.memory.slices[name] for name in compiled.trained]
        if trained or x.requires_grad:
            parameters = [each.parameter for each in trained]
            now = _Call(network, compiled, seed, network.memory.exchanges, _numbers(compiled))
            return compiled, _Run.apply(now, x, *parameters)  # type: ignore[no-untyped-call]
    return compiled, network.run(compiled, x, seed, 0)


def transformed() -> bool:
    """Whether a transform of ``torch.func`` is under way, or derivatives forwards: what the engine, one node of
    autograd's graph, has no part in."""
    return torch._C._functorch.peek_interpreter_stack() is not None or torch.autograd.forward_ad._current_level >= 0


def draw_seed() -> int:
    """For the engine's dropout, from torch's generator."""
    return int(torch.randint(1 << 62, ()))


@dataclasses.dataclass(frozen=True)
class _Call:
    """One forward pass: what its backward pass needs beside tensors."""

    network: NativeNetwork
    compiled: Compiled
    seed: int
    exchanges: int  # the memory's, until then
    numbers: list[torch.Tensor]  # tensors of the model that are neither parameters nor buffers


def _numbers(compiled: Compiled) -> list[torch.Tensor]:
    """What the plan's constants are now, where they may become others."""
    return [each.value().clone() for each in compiled.plan.constants if not each.fixed]


class _Run(torch.autograd.Function):
    """The whole network as one node of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, call: _Call, x: torch.Tensor, *parameters: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.call = call
        # so that torch notices changes in place before the backward pass
        ctx.save_for_backward(x, *parameters, *call.network.memory.tensors(call.compiled.constant))
        return tuple(call.network.run(call.compiled, x, call.seed, 0))

    @staticmethod
    def backward(ctx: Any, *deltas: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        call: _Call = ctx.call
        x, *saved = ctx.saved_tensors
        parameters = saved[: len(call.compiled.trained)]
        if torch.is_grad_enabled():  # create_graph=True: the gradients are to be differentiated in turn
            return None, *_by_torch(call, x, parameters, deltas, ctx.needs_input_grad[1])
        if len(x) == 0:
            return None, torch.zeros_like(x), *map(torch.zeros_like, parameters)
        x_delta = torch.empty(x.shape) if ctx.needs_input_grad[1] else None
        gradients = call.network.run_backward(call.compiled, x, deltas, call.seed, 0, x_delta)
        exchanged = call.network.memory.exchanges != call.exchanges  # which it has looked at, to read them
        if exchanged or not all(map(torch.equal, _numbers(call.compiled), call.numbers)):
            raise ConvscopeError(_EXCHANGED)
        return None, x_delta, *gradients


def _by_torch(
    call: _Call, x: torch.Tensor, parameters: Sequence[torch.Tensor], deltas: Sequence[torch.Tensor], to_x: bool
) -> Sequence[torch.Tensor | None]:
    """∂J/∂x and ∂J/∂w with a history of their own: the model is run once more, in torch.

    Raises ConvscopeError where torch cannot repeat what the engine did: a segment of a model, chance, other modes.
    """
    network = call.network
    if network.whole is None or x.dtype is not torch.float32:
        raise ConvscopeError(f"{_SECOND} of a model that is not native as a whole")
    if network.ready() is not call.compiled or network.memory.exchanges != call.exchanges:
        raise ConvscopeError(
            "second derivatives (create_graph=True) of a model that has changed since its forward pass"
        )
    state = {name: each.clone() for name, each in network.whole.named_buffers()}
    chance = torch.get_rng_state()
    result = torch.func.functional_call(
        network.whole, {**state, **dict(zip(call.compiled.trained, parameters, strict=True))}, (x,)
    )
    if not torch.equal(chance, torch.get_rng_state()):
        torch.set_rng_state(chance)
        raise ConvscopeError(f"{_SECOND} of a model that draws chance, as dropout does")
    pairs = zip(structure.leaves(call.compiled.plan.structure), structure.leaves(result), strict=True)
    outputs = {place: each for place, each in pairs if isinstance(each, torch.Tensor)}
    wanted = [x, *parameters] if to_x else list(parameters)
    asked = [(outputs[place], delta) for place, delta in enumerate(deltas) if outputs[place].requires_grad]
    ys, seeds = zip(*asked, strict=True)
    found = torch.autograd.grad(ys, wanted, seeds, create_graph=True, allow_unused=True)
    return found if to_x else (None, *found)
