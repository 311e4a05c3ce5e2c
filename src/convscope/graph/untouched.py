"""A model and the sources of chance, put back as they were after a call that was only made to look at it."""

from __future__ import annotations

import collections
import random
import sys
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

CONTAINERS = (dict, list, set, collections.deque)
_PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device, torch.Size)
_NOT_LOOKED_INTO = (
    type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, nn.Module, Tensor,
    torch.Generator, torch.optim.Optimizer,
)  # fmt: skip
_REGISTRIES = ("_parameters", "_buffers", "_modules")
_MOST = 20_000  # objects of a model's own that are looked into


class Untouched:
    """What a model holds now: attributes of its modules, what their lists, dicts and plain objects hold, numbers of its
    buffers, gradients, and the states of all generators of random numbers that it can reach or everybody shares.

    ``restore`` puts it back. ``changes`` tells in words what of it is not as it was, buffers and chance left aside.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._modules = list(model.named_modules())
        self._held: dict[int, tuple[str, Any, Any]] = {}  # containers and objects: (path, it, copy of what it holds)
        self._generators: dict[int, tuple[Any, Any]] = {}
        for name, module in self._modules:
            self._look_into(name, module)
        self._buffers = [
            (buffer, buffer.detach().clone(), buffer._version)
            for _, module in self._modules
            for buffer in module._buffers.values()
            if buffer is not None and not buffer.is_meta
        ]
        self._tensors: dict[int, tuple[Tensor, Tensor]] = {}
        self._expressed: set[str] = set()
        self._gradients = [(parameter, parameter.grad) for parameter in model.parameters() if parameter.is_leaf]
        self.chance = _shared_chance()

    def keep(self, tensor: Tensor) -> None:
        """Note a tensor's numbers before they are written."""
        if id(tensor) not in self._tensors and not tensor.is_meta:
            with torch.no_grad():
                self._tensors[id(tensor)] = tensor, tensor.detach().clone()

    def keep_generator(self, generator: Any) -> None:
        """Note a generator's state before it is drawn from."""
        if id(generator) not in self._generators:
            self._generators[id(generator)] = generator, _state(generator)

    def states(self) -> dict[int, Any]:
        """The states of the generators, apart from the shared ones, by identity."""
        return {key: _state(generator) for key, (generator, _) in self._generators.items()}

    def drawn_since(self, before: dict[int, Any]) -> bool:
        """Whether one of them is not in the state that ``before`` or, unknown then, its first look says."""
        return any(
            not _same(before.get(key, state), _state(generator)) for key, (generator, state) in self._generators.items()
        )

    def changes(self) -> list[str]:
        """The attributes, lists and objects that hold something else than before, by path."""
        found = []
        for path, holder, before in self._held.values():
            now = _content(holder)
            if isinstance(before, dict) and isinstance(now, dict):
                for key in before.keys() | now.keys():
                    if key in before and key in now and (before[key] is now[key] or _equal(before[key], now[key])):
                        continue
                    found.append(_path(path, key))
            elif len(before) != len(now) or any(
                one is not other and not _equal(one, other) for one, other in zip(before, now, strict=True)
            ):
                found.append(path)
        return sorted(set(found) - self._expressed)

    def exchanged_buffers(self) -> list[tuple[str, Any, Any]]:
        """(path, before, now) of every buffer in whose place there is another tensor."""
        found = []
        for prefix, module in self._modules:
            before = self._held[id(module._buffers)][2] if id(module._buffers) in self._held else {}
            for name, old in before.items():
                now = module._buffers.get(name)
                if now is not old:
                    found.append((f"{prefix}.{name}" if prefix else name, old, now))
        return found

    def expressed(self, path: str) -> None:
        """The exchange of this buffer is not among ``changes``: the graph does it."""
        self._expressed.add(path)

    def restore(self) -> None:
        """Put everything back."""
        for _, holder, before in self._held.values():
            _put_back(holder, before)
        with torch.no_grad():
            for buffer, numbers, version in self._buffers:
                if buffer._version != version or not _bitwise(buffer, numbers):
                    buffer.detach().copy_(numbers)
            for tensor, numbers in self._tensors.values():
                tensor.detach().copy_(numbers)
        for parameter, gradient in self._gradients:
            if parameter.grad is not gradient:
                parameter.grad = gradient
        _set_shared_chance(self.chance)
        for generator, state in self._generators.values():
            if not _same(state, _state(generator)):
                _set_state(generator, state)

    def _look_into(self, path: str, holder: Any) -> None:
        """Note what ``holder`` holds, and what is in it in turn."""
        if id(holder) in self._held or len(self._held) >= _MOST:
            return
        content = _content(holder)
        self._held[id(holder)] = path, holder, content
        items: Iterator[tuple[Any, Any]] = iter(content.items() if isinstance(content, dict) else enumerate(content))
        for key, item in items:
            if isinstance(item, _PLAIN):
                continue
            if (generator := generator_of(item)) is not None:
                self.keep_generator(generator)
            elif isinstance(item, CONTAINERS) or is_plain_object(item):
                self._look_into(path if key in _REGISTRIES else _path(path, key), item)


