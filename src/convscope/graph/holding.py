"""Where Python code keeps what it remembers from call to call: what is in such a thing, and how it is put back.

Of most things the contents can be noted and written again: containers, arrays, attributes (in a dictionary or in
slots), variables of closures, attributes of classes, globals. Of an iterator, a file or a queue they cannot: what was
taken is gone (``hides``).
"""

from __future__ import annotations

import array
import collections
import contextlib
import functools
import queue
import random
import sys
import types
import weakref
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

CONTAINERS = (dict, list, set, collections.deque)
PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device, torch.Size)
LARGEST = 1 << 24  # bytes of an array beyond which its numbers are not noted
_ARRAYS = (bytearray, array.array)
_NOT_LOOKED_INTO = (
    type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, nn.Module, Tensor,
    torch.Generator, torch.optim.Optimizer, functools.partial,
)  # fmt: skip


class Globals:
    """Some of a module's global names, as a thing that holds something."""

    def __init__(self, names: dict[str, Any], some: list[str]) -> None:
        self.names, self.some = names, some


def is_plain_object(item: Any) -> bool:
    """Whether it is an object of some class that keeps its state in attributes."""
    if isinstance(item, _NOT_LOOKED_INTO) or type(item).__module__ == "builtins":
        return False
    return hasattr(item, "__dict__") or (bool(_slots(type(item))) and not isinstance(item, tuple))


def is_array(item: Any) -> bool:
    """Whether it is an array of numbers, of Python or numpy, that is not too large to be copied."""
    if isinstance(item, _ARRAYS):
        return len(item) * getattr(item, "itemsize", 1) <= LARGEST
    kind = getattr(sys.modules.get("numpy"), "ndarray", None)
    return kind is not None and isinstance(item, kind) and item.nbytes <= LARGEST


def holds(item: Any) -> bool:
    """Whether it may hold something else later, which ``content`` tells."""
    return (
        isinstance(item, (*CONTAINERS, types.CellType, Globals)) or is_array(item) or is_plain_object(item)
    ) and not hides(item)


def hides(item: Any) -> bool:
    """Whether its state cannot be noted and put back: an iterator, a generator, a file, a queue written in C, or a
    method of one."""
    if isinstance(item, Tensor | nn.Module | type) or generator_of(item) is not None:
        return False
    if isinstance(item, types.BuiltinMethodType | types.MethodWrapperType):
        return hides(item.__self__) if item.__self__ is not None else False
    if isinstance(item, queue.SimpleQueue):
        return True
    if not (hasattr(type(item), "__next__") and hasattr(type(item), "__iter__")):
        return False
    # An iterator that is written in Python keeps its state where it is seen.
    return not is_plain_object(item) or type(item).__module__ in ("_io", "io", "itertools", "tempfile")


def content(holder: Any) -> Any:
    """What it holds now: a dictionary, a list or an array of its own."""
    if isinstance(holder, dict):
        return dict(holder)
    if isinstance(holder, types.CellType):
        try:
            return [holder.cell_contents]
        except ValueError:  # nothing yet
            return []
    if isinstance(holder, Globals):
        return {name: holder.names[name] for name in holder.some if name in holder.names}
    if isinstance(holder, type):
        return {name: item for name, item in vars(holder).items() if not name.startswith(("__", "_abc_"))}
    if isinstance(holder, CONTAINERS):
        return list(holder)
    if isinstance(holder, _ARRAYS):
        return holder[:]
    if is_array(holder):
        return holder.copy()
    return attributes(holder)


def attributes(item: Any) -> dict[str, Any]:
    """Of an object, in its dictionary and in its slots."""
    found = {}
    for name, slot in _slots(type(item)).items():
        with contextlib.suppress(AttributeError):  # of a slot that is empty
            found[name] = slot.__get__(item)
    return found | vars(item) if hasattr(item, "__dict__") else found


def parts(item: Any) -> Iterator[tuple[Any, Any]]:
    """(key, part) of what is in a thing that itself holds the same for ever."""
    if isinstance(item, tuple):
        yield from enumerate(item)
    elif isinstance(item, types.MethodType | types.BuiltinMethodType):
        if not isinstance(item.__self__, types.ModuleType):
            yield "__self__", item.__self__
        if isinstance(item, types.MethodType):
            yield "__func__", item.__func__
    elif isinstance(item, types.FunctionType):
        yield "__dict__", vars(item)
        yield from zip(item.__code__.co_freevars, item.__closure__ or (), strict=True)
        yield from enumerate(item.__defaults__ or ())
        yield from (item.__kwdefaults__ or {}).items()
    elif isinstance(item, functools.partial):
        yield from (("func", item.func), ("args", item.args), ("keywords", item.keywords))
    elif isinstance(item, property):
        yield "fget", item.fget
    elif isinstance(item, staticmethod | classmethod):
        yield "__func__", item.__func__


