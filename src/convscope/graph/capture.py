"""The one graph that all readers of a model share: a record of one real call, with whole layers as its leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from convscope.errors import ArgumentError
from convscope.graph import structure
from convscope.graph.examples import example_inputs
from convscope.graph.leaves import has_global_hooks, is_layer, why_opaque
from convscope.graph.recorder import NOT_OF_THE_MODEL, Recorder, StoppedCall
from convscope.graph.untouched import Untouched

_ONE_AT_A_TIME = threading.RLock()  # two records of one model would each put back what the other is doing
_LITERALS = (type(None), bool, int, float, str)


class FailedCallError(Exception):
    """The model itself raised ``error``, in its module ``path`` (None: in no module of its own) called with ``args``
    and ``keywords``."""

    def __init__(
        self, error: Exception, path: str | None, module: nn.Module | None, args: Any, keywords: dict[str, Any]
    ) -> None:
        self.error, self.path, self.module, self.args_given, self.keywords = error, path, module, args, keywords
        super().__init__(str(error))


class InsufficientError(Exception):
    """A frugal recording's call wanted what was not kept for it."""


class HiddenStateError(ArgumentError):
    """The model uses something, at ``path``, whose state cannot be put back: an iterator, a generator, a file, a queue.
    A call that is only made to look at the model would take from it. It was not called to the end."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            "model",
            path,
            "a model whose state can be put back after a call",
            "It is an iterator, a file or a queue, which a call moves on for good: hold a list and a position in it",
        )


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a captured graph beside its nodes.

    ``opaque``: why a node is a step that nothing can be seen of, by the node's name. ``changes``: attributes, lists and
    objects of the model that the call changed and the graph does not. ``inputs``: what placeholders were given that is
    no tensor. ``codes``: the Python code that ran, with the globals it saw.
    """

    opaque: dict[str, str]
    changes: tuple[str, ...]
    inputs: dict[str, Any]
    codes: dict[Any, Any]

    def __deepcopy__(self, memo: dict[int, Any]) -> Facts:
        return self


