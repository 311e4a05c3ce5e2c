"""A torch optimiser's step as the engine makes it: at the end of the pass that computes the gradients."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import torch
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from convscope.native.memory import SharedMemory

_MEMORY = {  # what an optimiser keeps of a parameter, in the order of the engine's Rule
    torch.optim.SGD: ("momentum_buffer",),
    torch.optim.Adam: ("exp_avg", "exp_avg_sq", "step"),
    torch.optim.AdamW: ("exp_avg", "exp_avg_sq", "step"),
}
_UNUSUAL = ("maximize", "differentiable", "amsgrad", "capturable")  # options that the engine does not know


@dataclasses.dataclass
class _Bound:
    """The engine's rule for one parameter, and what it was made of."""

    rule: Any
    place: tuple[int, int]
    memory: tuple[torch.Tensor, ...]
    numbers: tuple[Any, ...] = ()


class FusedDescent:
    """Decides at every step whether the engine can make ``optimiser``'s step, and how.

    It can for SGD, Adam and AdamW whose parameters are views of ``memory``, in plain order, without maximising,
    AMSGrad, tensors as learning rates, hooks and gradient scalers. Groups, learning rates and other numbers are read
    anew at every step, and what the optimiser remembers stays its own: the engine writes ``optimiser.state``'s
    tensors. So ``state_dict``, schedules and steps by torch in between work as ever. The first step with a parameter is
    torch's, which makes its memory.
    """

    def __init__(self, engine: Any, optimiser: torch.optim.Optimizer, memory: SharedMemory) -> None:
        self.optimiser = optimiser
        self._engine, self._memory = engine, memory
        self._version = memory.version
        self._bound: dict[torch.Tensor, _Bound] = {}
        kind = type(optimiser)
        # A class of its own may step as it likes, unless it says that it does what another one does.
        self._kind: type = getattr(kind, "lean_of", kind)
        self._known = hasattr(engine, "Rule") and self._kind in _MEMORY

    def rules(self) -> list[Any] | None:
        """The rules for the engine's pass, by place; None where this step is torch's to make."""
        if not self._known or self._memory.borrowed or self._observed():
            return None
        if self._version != self._memory.version:
            self._bound.clear()
            self._version = self._memory.version
        found = []
        for group in self.optimiser.param_groups:
            numbers = _numbers(group)
            if numbers is None:
                return None
            for parameter in group["params"]:
                if parameter.grad is None:  # torch leaves it alone
                    continue
                bound = self._bind(parameter, with_memory=numbers[2] != 0)
                if bound is None:
                    return None
                if bound.numbers != numbers:
                    (bound.rule.adam if "betas" in group else bound.rule.gradient_descent)(*numbers)
                    bound.numbers = numbers
                found.append(bound)
        found.sort(key=lambda each: each.place)
        if any(one.place[1] > other.place[0] for one, other in itertools.pairwise(found)):
            return None
        return [each.rule for each in found]

    def _observed(self) -> bool:
        """Whether somebody wants to see or change what ``optimiser.step()`` does."""
        given = vars(self.optimiser)
        return (
            "step" in given
            or given.get("grad_scale") is not None
            or bool(given.get("_optimizer_step_pre_hooks"))
            or bool(given.get("_optimizer_step_post_hooks"))
            or bool(_global_optimizer_pre_hooks)
            or bool(_global_optimizer_post_hooks)
        )

    def _bind(self, parameter: torch.Tensor, with_memory: bool) -> _Bound | None:
        """The parameter's rule, a new one where its memory is another than before; None where there cannot be one."""
        state = self.optimiser.state.get(parameter, {})
        names = _MEMORY[self._kind] if with_memory or self._kind is not torch.optim.SGD else ()
        memory = tuple(state.get(name) for name in names)
        start = (parameter.data_ptr() - self._memory.flat.memory.data_ptr()) // 4
        place = (start, start + parameter.numel())
        assert parameter.grad is not None
        gradient = self._memory.flat.gradient_memory.data_ptr() + 4 * start
        if parameter.grad.data_ptr() != gradient:
            return None
        bound = self._bound.get(parameter)
        if bound is not None and bound.place == place and _same(bound.memory, memory):
            return bound
        if place[0] < 0 or place[1] > len(self._memory.flat.memory) or place[0] == place[1]:
            return None
        tensors = [each for each in (parameter, parameter.grad, *memory) if _is_plain(each)]
        sizes = [each.numel() for each in tensors]
        wanted = [parameter.numel()] * (2 + len(memory))
        if len(memory) == 3:
            wanted[-1] = 1
        if sizes != wanted:
            return None
        arrays = [each.detach().view(-1).numpy() for each in tensors[2:]]
        bound = _Bound(self._engine.Rule(*place, *arrays), place, tuple(tensors[2:]))
        self._bound[parameter] = bound
        return bound


def _numbers(group: dict[str, Any]) -> tuple[Any, ...] | None:
    """What the engine's rule wants to know, as its arguments; the third is momentum. None where it cannot do it."""
    if any(group.get(option) for option in _UNUSUAL):
        return None
    common = (group["lr"], group["weight_decay"])
    if "betas" in group:
        numbers = (*common, *group["betas"], group["eps"], group["decoupled_weight_decay"])
    else:
        numbers = (*common, group["momentum"], group["dampening"], group["nesterov"])
    return numbers if all(isinstance(each, int | float) for each in numbers) else None


def _same(before: tuple[torch.Tensor, ...], now: tuple[Any, ...]) -> bool:
    return len(before) == len(now) and all(one is other for one, other in zip(before, now, strict=True))


def _is_plain(tensor: Any) -> bool:
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()
    )