def is_plain_object(item: Any) -> bool:
    """Whether it is an object of some class that keeps its state in attributes."""
    return hasattr(item, "__dict__") and not isinstance(item, _NOT_LOOKED_INTO) and type(item).__module__ != "builtins"


def _path(path: str, key: Any) -> str:
    name = key if isinstance(key, str) else f"[{key!r}]"
    return f"{path}.{name}" if path else name


def _content(holder: Any) -> Any:
    if isinstance(holder, dict):
        return dict(holder)
    if isinstance(holder, CONTAINERS):
        return list(holder)
    return dict(vars(holder))


def _put_back(holder: Any, before: Any) -> None:
    now = _content(holder)
    if isinstance(before, dict) and isinstance(now, dict):
        if list(before) == list(now) and all(before[key] is now[key] for key in before):
            return
        target = holder if isinstance(holder, dict) else vars(holder)
        for key in [key for key in now if key not in before]:
            dict.__delitem__(target, key)
        if list(before)[: len(target)] != list(target):
            dict.clear(target)
        for key, item in before.items():
            if key not in target or target[key] is not item:
                dict.__setitem__(target, key, item)
    elif len(before) != len(now) or any(one is not other for one, other in zip(before, now, strict=True)):
        holder.clear()
        if isinstance(holder, set):
            holder.update(before)
        else:
            holder.extend(before)


def _equal(one: Any, other: Any) -> bool:
    """Equal plain values; of everything else only identity counts."""
    if type(one) is not type(other) or not isinstance(one, _PLAIN):
        return False
    return bool(one == other) or (one != one and other != other)


def _bitwise(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())


def generator_of(item: Any) -> Any:
    """The generator of random numbers that ``item`` is, or is a method of; None."""
    if is_generator(item):
        return item
    owner = getattr(item, "__self__", None) if callable(item) else None
    return owner if owner is not None and is_generator(owner) else None


def is_generator(item: Any) -> bool:
    """Whether it is a generator of random numbers, of torch, Python or numpy."""
    if isinstance(item, torch.Generator | random.Random):
        return True
    kinds = [getattr(_numpy_random(), name, None) for name in ("Generator", "RandomState", "BitGenerator")]
    return any(kind is not None and isinstance(item, kind) for kind in kinds)


def _numpy_random() -> Any:
    """numpy's module, where it is loaded (to the end: threads may be at it)."""
    return sys.modules.get("numpy.random")


def _state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if hasattr(generator, "bit_generator"):
        generator = generator.bit_generator
    elif hasattr(generator, "get_state"):
        return generator.get_state()
    return generator.state


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = state
    elif hasattr(generator, "set_state"):
        generator.set_state(state)
    else:
        generator.state = state


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(item, other[key]) for key, item in one.items())
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    if hasattr(one, "tolist"):  # an array
        return bool((one == other).all())
    return bool(one == other)


def foreign_chance() -> tuple[Any, Any]:
    """The states of Python's and numpy's shared generators."""
    get_state = getattr(_numpy_random(), "get_state", None)
    return random.getstate(), None if get_state is None else get_state()


def same_chance(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    """Whether nothing was drawn between two states of ``foreign_chance``."""
    if one[0] != other[0]:
        return False
    return one[1] is None or other[1] is None or _same(one[1], other[1])


def _shared_chance() -> dict[str, Any]:
    states: dict[str, Any] = {"torch": torch.get_rng_state(), "foreign": foreign_chance()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _set_shared_chance(states: dict[str, Any]) -> None:
    if not torch.equal(torch.get_rng_state(), states["torch"]):
        torch.set_rng_state(states["torch"])
    if not same_chance(foreign_chance(), states["foreign"]):
        python, numpy = states["foreign"]
        random.setstate(python)
        if numpy is not None:
            _numpy_random().set_state(numpy)
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])