def capture(model: nn.Module, *inputs: Any, **named: Any) -> fx.GraphModule:
    """The model as a graph whose leaves are torch.nn layers, ``convscope.layers`` modules, functions and methods.

    The model is called once on ``inputs`` (without any: on an example made from its description), with autograd, and
    what it does is recorded: the branches that it takes, in the modes that its modules are in. The graph is functional:
    where the model works in place, later nodes read the new value, whatever name it is read by. What goes on for good
    (a buffer counted up) is a call of ``graph.memory.update``. Gradients flow through the graph as through the model.

    What a record cannot tell (custom autograd functions, compiled code, hooks, decisions by the data, chance from
    elsewhere than torch's generator) is one opaque step: the innermost module around it, at worst the whole model as
    the single leaf ``model``. The leaves are the model's own modules, not copies. Nothing is changed: neither the model
    nor the inputs nor the states of generators. ``source_model(graph)`` gives the model back, ``facts(graph)`` what
    else is known.

    Raises ArgumentError when ``model`` is not an ``nn.Module`` or no example can be made, HiddenStateError where it
    uses an iterator or the like, and whatever the model raises.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError("model", type(model).__name__, "a torch.nn.Module")
    try:
        return captured_already(model) or record(model, inputs, named)
    except FailedCallError as failed:
        raise failed.error from None


def captured_already(model: nn.Module) -> fx.GraphModule | None:
    """The model itself, where it is the graph that a capture made."""
    return model if isinstance(model, fx.GraphModule) and "convscope_model" in model.__dict__ else None


def record(
    model: nn.Module,
    inputs: tuple[Any, ...],
    named: dict[str, Any] | None = None,
    look: Callable[[Any, list[Tensor]], None] | None = None,
    results: dict[fx.Node, Any] | None = None,
) -> fx.GraphModule:
    """``capture``, which raises FailedCallError where the model raises something; what says nothing of the model or its
    inputs (NOT_OF_THE_MODEL) goes through as it is.

    ``look(result, leaves)`` is called while the call's own history for autograd is still whole: ``leaves`` are the
    floating-point input tensors, each requiring a gradient where the tensor given does. ``results`` gets what each
    call put out, ``Kept`` for every tensor, by the graph's nodes.
    """
    compiler = _COMPILER in sys.modules
    try:
        return _recorded(model, inputs, named or {}, look, results)
    except NOT_OF_THE_MODEL:
        raise
    except Exception:
        if compiler or _COMPILER not in sys.modules:
            raise
    # The call itself brought the compiler in, which cannot work while calls are heard; from now on it is kept quiet.
    if results is not None:
        results.clear()
    return _recorded(model, inputs, named or {}, look, results)


def _recorded(
    model: nn.Module,
    inputs: tuple[Any, ...],
    named: dict[str, Any],
    look: Callable[[Any, list[Tensor]], None] | None,
    results: dict[fx.Node, Any] | None,
) -> fx.GraphModule:
    if not inputs and not named:
        inputs = example_inputs(model)
    allowed: bool = torch._C._autograd._saved_tensors_hooks_is_enabled()  # type: ignore[attr-defined]
    if look is None and results is None and allowed:
        with contextlib.suppress(FailedCallError, InsufficientError):  # its being frugal may be what was in the way
            return _once(model, inputs, named, None, None, frugal=True)
    return _once(model, inputs, named, look, results, frugal=False)


def _once(
    model: nn.Module,
    inputs: tuple[Any, ...],
    named: dict[str, Any],
    look: Callable[[Any, list[Tensor]], None] | None,
    results: dict[fx.Node, Any] | None,
    frugal: bool,
) -> fx.GraphModule:
    with _ONE_AT_A_TIME, _plainly(), _uncompiled():
        untouched = Untouched(model)
        try:
            recorder, placeholders, whole = _record(model, untouched, inputs, named, look, results, frugal)
            changes = tuple(untouched.changes())
        finally:
            untouched.restore()
    recorder.let_go()
    given = {name: value for name, (value, _) in placeholders.items() if not structure.tensors(value)}
    if whole is not None:
        found = Facts({"model": whole}, changes, given, recorder.codes)
        return _module(model, _single_leaf(placeholders), {"model": model}, found)
    found = Facts(recorder.writer.reasons, changes, given, recorder.codes)
    return _module(model, recorder.writer.graph, recorder.writer.origins.constants, found)


def _record(
    model: nn.Module,
    untouched: Untouched,
    inputs: tuple[Any, ...],
    named: dict[str, Any],
    look: Callable[[Any, list[Tensor]], None] | None,
    results: dict[fx.Node, Any] | None,
    frugal: bool,
) -> tuple[Recorder, dict[str, tuple[Any, Any]], str | None]:
    """The recorder that heard the call, the inputs, and why the model is one step (or None)."""
    recorder = Recorder(model, untouched, results, frugal)
    copied: dict[int, tuple[Tensor, Tensor]] = {}
    args, keywords = structure.transform((inputs, dict(named)), lambda leaf: _copy(leaf, copied))
    placeholders = _placeholders(model, args, keywords)
    whole = _why_whole(model)
    for name, (value, default) in placeholders.items():
        if default is inspect.Parameter.empty:
            recorder.given(name, value)
        else:
            recorder.given(name, value, default)
    recorder.listening = whole is None
    if whole is not None and look is None:
        return recorder, placeholders, whole
    try:
        with _keeping_nothing(recorder) if frugal else contextlib.nullcontext(), recorder, recorder.boundaries:
            result = model(*args, **keywords)
    except StoppedCall as stopped:
        raise HiddenStateError(str(stopped)) from None
    except NOT_OF_THE_MODEL:
        raise
    except Exception as error:
        if recorder.stopped is None:
            raise _failed(model, error) from None
    if recorder.stopped is not None:
        raise HiddenStateError(recorder.stopped)
    if recorder.insufficient:
        raise InsufficientError
    if look is not None:
        look(result, [leaf for leaf, _ in copied.values() if leaf.is_floating_point()])
    if whole is None:
        recorder.finish(result)
        whole = recorder.whole
    return recorder, placeholders, whole


def one_step(model: nn.Module, inputs: tuple[Any, ...], reason: str) -> fx.GraphModule:
    """The graph in which the whole model is one opaque step."""
    placeholders = _placeholders(model, inputs, {})
    given = {name: value for name, (value, _) in placeholders.items() if not structure.tensors(value)}
    return _module(model, _single_leaf(placeholders), {"model": model}, Facts({"model": reason}, (), given, {}))


def source_model(graph: fx.GraphModule) -> nn.Module:
    """The model that ``capture`` was given."""
    found = graph.__dict__.get("convscope_model", graph)
    assert isinstance(found, nn.Module)
    return found


def facts(graph: fx.GraphModule) -> Facts:
    """What ``capture`` knows of a graph beside its nodes."""
    found = graph.__dict__["convscope_facts"]
    assert isinstance(found, Facts)
    return found


def find_module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that ``node`` calls; None for a node that calls a function or a method."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """Autograd on, whatever the caller is in."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _keeping_nothing(recorder: Recorder) -> contextlib.AbstractContextManager[Any]:
    """Autograd keeps no tensor: of each it is given the identity."""
    return torch.autograd.graph.saved_tensors_hooks(id, recorder.unpack)


_COMPILER = "torch._dynamo"


