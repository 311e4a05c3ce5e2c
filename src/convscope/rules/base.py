"""What a rule is, and how rules are bound to torch modules, functions and methods.

A rule is a small object that holds an operator's options (stride, padding, …) and two methods in plain tensor algebra:
``forward`` and ``backward``. Its docstring opens with the equations. To give a module of your own a rule, decorate one
function that turns the module into its configured rule:

    @rule_for_module(MyScaledTanh)
    def _(module: MyScaledTanh, x: Tensor) -> Rule:
        return ScaledTanh(module.amplitude, module.slope)

- It may return ``Applied`` instead, where inputs lie in tuples or parameters are counted (an LSTM's layers).
- The function receives the module and the inputs of the call, and may return None: "not this case", then the module
  is differentiated by autograd, as every module without a rule is.
- The rule's parameters and buffers are read from the module's attributes of the same names (``rule.parameters``,
  ``rule.buffers``); other names are given by ``names={"weight": "kernels"}``.
- Only the exact class is bound, since a subclass may compute something else; name each class.

A function is bound by a function of the same signature, a tensor method likewise; both say which arguments are inputs
and which parameters:

    @rule_for_function(F.linear)
    def _(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Applied:
        return Applied(Dense(), (input,), {"weight": weight, "bias": bias})

    @rule_for_method("tanh")
    def _(self: Tensor) -> Applied: ...

A new operator: subclass ``Rule`` as a frozen dataclass (its fields are the options), declare ``kind``, ``needs`` and
``parameters``, write ``forward`` and ``backward``. Rules never change their inputs; all work for float32 and float64,
on any device, and for batches (first dimension n).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from convscope.registry import Discovery

Saved = dict[str, Any]
Deltas = tuple[Tensor | None, ...]
Gradients = dict[str, Tensor]
Bind = TypeVar("Bind", bound=Callable[..., Any])


class Rule(ABC):
    """One operator: y = forward(inputs, parameters), and the sensitivities δ = ∂J/∂y taken back through it."""

    kind: ClassVar[str] = "other"
    """The family, e.g. "conv", "pool", "activation"."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What ``forward`` saves for ``backward``: exactly the keys of ``saved``."""
    parameters: ClassVar[tuple[str, ...]] = ()
    """Names of trained tensors that ``forward`` takes after the inputs; ``backward`` has a gradient for each given."""
    buffers: ClassVar[tuple[str, ...]] = ()
    """Names of tensors that ``forward`` takes and may update in place (running statistics); they have no gradient."""

    @abstractmethod
    def forward(self, *inputs: Any, **parameters: Any) -> tuple[Any, Saved]:
        """→ y, saved."""

    @abstractmethod
    def backward(self, saved: Saved, delta: Any) -> tuple[Deltas, Gradients]:
        """δ = ∂J/∂y → (one delta for each input, None where there is none; gradient by parameter name)."""

    def deltas(self, saved: Saved, delta: Any) -> Deltas:
        """The first half of ``backward``. A rule whose gradients cost much gives it alone, as it does ``gradients``."""
        return self.backward(saved, delta)[0]

    def gradients(self, saved: Saved, delta: Any) -> Gradients:
        """The second half of ``backward``."""
        return self.backward(saved, delta)[1]

    def at_u(self, saved: Saved, inputs: tuple[Any, ...], y: Any, delta: Any) -> tuple[Any, Any]:
        """(u, ∂J/∂u): the value before the operator's own non-linearity; an operator without one has u = y. Without a
        ``delta`` (None) only u is wanted."""
        return y, delta


