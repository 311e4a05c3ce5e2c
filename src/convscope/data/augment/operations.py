"""The operations that augmentation knows: name, parameters with their ranges, and the stage that carries them out."""

from __future__ import annotations

import dataclasses
from typing import Literal

from convscope.errors import ArgumentError, UnknownNameError

Stage = Literal["shift", "sample", "colour", "erase"]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A number of an operation, between ``low`` and ``high``; with a ``default`` it may be left out."""

    name: str
    low: float
    high: float
    default: float | None = None
    whole: bool = False

    def described(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{self.name} {kind} from {self.low:g} to {self.high:g}"


@dataclasses.dataclass(frozen=True)
class Kind:
    """An operation's name, its parameters in order, and one line of help."""

    name: str
    stage: Stage
    help: str
    parameters: tuple[Parameter, ...] = ()

    def usage(self) -> str:
        """How it is written, e.g. "elastic:ALPHA:SIGMA"."""
        return ":".join([self.name, *(parameter.name.upper() for parameter in self.parameters)])


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation with its numbers, as parsed."""

    kind: Kind
    values: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.kind.name

    def __str__(self) -> str:
        return ":".join([self.name, *(f"{value:g}" for value in self.values)])


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("flip", "shift", "mirror left to right, with this probability", (Parameter("p", 0, 1, 0.5),)),
        Kind(
            "crop", "shift", "pad with zeros and cut out again, shifting by up to so many whole pixels",
            (Parameter("pixels", 1, 1024, whole=True),),
        ),
        Kind("translate", "sample", "shift by up to so many pixels, also fractions", (Parameter("pixels", 0, 1024),)),
        Kind("rotate", "sample", "turn by up to so many degrees, either way", (Parameter("degrees", 0, 180),)),
        Kind("scale", "sample", "grow or shrink by up to this part", (Parameter("part", 0, 0.9),)),
        Kind("stretch", "sample", "as scale, width and height each for itself", (Parameter("part", 0, 0.9),)),
        Kind("shear", "sample", "slant by up to so many degrees, either way", (Parameter("degrees", 0, 60),)),
        Kind(
            "elastic", "sample", "smooth random displacement (Simard 2003), by default 34 and 4",
            (Parameter("alpha", 0, 10_000, 34), Parameter("sigma", 0.5, 100, 4)),
        ),
        Kind(
            "width", "sample", "scale the figure to one of the widths least, least + 2, … most (MCDNN: 10 … 20)",
            (Parameter("least", 1, 4096, 10, whole=True), Parameter("most", 1, 4096, 20, whole=True)),
        ),
        Kind("cubic", "sample", "the movements around it take pixels by cubic convolution, which keeps edges sharp"),
        Kind("brightness", "colour", "multiply by 1 ± up to this part", (Parameter("part", 0, 1),)),
        Kind("contrast", "colour", "move away from the mean grey by 1 ± up to this part", (Parameter("part", 0, 1),)),
        Kind("saturation", "colour", "move away from grey by 1 ± up to this part", (Parameter("part", 0, 1),)),
        Kind("hue", "colour", "turn the colours by up to so many degrees, either way", (Parameter("degrees", 0, 180),)),
        Kind("pca", "colour", "noise along the principal colours (AlexNet: 0.1)", (Parameter("sigma", 0, 10, 0.1),)),
        Kind(
            "cutout", "erase", "fill a square of this side, anywhere, with the mean colour",
            (Parameter("side", 1, 1024, whole=True),),
        ),
    )
}  # fmt: skip


def parse_operation(text: str) -> Operation:
    """ "rotate:10" → Operation; ArgumentError for wrong numbers, UnknownNameError with close matches for a name."""
    name, *numbers = (part.strip() for part in text.split(":"))
    if name not in KINDS:
        raise UnknownNameError("augment", name, KINDS)
    kind = KINDS[name]
    wanted = f"{kind.usage()}, {', '.join(parameter.described() for parameter in kind.parameters)}"
    if len(numbers) > len(kind.parameters):
        raise ArgumentError("augment", text, wanted)
    values: list[float] = []
    for place, parameter in enumerate(kind.parameters):
        if place >= len(numbers):
            if parameter.default is None:
                raise ArgumentError("augment", text, wanted)
            values.append(parameter.default)
            continue
        try:
            value = float(numbers[place])
        except ValueError:
            raise ArgumentError("augment", text, wanted) from None
        if not parameter.low <= value <= parameter.high or (parameter.whole and value != int(value)):
            raise ArgumentError("augment", text, wanted)
        values.append(value)
    if name == "width" and len(numbers) == 1:
        values[1] = values[0]  # "width:14" is always 14
    if name == "width" and values[0] > values[1]:
        raise ArgumentError("augment", text, "width:LEAST:MOST with least ≤ most")
    return Operation(kind, tuple(values))
