"""What a graph or plan was made from, and whether it is still so.

A record of a call is true for the state in which the model was then: its modules' classes, methods, attributes and
hooks, what their lists, dicts, arrays and objects hold, the globals and closures that their forwards name, and torch's
modes.
"""

from __future__ import annotations

import collections
import inspect
import itertools
import operator
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from convscope.graph.heard import is_library
from convscope.graph.holding import CONTAINERS, PLAIN, content, holds, is_plain_object, parts, same
from convscope.graph.leaves import global_hook_registries, hook_registries
from convscope.graph.untouched import is_librarys

Unchanged = Callable[[list[Any], list[list[Any]]], bool]
_LONG = 10_000  # items of a list, dict or set beyond which only their number is looked at
_DEEP = 16  # lists in lists that are looked into
_METHODS = ("forward", "__call__", "__getattr__")
_OWN = frozenset(("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"))


class Guard:
    """The state of ``model`` now, modules' ``training`` flags among it; parameters, buffers of floating-point numbers
    and counters of batch normalisation left aside, whose numbers graphs read anew.

    ``unchanged(held, contents)`` tells of plain dicts and lists whether they hold the very objects noted of each (keys
    and values by turns), more quickly than Python does; the engine has it."""

    def __init__(self, model: nn.Module, unchanged: Unchanged | None = None) -> None:
        self._unchanged = unchanged
        self._modules = list(model.modules())
        self._kinds = [*map(type, self._modules)]
        self._methods = self._methods_now()
        self._hooks = [*global_hook_registries(), *(each for m in self._modules for each in hook_registries(m))]
        self._hooked = [*map(bool, self._hooks)]
        self._held: list[tuple[str, Any, Any]] = []
        self._long: list[tuple[str, Any, int]] = []
        self._tensors: list[tuple[str, Tensor, int]] = []
        self._read: list[tuple[str, Any, str, Any]] = []
        self._cells: list[tuple[types.CellType, Any]] = []
        self._functions: list[tuple[types.FunctionType, Any, Any]] = []
        self._other: list[tuple[str, Any, Any]] = []  # what holds something, but not as attributes or items
        self._seen = set(map(id, self._hooks))
        self._alive: list[Any] = []  # so that no other thing gets the number of one that was seen
        self._codes: set[tuple[types.CodeType, type | None]] = set()
        for path, module in model.named_modules():
            self._held.append((path, vars(module), dict(vars(module))))
            for name, item in vars(module).items():
                if name not in _OWN:
                    self._note(f"{path}.{name}" if path else name, item, _DEEP)
            if not isinstance(module, nn.modules.batchnorm._NormBase):
                self._note_tensors(path, module._buffers.values())
            self._note_classes(type(module))
            self._note_function(getattr(type(module).forward, "__wrapped__", type(module).forward), type(module))
        self._modes = modes()
        self._settle()

    def _settle(self) -> None:
        """All that is held in one row: whether it is still the same objects is told in one pass, 20 ns each. What is
        empty, as most registries of hooks are (94 of LeNet-5's 111 dicts), is told by that alone, 8 ns each. What
        ``unchanged`` looks at takes 2 ns each."""
        quick = [] if self._unchanged is None else [live for _, live, _ in self._held if _is_quick(live)]
        self._quick, self._contents = quick, [*map(_content, quick)]
        left = [live for _, live, _ in self._held if self._unchanged is None or not _is_quick(live)]
        every = [(live, _view(live)) for live in left if not isinstance(live, set)]
        self._empty = [view for _, view in every if not len(view)]
        held = [live for live, view in every if len(view)]
        self._views = [*map(_view, held)]
        self._lengths = [*map(len, self._views)]
        self._row = [*itertools.chain.from_iterable(self._views)]
        self._keyed = [live for live in held if not isinstance(live, list | collections.deque)]
        self._last = [*map(next, map(reversed, self._keyed))]  # a new name comes last
        self._sets = [(live, before) for _, live, before in self._held if isinstance(live, set)]

    def _same_objects(self) -> bool:
        return (
            (self._unchanged is None or self._unchanged(self._quick, self._contents))
            and not any(map(len, self._empty))
            and [*map(len, self._views)] == self._lengths
            and all(map(operator.is_, itertools.chain.from_iterable(self._views), self._row))
            and [*map(next, map(reversed, self._keyed))] == self._last
            and all(live == before for live, before in self._sets)
        )

    def _note(self, path: str, item: Any, deep: int) -> None:
        """An attribute of a module, or an item in one."""
        if isinstance(item, Tensor):
            self._note_tensors(path, [item])
        elif isinstance(item, types.FunctionType | types.MethodType):
            self._note_function(item)
            self._note_parts(path, item, deep)
        elif isinstance(item, PLAIN) or id(item) in self._seen or not deep:
            return
        elif isinstance(item, CONTAINERS):
            self._seen.add(id(item))
            if len(item) > _LONG:
                self._long.append((path, item, len(item)))
                return
            self._held.append((path, item, item.copy()))
            for each in item.values() if isinstance(item, dict) else item:
                self._note(path, each, deep - 1)
        else:
            self._note_object(path, item, deep)

    def _note_object(self, path: str, item: Any, deep: int) -> None:
        if isinstance(item, type):
            self._note_classes(item)
        elif is_plain_object(item) and hasattr(item, "__dict__"):
            self._note_attributes(path, item, deep)
            self._note_classes(type(item))
        elif isinstance(item, nn.Module):
            for name, module in item.named_modules():
                self._note_attributes(f"{path}.{name}" if name else path, module, deep)
        elif holds(item):
            self._seen.add(id(item))
            found = content(item)
            self._other.append((path, item, found))
            if isinstance(found, dict | list):
                for each in found.values() if isinstance(found, dict) else found:
                    self._note(path, each, deep - 1)
        else:
            self._note_parts(path, item, deep)

    def _note_attributes(self, path: str, item: Any, deep: int) -> None:
        if id(item) in self._seen:
            return
        self._seen.add(id(item))
        self._held.append((path, vars(item), dict(vars(item))))
        for name, each in vars(item).items():
            self._note(f"{path}.{name}", each, deep - 1)

    def _note_parts(self, path: str, item: Any, deep: int) -> None:
        """What is in a tuple, a function, a method."""
        if deep and id(item) not in self._seen:
            self._seen.add(id(item))
            self._alive.append(item)
            if isinstance(item, types.FunctionType):
                self._functions.append((item, item.__code__, item.__defaults__))
            for _, part in parts(item):
                self._note(path, part, deep - 1)

    def _note_classes(self, kind: type) -> None:
        """Attributes of a module's class, and of those that it inherits from."""
        for each in kind.__mro__:
            if id(each) in self._seen or is_librarys(each):
                continue
            self._seen.add(id(each))
            self._held.append((each.__name__, vars(each), dict(vars(each))))
            for name, item in vars(each).items():
                if not isinstance(item, types.FunctionType) and not name.startswith("__"):
                    self._note(f"{each.__name__}.{name}", item, _DEEP)

    def _note_tensors(self, path: str, tensors: Any) -> None:
        """Tensors whose numbers may be part of a plan."""
        for each in tensors:
            if isinstance(each, Tensor) and not isinstance(each, nn.Parameter) and not each.is_inference():
                self._tensors.append((path, each, each._version))

    def _note_function(self, function: Any, owner: type | None = None) -> None:
        """Globals and variables of closures that the function names, and those of the functions and of ``owner``'s
        methods among what it names, that are no library's."""
        function = getattr(function, "__func__", function)
        if not isinstance(function, types.FunctionType) or function.__module__.startswith("torch."):
            return
        if (function.__code__, owner) in self._codes:
            return
        self._codes.add((function.__code__, owner))
        named: list[Any] = []
        for name in function.__code__.co_names:
            if name in function.__globals__:
                found = function.__globals__[name]
                if isinstance(found, types.ModuleType):
                    self._note_module(found, function.__code__)
                elif isinstance(found, type):
                    self._note_classes(found)
                else:
                    self._read.append((name, function.__globals__, name, found))
                    named.append(found)
                    if not is_librarys(type(found)) or type(found).__module__ == "builtins":
                        self._note(name, found, _DEEP)
            elif owner is not None:
                found = inspect.getattr_static(owner, name, None)
                named.append(found.fget if isinstance(found, property) else getattr(found, "__func__", found))
        for cell in function.__closure__ or ():
            try:
                self._cells.append((cell, cell.cell_contents))
                self._note("a variable of a closure", cell.cell_contents, _DEEP)
            except ValueError:  # not filled yet
                continue
            named.append(cell.cell_contents)
        for each in named:
            if isinstance(each, types.FunctionType) and not is_library(each.__code__.co_filename):
                self._note_function(each, owner)

    def _other_changes(self) -> Iterator[str]:
        for function, code, defaults in self._functions:
            if function.__code__ is not code or function.__defaults__ is not defaults:
                yield function.__name__
        for path, holder, before in self._other:
            if not same(before, content(holder)):
                yield path

    def _note_module(self, module: types.ModuleType, code: types.CodeType) -> None:
        """What code may read of a module that is no library's, or of the environment."""
        if module is os and {"environ", "getenv"} & set(code.co_names):
            names: Any = vars(os.environ)["_data"]
            self._held.append(("os.environ", names, dict(names)))
        file = getattr(module, "__file__", None)
        if (file is not None and is_library(file)) or module.__name__ in sys.builtin_module_names:
            return
        for name in code.co_names:
            found = vars(module).get(name, module)
            if found is not module and not isinstance(found, types.ModuleType):
                self._read.append((name, vars(module), name, found))
                self._note(name, found, _DEEP)

    def _methods_now(self) -> list[Any]:
        return [getattr(kind, name, None) for kind in dict.fromkeys(self._kinds) for name in _METHODS]

    def holds(self) -> bool:
        """Whether nothing has changed."""
        try:
            return next(self._changes(), None) is None
        except (RuntimeError, ValueError, TypeError):  # other tensors or arrays, whose comparison is no yes or no
            return False

    def _changes(self) -> Iterator[str]:
        """What has changed, by path."""
        if self._modes != modes() or [*map(bool, self._hooks)] != self._hooked:
            yield "modes or hooks"
        for path, live, before in () if self._same_objects() else self._held:
            if not _unchanged(live, before):
                yield path
        yield from self._other_changes()
        for path, tensor, version in self._tensors:
            if tensor._version != version:
                yield path
        for path, names, name, value in self._read:
            if names.get(name) is not value and names.get(name) != value:
                yield path
        for cell, value in self._cells:
            if cell.cell_contents is not value and cell.cell_contents != value:
                yield "a variable of a closure"
        for path, live, length in self._long:
            if len(live) != length:
                yield path
        if [*map(type, self._modules)] != self._kinds or self._methods_now() != self._methods:
            yield "the class of a module"


