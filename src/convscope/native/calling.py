"""A network of the engine called inside a torch program: one node of autograd's graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from convscope.native.network import Compiled, NativeNetwork


def call(network: NativeNetwork, x: torch.Tensor) -> tuple[Compiled, Sequence[torch.Tensor]]:
    """(what ran, its outputs) for images, float32 (n, c, h, w), or uint8 as the network says; with gradients to ``x``
    and the parameters where autograd wants them."""
    compiled = network.ready()
    seed = draw_seed() if compiled.plan.training else 0
    if torch.is_grad_enabled():
        trained = [network.memory.slices[name] for name in compiled.trained]
        if trained or x.requires_grad:
            parameters = [each.parameter for each in trained]
            return compiled, _Run.apply(_Call(network, compiled, seed), x, *parameters)  # type: ignore[no-untyped-call]
    return compiled, network.run(compiled, x, seed, 0)


def draw_seed() -> int:
    """For the engine's dropout, from torch's generator."""
    return int(torch.randint(1 << 62, ()))


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