@contextlib.contextmanager
def _uncompiled() -> Iterator[None]:
    """Functions that torch.compile has compiled run as they are written, so that what they call is heard: the compiler
    cannot work in a mode of torch functions, and would compile the mode with them."""
    if _COMPILER not in sys.modules:  # nothing is compiled yet, and to import it takes a second
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _why_whole(model: nn.Module) -> str | None:
    """Why there is no use in looking into the model."""
    if is_layer(model):
        return "it is a layer"
    if has_global_hooks():
        return "hooks are set for all modules"
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        return "autocast is on"
    return why_opaque(model)


def _copy(leaf: Any, copied: dict[int, tuple[Tensor, Tensor]]) -> Any:
    """A copy of an input tensor that may be changed in place; the same one for the same tensor."""
    if not isinstance(leaf, Tensor):
        return leaf
    if id(leaf) not in copied:
        fresh = leaf.detach().clone()
        if leaf.requires_grad:
            copied[id(leaf)] = fresh.requires_grad_(), fresh.clone()
        else:
            copied[id(leaf)] = fresh, fresh
    return copied[id(leaf)][1]


def _placeholders(model: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """(value, default) of each input of the call by its name: those of ``forward``'s signature."""
    empty = inspect.Parameter.empty
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        found = {f"input_{index}": (value, empty) for index, value in enumerate(args)}
        return found | {name: (value, empty) for name, value in keywords.items()}
    try:
        bound = signature.bind(*args, **keywords)
    except TypeError as problem:
        got = [*(f"{len(args)} in order" for _ in args[:1]), *keywords]
        raise ArgumentError("inputs", ", ".join(got) or "none", f"those of forward{signature}", f"{problem}.") from None
    found = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            found |= {f"{name}_{index}": (item, empty) for index, item in enumerate(bound.arguments.get(name, ()))}
        elif parameter.kind is parameter.VAR_KEYWORD:
            found |= {key: (item, empty) for key, item in bound.arguments.get(name, {}).items()}
        elif name in bound.arguments or isinstance(parameter.default, _LITERALS):
            value = bound.arguments.get(name, parameter.default)
            optional = parameter.default is not empty and isinstance(value, _LITERALS)
            found[name] = value, value if optional else empty
        # A default that is no literal, a tensor say, is a constant of the graph.
    return dict(sorted(found.items(), key=lambda each: each[1][1] is not empty))  # stable: those without defaults first


def _single_leaf(placeholders: dict[str, tuple[Any, Any]]) -> fx.Graph:
    graph = fx.Graph()
    inputs = [
        graph.placeholder(name) for name, (value, default) in placeholders.items() if default is inspect.Parameter.empty
    ]
    graph.output(graph.call_module("model", tuple(inputs)))
    return graph


def _module(model: nn.Module, graph: fx.Graph, more: dict[str, Any], found: Facts) -> fx.GraphModule:
    """The graph with the modules and tensors that its nodes name."""
    captured = fx.GraphModule(nn.Module(), fx.Graph(), class_name=type(model).__name__)
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            _install(captured, str(node.target), more, model)
    captured.graph = graph
    captured.__dict__["training"] = model.training
    captured.__dict__["convscope_model"] = model
    captured.__dict__["convscope_facts"] = found
    return captured


def _install(captured: fx.GraphModule, target: str, more: dict[str, Any], model: nn.Module) -> None:
    """Make ``target`` lead to what it names, through modules of the graph's own where no whole layer is on the way."""
    if target in more:
        item = more[target]
    else:
        item = model
        for part in target.split("."):
            item = getattr(item, part)
    owner: nn.Module = captured
    *parents, name = target.split(".")
    for parent in parents:
        below = owner.__dict__.get(parent) or owner._modules.get(parent)
        if below is None:
            below = owner._modules[parent] = _Place()
        if not isinstance(below, _Place):
            return  # a layer that is a leaf itself holds it
        owner = below
    if isinstance(item, nn.Module):
        held = owner._modules.get(name)
        owner.__dict__.pop(name, None)
        owner._modules[name] = item
        if isinstance(held, _Place):
            return
    elif not isinstance(owner._modules.get(name), nn.Module):
        owner.__dict__[name] = item


class _Place(nn.Module):
    """Stands on the way to a leaf in the place of a module that was looked into."""


def _failed(model: nn.Module, error: Exception) -> FailedCallError:
    """Where in the model ``error`` was raised: the innermost of its modules on the way."""
    paths = {id(module): path for path, module in reversed(list(model.named_modules()))}
    found: tuple[str | None, nn.Module | None, Any, dict[str, Any]] = (None, None, (), {})
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code is nn.Module._wrapped_call_impl.__code__:
            given = at.tb_frame.f_locals
            module = given["self"]
            if paths.get(id(module)):
                found = paths[id(module)], module, given["args"], given["kwargs"]
        at = at.tb_next
    return FailedCallError(error, *found)