def _is_quick(live: Any) -> bool:
    """Whether ``unchanged`` may look at it: an OrderedDict may change its order unseen, unless it is empty."""
    return type(live) in (dict, list) or (type(live) is collections.OrderedDict and not live)


def _content(live: dict[Any, Any] | list[Any]) -> list[Any]:
    return [*itertools.chain.from_iterable(live.items())] if isinstance(live, dict) else [*live]


def _view(live: Any) -> Any:
    """What it holds, at any time; a class of somebody's own may answer ``values`` otherwise."""
    if isinstance(live, list | collections.deque):
        return live
    plain = isinstance(live, dict) and not isinstance(live, collections.OrderedDict)
    return dict.values(live) if plain else live.values()


def _unchanged(live: Any, before: Any) -> bool:
    """Whether a dict, list, set or queue holds what it held: the same things, or equal ones of the same class, in the
    same order."""
    if len(live) != len(before):
        return False
    if isinstance(live, set):
        return bool(live == before)
    keys_stay = all(map(operator.is_, live, before))
    if isinstance(before, dict):
        if keys_stay and all(map(operator.is_, live.values(), before.values())):
            return True
        return list(live) == list(before) and all(map(_equal, live.values(), before.values()))
    return keys_stay or all(map(_equal, live, before))


def _equal(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and bool(one == other) and repr(one) == repr(other))


def modes() -> tuple[Any, ...]:
    """Torch's own modes that change what a model computes, autograd's left aside."""
    cast = torch.is_autocast_enabled("cpu")
    return cast, cast and torch.get_autocast_dtype("cpu"), torch.get_default_dtype()
