"""Labels as people have them, numbers or names, as class numbers and class names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch

from convscope.errors import ArgumentError

Labels = torch.Tensor | numpy.ndarray | Sequence[int] | Sequence[str]

_FEW = 1_000  # so many classes may be named by numbers, however few examples there are


def class_numbers(
    parts: dict[str, Labels], classes: Sequence[str] | None
) -> tuple[list[torch.Tensor], tuple[str, ...]]:
    """Class numbers, int64 (n,), of every part, and the class names.

    ``parts`` are labels by the name of their argument. Names stand for their place in ``classes``, sorted where those
    are not given. Numbers without ``classes`` are named by themselves, from the lowest on: 0 … 9 gives "0" … "9", and
    1 … 10 (as in MATLAB) "1" … "10", without a class 0 that no example has. With ``classes`` they are places in it.

    Raises ArgumentError, naming the argument, for labels of another type or number of dimensions, for names that
    ``classes`` has not, for a number below 0 (−1 often marks what has no label) and for far more classes than examples.
    """
    arrays = {argument: _array(labels, argument) for argument, labels in parts.items()}
    texts = {argument: array.dtype.kind == "U" for argument, array in arrays.items()}
    if any(texts.values()):
        other = next((argument for argument, is_text in texts.items() if not is_text), None)
        if other is not None:
            raise ArgumentError(other, _described(arrays[other]), "names, as the other labels are")
        names = tuple(classes) if classes is not None else tuple(numpy.unique(numpy.concatenate([*arrays.values()])))
        return [_places(array, names, argument) for argument, array in arrays.items()], tuple(map(str, names))
    numbers = {argument: torch.from_numpy(array.astype(numpy.int64)) for argument, array in arrays.items()}
    if classes is not None:
        return [*numbers.values()], tuple(classes)
    lowest, highest, examples = _range(numbers)
    if highest - lowest >= max(_FEW, examples):
        wanted = f"class numbers without wide gaps: {highest - lowest + 1:,} classes for {examples:,} examples"
        raise ArgumentError("labels", highest, wanted, "Number the classes 0, 1, 2 …, or give labels as names")
    return [part - lowest for part in numbers.values()], tuple(map(str, range(lowest, highest + 1)))


def _array(labels: Labels, argument: str) -> numpy.ndarray:
    """Integers of this machine's byte order that fit into 63 bits, or text; (n,)."""
    try:
        array = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else numpy.asarray(labels)
    except (ValueError, TypeError, RuntimeError) as error:  # lists within lists of different lengths, bfloat16 …
        raise ArgumentError(argument, type(labels).__name__, _WANTED, str(error)) from error
    if array.size == 0 and array.ndim == 1:
        return array.astype(numpy.int64)
    if array.dtype.kind == "O" and array.ndim == 1 and all(isinstance(each, str) for each in array):
        array = array.astype(str)
    if array.dtype.kind == "S":
        try:
            array = numpy.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise ArgumentError(argument, _described(array), _WANTED, "The names are not UTF-8") from error
    if array.dtype.kind not in "iuU" or array.ndim != 1:
        raise ArgumentError(argument, _described(array), _WANTED)
    if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
        raise ArgumentError(argument, int(array.max()), "class numbers")
    return array


def _places(array: numpy.ndarray, names: tuple[str, ...], argument: str) -> torch.Tensor:
    place = {name: number for number, name in enumerate(names)}
    for name in numpy.unique(array):
        if str(name) not in place:
            shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
            raise ArgumentError(argument, str(name), f"names among the classes {shown}")
    return torch.tensor([place[str(name)] for name in array], dtype=torch.int64)


def _range(numbers: dict[str, torch.Tensor]) -> tuple[int, int, int]:
    """Lowest and highest label, 0 where there are none; how many labels there are."""
    lowest, highest = [], []
    for argument, part in numbers.items():
        if not len(part):
            continue
        low = int(part.min())
        if low < 0:
            raise ArgumentError(
                argument, low, "class numbers from 0 on", "-1 often marks what has no label: leave it out"
            )
        lowest.append(low)
        highest.append(int(part.max()))
    return min(lowest, default=0), max(highest, default=0), sum(map(len, numbers.values()))


def _described(array: numpy.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


_WANTED = "a list of integers or of names, one a picture"
