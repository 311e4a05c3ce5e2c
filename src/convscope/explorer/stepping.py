"""One training step at a time: v ← μ·v + g + λ·w,  w ← w − η·v, with every number in between, and the way back.

The step is ``torch.optim.SGD``'s. The gradients are those of the trace on the page: the one input that is shown, the
model in evaluation mode (dropout off, batch normalisation by its running statistics).
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from convscope.errors import ArgumentError, UnknownNameError


@dataclasses.dataclass(frozen=True)
class Settings:
    """η, μ, λ of the step."""

    rate: float = 0.05
    momentum: float = 0.0
    decay: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("rate", 1e4), ("momentum", 1.0), ("decay", 1e4)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise ArgumentError(name, value, f"a number from 0 to {most:g}")


def with_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the modules that has other parameters, by name, over the same tensors for the rest. The model's own
    stay in their places, for other threads may read them meanwhile."""
    memo: dict[int, Any] = {id(each): each for each in (*model.parameters(), *model.buffers())}
    memo |= {
        id(each): nn.Parameter(tensors[name], each.requires_grad)
        for name, each in model.named_parameters(remove_duplicate=False)
        if name in tensors
    }
    return copy.deepcopy(model, memo)


class Stepper:
    """Holds what a step needs beside the gradients. Weights are copied at the first step, for ``rewind``."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.settings = Settings()
        self.steps = 0
        self._start: dict[str, Tensor] | None = None
        self.velocity: dict[str, Tensor] = {}
        self._hash: str | None = None

    def preview(self, gradients: Mapping[str, Tensor], name: str, index: tuple[int, ...]) -> dict[str, Any]:
        """The step of one weight, beat by beat: w, g, λ·w, μ·v, v, η·v, new w."""
        parameter = self._parameter(name)
        if len(index) != parameter.ndim or any(
            not 0 <= at < side for at, side in zip(index, parameter.shape, strict=True)
        ):
            raise ArgumentError("index", list(index), f"a place within {tuple(parameter.shape)}")
        gradient = gradients.get(name)
        w, g = float(parameter.detach()[index]), float(gradient[index]) if gradient is not None else 0.0
        before = float(self.velocity[name][index]) if name in self.velocity else 0.0
        decayed, carried = self.settings.decay * w, self.settings.momentum * before
        v = g + decayed + carried if gradient is not None else 0.0
        return {
            "parameter": name,
            "index": list(index),
            "w": w,
            "g": g,
            "decay_term": decayed,
            "momentum_term": carried,
            "v": v,
            "change": -self.settings.rate * v,
            "new_w": w - self.settings.rate * v,
            **dataclasses.asdict(self.settings),
        }

    @torch.no_grad()
    def remember(self) -> None:
        """Parameters and buffers as they are before the first step."""
        if self._start is None:
            held = (*self.model.named_parameters(), *self.model.named_buffers())
            self._start = {name: value.detach().clone() for name, value in held}

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """Change the weights; how far each parameter moved, in order."""
        self.remember()
        directions = self.descend(gradients)
        return [
            {
                "parameter": name,
                "gradient": float(gradients[name].norm()),
                "weight": float(parameter.norm()),
                "change": self.settings.rate * float(directions[name].norm()),
            }
            for name, parameter in self.model.named_parameters()
            if name in directions
        ]

    @torch.no_grad()
    def descend(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Change the weights; the directions v that were taken."""
        directions = {}
        for name, parameter in self.model.named_parameters():
            if name in gradients:
                directions[name] = self._direction(name, parameter, gradients[name])
                parameter.add_(directions[name], alpha=-self.settings.rate)
        if self.settings.momentum:
            self.velocity.update(directions)
        self.steps += 1
        self._hash = None
        return directions

    def go_on(self, velocity: Mapping[str, Tensor], steps: int) -> None:
        """The weights are those of another stepper after ``steps``: so are its directions."""
        self.velocity = dict(velocity)
        self.steps = steps
        self._hash = None

    @torch.no_grad()
    def foreseen(self, gradients: Mapping[str, Tensor]) -> nn.Module:
        """The model as it would be after a step, which is not made."""
        changed = {
            name: parameter - self.settings.rate * self._direction(name, parameter, gradients[name])
            for name, parameter in self.model.named_parameters()
            if name in gradients
        }
        return with_tensors(self.model, changed)

    @torch.no_grad()
    def rewind(self) -> None:
        """The weights as they were before the first step, bit for bit; momentum is forgotten."""
        if self._start is not None:
            for name, value in (*self.model.named_parameters(), *self.model.named_buffers()):
                value.copy_(self._start[name])
        self.velocity.clear()
        self.steps = 0
        self._hash = None

    def weight_hash(self) -> str:
        """Twelve hexadecimal digits of all parameters' bytes (BLAKE2b)."""
        if self._hash is None:
            digest = hashlib.blake2b(digest_size=6)
            for name, parameter in self.model.named_parameters():
                digest.update(name.encode())
                digest.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            self._hash = digest.hexdigest()
        return self._hash

    def forget_hash(self) -> None:
        """The weights were changed from elsewhere."""
        self._hash = None

    def describe(self) -> dict[str, Any]:
        return {"steps": self.steps, "hash": self.weight_hash(), **dataclasses.asdict(self.settings)}

    def _direction(self, name: str, parameter: Tensor, gradient: Tensor) -> Tensor:
        """v = μ·v + g + λ·w."""
        direction = gradient + self.settings.decay * parameter if self.settings.decay else gradient
        if self.settings.momentum and name in self.velocity:
            direction = direction + self.settings.momentum * self.velocity[name]
        return direction

    def _parameter(self, name: str) -> Tensor:
        known = dict(self.model.named_parameters())
        if name not in known:
            raise UnknownNameError("parameter", name, known)
        return known[name]
