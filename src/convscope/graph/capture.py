"""The one graph that all readers of a model share: torch.fx, with whole layers as its leaves."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from convscope.errors import ArgumentError

_OWN_LAYERS = "convscope.layers"
LEAVES: set[type[nn.Module]] = set()
"""Further classes that are whole layers, such as modules of a user's own in the table of element-wise functions."""


class UntraceableError(Exception):
    """A submodule whose graph would not be the same at the next call, e.g. one that draws random numbers itself."""


class _Tracer(fx.Tracer):
    """fx's tracer that remembers in which submodule tracing failed.

    Buffers are traced as attributes too: a forward that updates a buffer in place would otherwise do so while tracing.
    """

    proxy_buffer_attributes = True

    def __init__(self, opaque: frozenset[str]) -> None:
        super().__init__()
        self.opaque = opaque
        self.failed: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self.opaque or _is_own(m):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        name = self.path_of_module(m)
        before = _random_state()
        try:
            result = super().call_module(m, forward, args, kwargs)
            if not _same_random_state(before, _random_state()):
                raise UntraceableError(name)
            return result
        except Exception:
            if self.failed is None:
                self.failed = name
            raise


class WholeModel(nn.Module):
    """A model that cannot be traced, as the single leaf ``model`` of a graph."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)


def capture(model: nn.Module) -> fx.GraphModule:
    """The model as a graph whose leaves are torch.nn layers, ``convscope.layers`` modules, functions and methods.

    A submodule that torch.fx cannot trace (control flow that depends on data, ``*args``, chance drawn in its own
    forward) becomes one opaque leaf; the search goes outwards until the rest can be traced, if need be up to the
    whole model as the single leaf ``model``. The leaves are the model's own modules, not copies. Choices that the
    forward makes by ``self.training`` are those of the mode at this call. Neither the model nor the random state is
    changed. ``source_model(graph)`` gives the model back.

    Raises ArgumentError when ``model`` is not an ``nn.Module``.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError("model", type(model).__name__, "a torch.nn.Module")
    if isinstance(model, fx.GraphModule) and "convscope_model" in model.__dict__:
        return model
    attributes = [(module, dict(module.__dict__)) for module in model.modules()]
    state = _random_state()
    opaque: frozenset[str] = frozenset()
    try:
        graph, constants = (None, {}) if _is_layer(model) else _trace(model, opaque, attributes)
    finally:
        _set_random_state(state)
    if graph is None:
        root: nn.Module = WholeModel(model)
        graph = _single_leaf(model)
    else:
        root = model
    root.__dict__.update(constants)  # GraphModule copies what the graph names; the model itself keeps none of it
    try:
        captured = fx.GraphModule(root, graph, class_name=type(model).__name__)
    finally:
        for name in constants:
            del root.__dict__[name]
    captured.__dict__["convscope_model"] = model
    return captured


def source_model(graph: fx.GraphModule) -> nn.Module:
    """The model that ``capture`` was given."""
    found = graph.__dict__.get("convscope_model", graph)
    assert isinstance(found, nn.Module)
    return found


def find_module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that ``node`` calls; None for a node that calls a function or a method."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def _is_layer(model: nn.Module) -> bool:
    """Whether the model is itself one leaf, such as a lone ``nn.Conv2d``."""
    return fx.Tracer().is_leaf_module(model, "") or _is_own(model)


def _is_own(module: nn.Module) -> bool:
    own = type(module).__module__.startswith(_OWN_LAYERS) and not getattr(module, "looked_into", False)
    return own or type(module) in LEAVES


def _trace(
    model: nn.Module, opaque: frozenset[str], attributes: list[tuple[nn.Module, dict[str, Any]]]
) -> tuple[fx.Graph | None, dict[str, torch.Tensor]]:
    """(graph, tensors made while tracing by name). The innermost submodule that fails is made opaque until tracing
    works; the graph is None when the model itself fails."""
    while True:
        tracer = _Tracer(opaque)
        before = _random_state()
        try:
            graph = tracer.trace(model)
            if _same_random_state(before, _random_state()):
                made = [name for name in tracer.tensor_attrs.values() if name in model.__dict__]
                return graph, {name: model.__dict__[name] for name in made}
        except Exception:  # whatever a forward may raise when it meets a proxy
            if tracer.failed is not None and tracer.failed not in opaque:
                opaque |= {tracer.failed}
                continue
        finally:
            _set_random_state(before)
            for module, saved in attributes:  # a forward may have kept proxies in attributes
                module.__dict__.clear()
                module.__dict__.update(saved)
        return None, {}


def _single_leaf(model: nn.Module) -> fx.Graph:
    graph = fx.Graph()
    taken = inspect.signature(model.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [item.name for item in taken if item.kind in positional and item.default is item.empty]
    inputs = [graph.placeholder(name) for name in names or ["x"]]
    graph.output(graph.call_module("model", tuple(inputs)))
    return graph


def _random_state() -> tuple[torch.Tensor, object]:
    return torch.get_rng_state(), random.getstate()


def _same_random_state(one: tuple[torch.Tensor, object], other: tuple[torch.Tensor, object]) -> bool:
    return torch.equal(one[0], other[0]) and one[1] == other[1]


def _set_random_state(state: tuple[torch.Tensor, object]) -> None:
    torch.set_rng_state(state[0])
    random.setstate(state[1])  # type: ignore[arg-type]