def same(before: Any, now: Any) -> bool:
    """Whether two contents of one holder are the same: the same objects, or plain values that are equal."""
    if isinstance(before, dict):
        return list(before) == list(now) and all(map(_one, before.values(), now.values()))
    if isinstance(before, list):
        return len(before) == len(now) and all(map(_one, before, now))
    if getattr(getattr(before, "dtype", None), "hasobject", False):
        return before.shape == now.shape and all(map(_one, before.flat, now.flat))
    return bool(before.tobytes() == now.tobytes()) if hasattr(before, "tobytes") else bool(before == now)


def _one(before: Any, now: Any) -> bool:
    return before is now or equal(before, now)


def equal(one: Any, other: Any) -> bool:
    """Equal plain values; of everything else only identity counts."""
    if type(one) is not type(other) or not isinstance(one, PLAIN):
        return False
    return bool(one == other) or (one != one and other != other)


def put_back(holder: Any, before: Any) -> None:
    """Make it hold what it held, where it does not."""
    now = content(holder)
    if isinstance(before, dict):
        if list(before) != list(now) or any(before[key] is not now[key] for key in before):
            _put_items_back(holder, before, now)
    elif isinstance(holder, types.CellType):
        if [*map(id, before)] != [*map(id, now)]:
            holder.cell_contents = before[0] if before else None
    elif is_array(holder):
        if not same(before, now):
            holder[... if hasattr(holder, "flags") else slice(None)] = before
    elif len(before) != len(now) or any(one is not other for one, other in zip(before, now, strict=True)):
        holder.clear()
        if isinstance(holder, set):
            holder.update(before)
        else:
            holder.extend(before)


def _put_items_back(holder: Any, before: dict[Any, Any], now: dict[Any, Any]) -> None:
    if isinstance(holder, Globals):
        for name in now.keys() - before.keys():
            del holder.names[name]
        holder.names.update(before)
        return
    if isinstance(holder, type):
        names = before.keys() | now.keys()
        _put_names_back(names, before, now, functools.partial(setattr, holder), functools.partial(delattr, holder))
        return
    if isinstance(holder, dict):
        _put_keys_back(holder, before)
        return
    slots = _slots(type(holder))
    _put_names_back(
        slots, before, now,
        lambda name, value: slots[name].__set__(holder, value), lambda name: slots[name].__delete__(holder),
    )  # fmt: skip
    if hasattr(holder, "__dict__"):
        _put_keys_back(vars(holder), {key: item for key, item in before.items() if key not in slots})


def _put_keys_back(target: dict[Any, Any], wanted: dict[Any, Any]) -> None:
    # An ordered dictionary keeps its order beside the dictionary that it is.
    kind: Any = collections.OrderedDict if isinstance(target, collections.OrderedDict) else dict
    for key in [key for key in target if key not in wanted]:
        kind.__delitem__(target, key)
    if list(wanted)[: len(target)] != list(target):
        kind.clear(target)
    for key, item in wanted.items():
        if key not in target or target[key] is not item:
            kind.__setitem__(target, key, item)


def _put_names_back(
    names: Collection[str],
    before: dict[str, Any],
    now: dict[str, Any],
    put: Callable[[str, Any], None],
    remove: Callable[[str], None],
) -> None:
    """Attributes of a class, or in slots."""
    for name in names:
        if name not in before:
            if name in now:
                remove(name)
        elif name not in now or now[name] is not before[name]:
            put(name, before[name])


_SLOTS: weakref.WeakKeyDictionary[type, dict[str, types.MemberDescriptorType]] = weakref.WeakKeyDictionary()


def _slots(kind: type) -> dict[str, types.MemberDescriptorType]:
    """The slots of a class that hold objects, by what reads and writes them: the attribute of the same name may be
    something else in a class derived from it, a property that computes, or a slot of its own."""
    if kind in _SLOTS:
        return _SLOTS[kind]
    found: dict[str, types.MemberDescriptorType] = {}
    for base in kind.__mro__:
        if base.__module__ == "builtins":
            continue
        names = vars(base).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else tuple(names):
            name = f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
            slot = vars(base).get(name)
            if isinstance(slot, types.MemberDescriptorType):
                found[name if name not in found else f"{base.__qualname__}.{name}"] = slot
    return _SLOTS.setdefault(kind, found)


def generator_of(item: Any) -> Any:
    """The generator of random numbers that ``item`` is, or is a method of; None."""
    if is_generator(item):
        return item
    owner = getattr(item, "__self__", None) if callable(item) else None
    return owner if owner is not None and is_generator(owner) else None


def is_generator(item: Any) -> bool:
    """Whether it is a generator of random numbers, of torch, Python or numpy."""
    kind: Any = type(item)
    return _makes_generators(kind)


@functools.lru_cache(maxsize=4096)
def _makes_generators(kind: Any) -> bool:
    """By class, asked once: a deep model holds tens of thousands of objects, and asking each was a sixth of the first
    call of an accelerated DenseNet."""
    if issubclass(kind, torch.Generator | random.Random):
        return True
    theirs = [getattr(numpy_random(), name, None) for name in ("Generator", "RandomState", "BitGenerator")]
    return any(each is not None and issubclass(kind, each) for each in theirs)


def numpy_random() -> Any:
    """numpy's module, where it is loaded (to the end: threads may be at it)."""
    return sys.modules.get("numpy.random")
