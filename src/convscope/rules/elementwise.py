"""Element-wise functions y = f(u): one row each, which every reader of a model asks.

A row is a rule with its formula, under the name by which torch knows the function:

    @elementwise("softsign", modules=[nn.Softsign])
    @dataclasses.dataclass(frozen=True)
    class Softsign(Elementwise):
        \"\"\"f(u) = u/(1 + |u|),   f′ = 1/(1 + |u|)².\"\"\"

        def f(self, x: Tensor) -> Tensor:
            return x / (1 + x.abs())

        def slope(self, saved: Tensor) -> Tensor:
            return (1 + saved.abs()) ** -2

Nothing else is to be written for a new function. The rule's fields are its options, under the names that torch gives
the arguments and the module's attributes, in the order of the arguments. Modules, functions, tensor methods and their
in-place forms are bound; traces, training by the rules, counts, receptive fields, the explorer's arithmetic, saved
models and ``convscope.layers.activation`` read the row; the engine runs it where ``engine`` says by which of its kinds.
"""

from __future__ import annotations

import dataclasses
import operator
import re
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.graph.leaves import LEAVES
from convscope.registry import Registry
from convscope.rules.base import (
    Applied,
    Deltas,
    Gradients,
    Rule,
    Saved,
    rule_for_function,
    rule_for_method,
    rule_for_module,
)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of the native engine: a pointwise layer of ``kind`` and its attributes; "affine" is slope·u + offset."""

    kind: str
    attributes: Mapping[str, float] = dataclasses.field(default_factory=dict)


def stage(kind: str, **attributes: float) -> Stage:
    return Stage(kind, {name: float(value) for name, value in attributes.items()})


def affine(slope: float, offset: float = 0.0) -> Stage:
    return stage("affine", slope=slope, offset=offset)


class Elementwise(Rule):
    """x = f(u),   δ_u = δ_x · f′(u)   element by element; Xue 2016, eq. (2)(13)(16).

    A subclass gives ``f`` and ``slope`` = f′, the latter from what ``needs`` names: "x" (the input u) or "y".
    Where f has a bend, f′ is the side that torch takes.
    """

    kind = "activation"
    needs: ClassVar[tuple[str, ...]] = ("x",)
    rectifies: ClassVar[bool] = False
    """Whether f and f′ are 0 for all u ≤ 0: such units can be dead, and a deconvnet treats their δ in its own way."""

    @abstractmethod
    def f(self, x: Tensor) -> Tensor:
        """f(x)."""

    @abstractmethod
    def slope(self, saved: Tensor) -> Tensor:
        """f′ from the saved x or y."""

    def slope_at(self, u: Tensor) -> Tensor:
        """f′(u)."""
        return self.slope(self.f(u) if self.needs == ("y",) else u)

    def limits(self) -> tuple[float, float] | None:
        """What f tends to on both sides, where its derivative vanishes; None where it does not saturate."""
        return None

    def engine(self) -> tuple[Stage, ...] | str | None:
        """The native engine's stages, one after another; why it cannot with these options; None: it has no kind."""
        return None

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        y = self.f(x)
        return y, {"y": y} if self.needs == ("y",) else {"x": x}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (delta * self.slope(saved[self.needs[0]]),), {}

    def at_u(self, saved: Saved, inputs: tuple[Any, ...], y: Any, delta: Any) -> tuple[Any, Any]:
        return inputs[0], None if delta is None else self.backward(saved, delta)[0][0]


