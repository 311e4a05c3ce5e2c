"""Python pickles of plain numbers, texts and byte arrays, read without running them.

A pickle is a program, and Python's own reader runs whatever it calls. ``pickletools.genops`` only names its steps; here
the few that CIFAR's batches are made of build values (Python 2's protocol 2, and 2 to 4 of Python 3, should somebody
have written them anew), and every other is refused by its name.
"""

from __future__ import annotations

import dataclasses
import math
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

from convscope.data.files import read_bytes
from convscope.errors import DataError

_AGAIN = "Fetch the file again, or save plain arrays with numpy.savez"
_MARK = object()
# What the file may name: an empty array, and its type. Nothing is imported, and nothing else may be called.
_NAMES = {
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",  # Python 3's bytes in protocol 2
}


@dataclasses.dataclass(frozen=True)
class _Name:
    text: str


class _Type:
    """A numpy dtype: unsigned bytes alone."""


@dataclasses.dataclass
class _Array:
    values: numpy.ndarray | None = None


class _Machine:
    """The stack on which a pickle's steps build one value."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def above_mark(self) -> list[Any]:
        place = next(place for place in reversed(range(len(self.stack))) if self.stack[place] is _MARK)
        taken = self.stack[place + 1 :]
        del self.stack[place:]
        return taken

    def pack(self, count: int) -> None:
        taken = self.stack[-count:]
        if len(taken) < count:
            raise IndexError
        self.stack[-count:] = [tuple(taken)]

    def pairs(self, flat: list[Any]) -> None:
        if len(flat) % 2 or not isinstance(self.stack[-1], dict):
            raise ValueError("pairs without a dictionary")
        self.stack[-1].update(zip(flat[::2], flat[1::2], strict=True))

    def lengthen(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("values without a list")
        self.stack[-1].extend(values)

    def call(self) -> None:
        """The calls there may be: an empty array, a type, bytes as text; none is made, they are only noted."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if name == _Name("reconstruct") and arguments[0] == _Name("ndarray"):
            self.stack.append(_Array())
        elif name == _Name("dtype") and arguments[0] in ("u1", "uint8"):
            self.stack.append(_Type())
        elif name == _Name("encode") and isinstance(arguments[0], str) and arguments[1] in ("latin1", "latin-1"):
            self.stack.append(arguments[0])
        else:
            raise ValueError("a call that is neither of an array nor of the type u1")

    def build(self) -> None:
        """An array's state: (version, shape, type, Fortran's order, bytes)."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Type):
            return
        if not isinstance(target, _Array):
            raise ValueError("a state of what is no array")
        _, shape, kind, fortran, content = state
        whole = isinstance(shape, tuple) and all(isinstance(each, int) and each >= 0 for each in shape)
        if not whole or not isinstance(kind, _Type) or not isinstance(content, str):
            raise ValueError("an array without shape, type and bytes")
        if math.prod(shape) != len(content):
            raise ValueError(f"an array of shape {shape} with {len(content):,} bytes")
        flat = numpy.frombuffer(content.encode("latin-1"), numpy.uint8)
        target.values = flat.reshape(shape, order="F" if fortran else "C")


def _put(machine: _Machine, argument: Any) -> None:
    machine.memory[argument] = machine.stack[-1]


def _name(machine: _Machine, argument: Any) -> None:
    if argument not in _NAMES:
        raise ValueError(f"it names {argument.replace(' ', '.')}, and nothing that a file names is called")
    machine.stack.append(_Name(_NAMES[argument]))


def _constant(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(value)


def _given(machine: _Machine, argument: Any) -> None:
    machine.stack.append(argument)


def _bytes(machine: _Machine, argument: Any) -> None:
    machine.stack.append(argument.decode("latin-1"))


def _named(machine: _Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    _name(machine, f"{module} {name}")


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, argument: None),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_TUPLE": _constant(()),
    "MARK": _constant(_MARK),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINSTRING"), _given),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _given),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"), _bytes),
    "MEMOIZE": lambda machine, _: _put(machine, len(machine.memory)),
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "BINGET": lambda machine, argument: machine.stack.append(machine.memory[argument]),
    "LONG_BINGET": lambda machine, argument: machine.stack.append(machine.memory[argument]),
    "APPEND": lambda machine, _: machine.lengthen([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.lengthen(machine.above_mark()),
    "SETITEM": lambda machine, _: machine.pairs([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.pairs(machine.above_mark()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.above_mark())),
    "TUPLE1": lambda machine, _: machine.pack(1),
    "TUPLE2": lambda machine, _: machine.pack(2),
    "TUPLE3": lambda machine, _: machine.pack(3),
    "GLOBAL": _name,
    "STACK_GLOBAL": _named,
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}


def read_plain_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in ``path``: keys and texts as str (a byte a character), lists, integers, uint8 arrays.

    Raises DataError, naming the step and its place, for every step that CIFAR's batches do not use, every name but
    numpy's arrays of unsigned bytes, a file that is cut short, and a value that is no dictionary. Nothing is run.
    """
    machine, place, step = _Machine(), 0, "PROTO"
    try:
        for opcode, argument, position in pickletools.genops(read_bytes(path)):
            step, place = opcode.name, position or 0
            if step == "STOP":
                break
            if step not in _STEPS:
                raise DataError(path, f"step {step} at byte {place:,}, which plain data have no need of", _AGAIN)
            _STEPS[step](machine, argument)
        (value,) = machine.stack
    except DataError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, StopIteration, UnicodeError, OverflowError) as error:
        told = f"step {step} at byte {place:,}: {str(error) or 'nothing there to work on'}"
        raise DataError(path, f"not a pickle of plain data, or damaged ({told})", _AGAIN) from error
    if not isinstance(value, dict):
        raise DataError(path, f"holds {type(value).__name__}, wanted a dictionary", _AGAIN)
    return {str(key): each.values if isinstance(each, _Array) else each for key, each in value.items()}