@dataclasses.dataclass(frozen=True)
class Applied:
    """A rule at one place of a graph, with what goes into it.

    ``inputs`` in the order of ``rule.forward``; ``arguments`` are parameters and buffers by the rule's names.
    """

    rule: Rule
    inputs: tuple[Any, ...]
    arguments: Mapping[str, Tensor | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _ModuleBinding:
    bind: Callable[..., Rule | Applied | None]
    names: Mapping[str, str]


_modules: dict[type[nn.Module], _ModuleBinding] = {}
_functions: dict[Any, Callable[..., Applied | None]] = {}
_methods: dict[str, Callable[..., Applied | None]] = {}
#: Imports every module of this package once, so that a new rule file needs no second place that names it.
discover = Discovery(__name__.rpartition(".")[0])


def rule_for_module(*classes: type[nn.Module], names: Mapping[str, str] | None = None) -> Callable[[Bind], Bind]:
    """Bind module classes to ``bind(module, *inputs) → Rule | Applied | None``; ``names``: the rule's name → the
    attribute's."""

    def enrol(bind: Bind) -> Bind:
        for cls in classes:
            assert cls not in _modules, f"{cls.__name__} has two rules"
            _modules[cls] = _ModuleBinding(bind, dict(names or {}))
        return bind

    return enrol


def rule_for_function(*functions: Callable[..., Any]) -> Callable[[Bind], Bind]:
    """Bind functions to ``bind(<the function's own signature>) → Applied | None``."""

    def enrol(bind: Bind) -> Bind:
        for function in dict.fromkeys(functions):  # torch keeps some functions under several names
            assert function not in _functions, f"{function} has two rules"
            _functions[function] = bind
        return bind

    return enrol


def rule_for_method(*methods: str) -> Callable[[Bind], Bind]:
    """Bind tensor methods, by name, to ``bind(tensor, <the method's own signature>) → Applied | None``."""

    def enrol(bind: Bind) -> Bind:
        for method in methods:
            assert method not in _methods, f"method {method} has two rules"
            _methods[method] = bind
        return bind

    return enrol


def apply_module(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Applied | None:
    """The rule for calling ``module`` so, or None. A module with hooks has none: only a real call runs its hooks."""
    discover()
    binding = _modules.get(type(module))
    if binding is None or module._forward_hooks or module._forward_pre_hooks:
        return None
    inputs, named = _bound(module, args, kwargs)
    rule = binding.bind(module, *inputs, **named)
    if rule is None or isinstance(rule, Applied):
        return rule
    wanted = (*rule.parameters, *rule.buffers)
    return Applied(rule, inputs, {name: getattr(module, binding.names.get(name, name), None) for name in wanted})


def _bound(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments in the order in which ``module.forward`` takes them, and those that it takes by name alone."""
    if "forward" in vars(module):  # of this module alone
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        return bound.args, bound.kwargs
    signature, counts = _signature(type(module).forward, method=True)
    if not kwargs and len(args) in counts:
        return args, kwargs
    bound = signature.bind(*args, **kwargs)
    return bound.args, bound.kwargs


@functools.lru_cache(maxsize=1024)
def _signature(function: Callable[..., Any], method: bool = False) -> tuple[inspect.Signature, range]:
    """A function's signature, of a ``method`` without its object, and how many arguments it takes in order alone.
    Reading a signature, or binding to it, takes longer than many a layer."""
    found = inspect.signature(function)
    if method:
        found = found.replace(parameters=list(found.parameters.values())[1:])
    in_order = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ordered = [each for each in found.parameters.values() if each.kind in in_order]
    needed = sum(each.default is each.empty for each in ordered)
    named = any(each.kind is each.KEYWORD_ONLY and each.default is each.empty for each in found.parameters.values())
    return found, range(0) if named else range(needed, len(ordered) + 1)


def apply_function(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Applied | None:
    """The rule for calling ``function`` so, or None."""
    discover()
    return _call_binding(_functions.get(function), args, kwargs)


def apply_method(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Applied | None:
    """The rule for calling the tensor method so (``args[0]`` is the tensor), or None."""
    discover()
    return _call_binding(_methods.get(method), args, kwargs)


def has_rule(module: nn.Module) -> bool:
    """Whether the module's class is bound to a rule (which may still decline a particular call)."""
    discover()
    return type(module) in _modules


def _call_binding(
    bind: Callable[..., Applied | None] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Applied | None:
    if bind is None:
        return None
    try:
        signature, counts = _signature(bind)
        if kwargs or len(args) not in counts:
            signature.bind(*args, **kwargs)
    except TypeError:  # a call form that the rule does not know, such as out=…
        return None
    return bind(*args, **kwargs)
