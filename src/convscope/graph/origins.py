"""Where a tensor comes from that no recorded call has made."""

from __future__ import annotations

import sys
import types
from typing import Any

from torch import Tensor, nn

_DEEP = 4  # levels of lists and dicts in attributes that are looked into


class Origins:
    """Parameters, buffers and tensors in attributes of ``model``'s modules, and tensors that its code names.

    ``target`` gives what a graph's get_attr is called: the path in the model, or of what has none ``_constant_0`` and
    so on, which ``constants`` holds.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.constants: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._tensors: dict[int, tuple[Tensor, str | None]] = {}
        for prefix, module in model.named_modules():
            for registry in (module._parameters, module._buffers):
                for name, held in registry.items():
                    if isinstance(held, Tensor):
                        self._tensors.setdefault(id(held), (held, f"{prefix}.{name}" if prefix else name))
        for prefix, module in model.named_modules():
            for name, held in module.__dict__.items():
                if isinstance(held, Tensor):
                    self._tensors.setdefault(id(held), (held, f"{prefix}.{name}" if prefix else name))
                elif not name.startswith("_"):
                    self._look_into(held, _DEEP)

    def _look_into(self, held: Any, deep: int) -> None:
        if isinstance(held, Tensor):
            self._tensors.setdefault(id(held), (held, None))
        elif isinstance(held, nn.Module):
            for tensor in (*held.parameters(), *held.buffers()):
                self._tensors.setdefault(id(tensor), (tensor, None))
        elif deep and isinstance(held, list | tuple | dict):
            for item in held.values() if isinstance(held, dict) else held:
                self._look_into(item, deep - 1)

    def target(self, tensor: Tensor) -> str | None:
        """The target that names the tensor; None where nothing is known of it."""
        found = self._tensors.get(id(tensor))
        if found is not None:
            return found[1] or self.constant(tensor)
        # What has a history was computed, by a call that was not heard.
        return self.constant(tensor) if tensor.grad_fn is None and _named_by_code(tensor) else None

    def constant(self, item: Any) -> str:
        """A target for whatever a graph must hold itself."""
        if id(item) not in self._names:
            name = f"_constant_{len(self.constants)}"
            self._names[id(item)] = name
            self.constants[name] = item
        return self._names[id(item)]


def _named_by_code(tensor: Tensor) -> bool:
    """Whether code on the way here names the tensor: as a global, a closure's variable or an argument's default."""
    frame: types.FrameType | None = sys._getframe(2)
    seen: set[int] = set()
    while frame is not None:
        code = frame.f_code
        if id(frame.f_globals) not in seen:
            seen.add(id(frame.f_globals))
            if any(_holds(item, tensor) for item in list(frame.f_globals.values())):
                return True
        if code.co_freevars and any(_holds(frame.f_locals.get(name), tensor) for name in code.co_freevars):
            return True
        owner = frame.f_locals.get("self") if code.co_varnames[:1] == ("self",) else None
        function = getattr(type(owner), code.co_name, None) if owner is not None else frame.f_globals.get(code.co_name)
        if isinstance(function, types.FunctionType) and function.__code__ is code:
            defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
            if any(_holds(item, tensor) for item in defaults):
                return True
        frame = frame.f_back
    return False


def _holds(item: Any, tensor: Tensor) -> bool:
    if item is tensor:
        return True
    if type(item) in (list, tuple) and len(item) <= 1000:
        return any(each is tensor for each in item)
    return type(item) is dict and len(item) <= 1000 and any(each is tensor for each in item.values())