@dataclasses.dataclass(frozen=True)
class Row:
    """An element-wise function and all the forms in which a model may call it.

    ``rule`` is the class; an instance of it holds the options of one use. ``modules`` are bound by exact class;
    ``functions`` have the public name of each, such as "torch.relu".
    """

    name: str
    rule: type[Elementwise]
    modules: list[type[nn.Module]] = dataclasses.field(default_factory=list)
    functions: dict[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)
    methods: list[str] = dataclasses.field(default_factory=list)

    @property
    def options(self) -> dict[str, Any]:
        """The options by name, in the order of the function's arguments, with their defaults."""
        fields = dataclasses.fields(self.rule)  # type: ignore[arg-type]  # every row's rule is a dataclass
        return {field.name: field.default for field in fields if field.init}

    @property
    def formulas(self) -> tuple[str, str]:
        """f and f′ as text, e.g. ("max(0, u)", "1 where u > 0, else 0"): the opening of the rule's docstring."""
        opening = re.split(r"\n\s*\n", self.rule.__doc__ or "")[0]
        found = re.match(r"f\(u\) = (.*?), +f′ = (.*?)(;.*|\. .*|\.)?$", re.sub(r"\n *", " ", opening))
        assert found is not None, f"{self.rule.__name__}'s docstring must open with f(u) = …,   f′ = …"
        return found[1].strip(), found[2].strip()

    def of_module(self, module: nn.Module) -> Elementwise:
        """The rule with the module's options."""
        return self.rule(**{name: getattr(module, name) for name in self.options})

    def of_call(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Elementwise | None:
        """The rule for options given so, behind the tensor; None for a form of call that it does not know."""
        options = self.options
        names = (*options, "inplace")
        given = {**dict(zip(names, arguments, strict=False)), **keywords}
        given.pop("inplace", None)
        known = len(arguments) <= len(names) and given.keys() <= options.keys()
        plain = all(value is None or isinstance(value, bool | int | float | str) for value in given.values())
        complete = all(name in given or default is not dataclasses.MISSING for name, default in options.items())
        return self.rule(**given) if known and plain and complete else None

    def bind(
        self,
        modules: Iterable[type[nn.Module]] = (),
        functions: Iterable[Callable[..., Any]] = (),
        methods: Iterable[str] = (),
        named: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        """More forms of the same function, such as a module of one's own; ``named``: functions by public names."""

        def apply(input: Tensor, *arguments: Any, **keywords: Any) -> Applied | None:
            rule = self.of_call(arguments, keywords) if _is_real(input) else None
            return None if rule is None else Applied(rule, (input,))

        for module in modules:
            self.modules.append(module)
            _of_module[module] = self
            LEAVES.add(module)
            rule_for_module(module)(lambda module, input: self.of_module(module) if _is_real(input) else None)
        found = {f"{function.__module__}.{function.__qualname__}": function for function in functions}
        for name, function in (found | dict(named or {})).items():
            if _of_call.setdefault(function, self) is self and function not in self.functions.values():
                rule_for_function(function)(apply)
            self.functions[name] = function
        for method in methods:
            self.methods.append(method)
            _of_call[method] = self
            rule_for_method(method)(apply)


ELEMENTWISE: Registry[Row] = Registry("element-wise function", "convscope.rules")
"""The table."""

_of_module: dict[type[nn.Module], Row] = {}
_of_call: dict[Any, Row] = {}  # functions, and methods by name
_SPACES = (F, torch, torch.special, operator)
R = TypeVar("R", bound=type[Elementwise])


def elementwise(
    name: str,
    *,
    called: Iterable[str] | None = None,
    modules: Iterable[type[nn.Module]] = (),
    functions: Iterable[Callable[..., Any]] = (),
    methods: Iterable[str] = (),
) -> Callable[[R], R]:
    """Add a row. Beside what is given it has whatever has one of the names ``called`` (by default ``name``), in place
    or not, in ``torch``, ``torch.nn.functional``, ``torch.special``, ``operator`` and among the methods of tensors."""

    def enrol(rule: R) -> R:
        names = (name,) if called is None else tuple(called)
        forms = [form for each in names for form in (each, f"{each}_")]
        places = [(space, form) for space in _SPACES for form in forms if callable(getattr(space, form, None))]
        named = {f"{space.__name__.lstrip('_')}.{form}": getattr(space, form) for space, form in places}
        own = [form for form in (*forms, *(f"__{each}__" for each in names)) if hasattr(Tensor, form)]
        row = ELEMENTWISE.add(name, Row(name, rule))
        assert row.formulas
        row.bind(modules, functions, dict.fromkeys((*methods, *own)), named)
        return rule

    return enrol


def row_of(module: nn.Module | type[nn.Module] | None, target: Any = None) -> Row | None:
    """The row of a module (or its class), else of a function or a tensor method's name; None where there is none."""
    ELEMENTWISE.names()  # all rows are there
    if module is not None:
        return _of_module.get(module if isinstance(module, type) else type(module))
    try:
        return _of_call.get(target)
    except TypeError:  # a target that cannot be hashed
        return None


def public_names() -> tuple[dict[str, type[nn.Module]], dict[str, Callable[..., Any]], set[str]]:
    """Modules and functions of all rows by the names under which a saved model calls them, and the methods."""
    rows = [ELEMENTWISE[name] for name in ELEMENTWISE]
    modules = {_public(cls): cls for row in rows for cls in row.modules}
    functions = {name: function for row in rows for name, function in row.functions.items()}
    return modules, functions, {method for row in rows for method in row.methods}


def _public(cls: type[nn.Module]) -> str:
    """The shortest path by which the class can be reached, "torch.nn.ReLU"."""
    parts = cls.__module__.split(".")
    packages = [".".join(parts[: length + 1]) for length in range(len(parts))]
    homes = [name for name in packages if getattr(sys.modules.get(name), cls.__qualname__, None) is cls]
    return f"{(homes or packages[-1:])[0]}.{cls.__qualname__}"


def rule_of(
    module: nn.Module | None, target: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> Elementwise | None:
    """The rule, with its options, of one call of a module, function or method; None where no row knows the call.

    ``arguments`` are the call's own, whatever stands for its tensor among them.
    """
    row = row_of(module, target)
    if row is None or module is not None:
        return None if row is None or module is None else row.of_module(module)
    options = {name: value for name, value in keywords.items() if name != "input"}
    return row.of_call(arguments if "input" in keywords else arguments[1:], options)


def _is_real(item: Any) -> bool:
    return isinstance(item, Tensor) and item.is_floating_point()
