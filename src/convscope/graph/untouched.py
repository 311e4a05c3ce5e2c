"""A model and the sources of chance, put back as they were after a call that was only made to look at it."""

from __future__ import annotations

import random
import sys
import types
from typing import Any

import torch
from torch import Tensor, nn

from convscope.graph.heard import is_library
from convscope.graph.holding import (
    CONTAINERS,
    PLAIN,
    Globals,
    content,
    equal,
    generator_of,
    hides,
    holds,
    numpy_random,
    parts,
    put_back,
    same,
)
from convscope.graph.values import version

_REGISTRIES = ("_parameters", "_buffers", "_modules")
_HOOK = "_hooks.["  # in the path of what a hook holds
_MOST = 20_000  # objects of a model's own that are looked into
_DEEP = 16  # containers in containers that are looked into
_FAR = 4  # an object, a closure or a method is as deep as so many containers: by a few of them one gets anywhere


class Untouched:
    """What a model holds now: attributes of its modules and their classes, what their lists, dicts, arrays, objects and
    functions hold, numbers of its buffers, gradients, and the states of all generators of random numbers that it can
    reach or everybody shares. ``keep_names`` adds globals.

    ``restore`` puts it back. ``changes`` tells in words what of it is not as it was, buffers and chance left aside.
    ``hidden``: what could not be put back once it is used, its path by the name under which code gets at it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._modules = list(model.named_modules())
        self._guests: dict[int, nn.Module] = {}  # modules that are held elsewhere than as a part: in a list, say
        self._held: dict[int, tuple[str, Any, Any]] = {}  # containers and objects: (path, it, copy of what it holds)
        self._walked: dict[int, Any] = {}
        self._generators: dict[int, tuple[Any, Any]] = {}
        self.hidden: dict[str, str] = {}
        for name, module in self._modules:
            self._look_into(name, module)
            for kind in type(module).__mro__:
                if id(kind) not in self._held and not is_librarys(kind):
                    self._look_into(kind.__name__, kind)
        self._buffers = [
            (buffer, buffer.detach().clone(), version(buffer))
            for module in [*(each for _, each in self._modules), *self._guests.values()]
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

    def keep_names(self, names: dict[str, Any], code: types.CodeType, variables: dict[str, Any]) -> None:
        """Note what a function that begins can reach by its globals ``names`` and its free variables."""
        modules = [each for each in (names.get(name) for name in code.co_names) if isinstance(each, types.ModuleType)]
        for held in (names, *(vars(each) for each in modules if not _is_librarys_module(each))):
            some = [name for name in code.co_names if name in held and _matters(held[name])]
            if some:
                self._look_into("", Globals(held, some))
        for name in code.co_freevars:
            if name in variables and _matters(variables[name]):  # a name of a class's body may be empty yet
                self._look(name, variables[name], name)

    def changes(self) -> list[str]:
        """The attributes, lists and objects that hold something else than before, by path. What hooks keep is left
        aside: they are part of a step that is called again as a whole."""
        found = []
        for path, holder, before in self._held.values():
            now = content(holder)
            if same(before, now) or _HOOK in path:
                continue
            if not isinstance(before, dict):
                found.append(path)
                continue
            if isinstance(holder, dict) and before.keys() == now.keys() and list(before) != list(now):
                found.append(path)
            for key in before.keys() | now.keys():
                if key in before and key in now and (before[key] is now[key] or equal(before[key], now[key])):
                    continue
                found.append(_path(path, key))
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
            put_back(holder, before)
        with torch.no_grad():
            for buffer, numbers, before in self._buffers:
                if version(buffer) != before or not _bitwise(buffer, numbers):
                    with torch.inference_mode(buffer.is_inference()):
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

    def _look_into(self, path: str, holder: Any, root: str | None = None, deep: int = _DEEP) -> None:
        """Note what ``holder`` holds, and what is in it in turn. ``root``: the name by which code gets at it; None: by
        the name of what it holds."""
        if id(holder) in self._held or len(self._held) >= _MOST:
            return
        found = content(holder)
        self._held[id(holder)] = path, holder, found
        if not isinstance(found, dict | list):
            return
        for key, item in found.items() if isinstance(found, dict) else enumerate(found):
            if not isinstance(item, PLAIN):
                here = path if key in _REGISTRIES or isinstance(holder, types.CellType) else _path(path, key)
                self._look(here, item, root or str(key), deep - 1)

    def _look(self, path: str, item: Any, root: str, deep: int = _DEEP) -> None:
        if isinstance(item, PLAIN) or id(item) in self._walked or deep < 0:
            return
        if (generator := generator_of(item)) is not None:
            self.keep_generator(generator)
        elif hides(item):
            self.hidden.setdefault(root, path)
        elif isinstance(item, nn.Module):
            self._look_at_guest(path, item)
        elif isinstance(item, type):
            if not is_librarys(item):
                self._look_into(item.__name__, item, root, deep - _FAR)
        elif holds(item):
            self._look_into(path, item, root, deep if isinstance(item, CONTAINERS) else deep - _FAR)
        elif not (isinstance(item, types.FunctionType) and is_library(item.__code__.co_filename)):
            self._walked[id(item)] = item
            for key, part in parts(item):
                here = path if key in ("__dict__", "__func__") else _path(path, key)
                self._look(here, part, root, deep - (1 if isinstance(item, tuple) else _FAR))

    def _look_at_guest(self, path: str, guest: nn.Module) -> None:
        own = {id(module) for _, module in self._modules}
        for name, module in guest.named_modules():
            if id(module) not in own and id(module) not in self._guests:
                self._guests[id(module)] = module
                self._look_into(_path(path, name) if name else path, module)


def is_librarys(kind: type) -> bool:
    """Whether a class is Python's, torch's or our own."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return kind.__module__ == "builtins" or (file is not None and is_library(file))


def _is_librarys_module(module: types.ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return module.__name__ in sys.builtin_module_names or (file is not None and is_library(file))


def _matters(item: Any) -> bool:
    """Whether code may change what is behind a global or free variable, and we may put it back."""
    if isinstance(item, type):
        return not is_librarys(item)
    if isinstance(item, types.ModuleType | types.BuiltinFunctionType):
        return hides(item)
    if isinstance(item, types.FunctionType):
        return not is_library(item.__code__.co_filename)
    return isinstance(item, PLAIN) or hides(item) or not is_librarys(type(item)) or type(item).__module__ == "builtins"


def _path(path: str, key: Any) -> str:
    name = key if isinstance(key, str) else f"[{key!r}]"
    return f"{path}.{name}" if path else name


def _bitwise(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())


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
    get_state = getattr(numpy_random(), "get_state", None)
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
            numpy_random().set_state(numpy)
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])
