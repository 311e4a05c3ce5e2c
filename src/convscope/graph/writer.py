"""The graph of a recorded call, as it is written down."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.rnn import PackedSequence

from convscope.graph import heard, memory, sizes, structure
from convscope.graph.heap import is_alone
from convscope.graph.heard import Heard
from convscope.graph.kept import Kept
from convscope.graph.leaves import why_opaque
from convscope.graph.origins import Origins
from convscope.graph.sizes import Fraction, Size
from convscope.graph.untouched import Untouched
from convscope.graph.values import UnseenError, Value, Values, View, storage_of, version

if TYPE_CHECKING:
    from convscope.graph.recorder import Recorder

_CONSTANTS = (
    type(None), bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format,
    type(Ellipsis),
)  # fmt: skip
_STATEFUL = frozenset(("batch_norm", "instance_norm", "embedding", "embedding_bag"))  # functions that change arguments


@dataclasses.dataclass
class Frame:
    """One call of a module (or custom function) that is under way. ``muted``: it will be one step, whatever happens
    inside. ``reason``: why it must be one although it was looked into."""

    place: types.FrameType | None
    module: nn.Module | None
    path: str | None
    nodes: int
    mark: int
    autocast: Any
    chance: Any
    given: tuple[Any, Any] = ((), {})
    target: Any = None  # a custom function's
    muted: bool = False
    reason: str | None = None


@dataclasses.dataclass
class _Made:
    """A tuple that ``node`` put out (or ``path`` in it), and how often its tensors had been written then."""

    nest: tuple[Any, ...]  # kept, so that its identity stays its own
    node: fx.Node
    path: tuple[Any, ...]
    values: list[tuple[Value, int]]

    def is_current(self) -> bool:
        return all(value.memory.writes == writes for value, writes in self.values)


class Writer:
    """Nodes for what ``recorder`` hears. Raises UnseenError for what no node can tell.

    ``reasons``: why a node is one step that nothing can be seen of. ``results``, where given, gets what each call put
    out, by node. ``frugal``: as ``Values`` has it.
    """

    def __init__(
        self,
        recorder: Recorder,
        model: nn.Module,
        untouched: Untouched,
        results: dict[fx.Node, Any] | None,
        frugal: bool = False,
    ) -> None:
        self._recorder = recorder
        self._frugal = frugal
        self.untouched = untouched
        self.results = results
        self.graph = fx.Graph()
        self.origins = Origins(model)
        self.values = Values(self.emit, frugal)
        self.reasons: dict[str, str] = {}
        self.nodes: list[fx.Node] = []
        self._results_in: dict[Any, list[Kept]] = {}
        self._made: dict[int, _Made] = {}

    def let_go(self) -> None:
        """Keep no tensor any longer, at the end of the recording."""
        self.values.let_go()
        self._results_in.clear()
        self._made.clear()

    def let_pass(self) -> None:
        """Let go of the results that the model has done with, where the recording is frugal."""
        if self._frugal:
            for key, made in list(self._made.items()):
                if is_alone(made, "nest"):
                    del self._made[key]
            self.values.let_pass()

    def emit(self, op: str, target: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> fx.Node:
        node = self.graph.create_node(op, target, args, keywords)
        self.nodes.append(node)
        return node

    def step(self, call: Heard, named: tuple[Any, Any], values: list[Value], blind: list[Value], result: Any) -> None:
        """A function or method, as a node, and what it made and changed."""
        args, keywords = named
        if not call.replaces:
            args, keywords = self._copied(args, keywords, blind)
        node = self.emit(call.op, call.target, args, keywords)
        changed = [value for value in dict.fromkeys(values) if version(value.tensor) != value.version]
        if call.replaces:
            target = self.value(call.writes[0])
            self._written(target, node, blind)
            changed = [value for value in changed if value.memory is not target.memory]
            result = None
        changed = self._results(node, result, call.args, changed, blind, call)
        for value in changed:
            name = getattr(call.target, "__name__", call.target)
            if value.held is None or name not in _STATEFUL:
                raise UnseenError(f"changes a tensor in place by {name}")
            self.flush(value, before=node)
            value.version = version(value.tensor)

    def _results(
        self, node: fx.Node, result: Any, given: Any, changed: list[Value], blind: list[Value], call: Heard
    ) -> list[Value]:
        """Note the tensors that ``node`` put out; the values that were changed but not put out are left."""
        if self.results is not None and not _holds_packed(result):
            self.results[node] = structure.transform(result, self._aside)
        cut = not torch.is_grad_enabled() and bool(structure.tensors(given))
        left = list(changed)
        for path, leaf in structure.walk(result):
            if not isinstance(leaf, Tensor):
                continue
            known = self.values.find(leaf)
            if known is not None and known in left:
                left = [value for value in left if value.memory is not known.memory]
                self._written(known, self.taken(node, path), blind)
                continue
            fresh = known is None
            value = self.values.add(leaf, node, path, cut=cut and leaf.is_floating_point())
            if fresh and value.memory.base is not value:
                value.view = self._view(value, call, node)
        if not cut and isinstance(result, tuple):
            self._remember(result, node)
        return left

    def _remember(self, result: tuple[Any, ...], node: fx.Node) -> None:
        """Who returns or passes on the very tuple that a call put out, or a packed sequence in it, means the call."""
        packed = [(index, item) for index, item in enumerate(result) if isinstance(item, PackedSequence)]
        for path, item in (((), result), *(((index,), item) for index, item in packed)):
            values = [self.value(tensor) for tensor in structure.tensors(item)]
            self._made[id(item)] = _Made(item, node, path, [(value, value.memory.writes) for value in values])

    def _whole(self, nest: tuple[Any, ...]) -> fx.Node | None:
        """The node that put out this tuple as it is; for a packed sequence one that builds it."""
        made = self._made.get(id(nest))
        if made is not None and not made.node._erased and made.is_current():
            return self.taken(made.node, made.path)
        if not isinstance(nest, PackedSequence):
            return None
        return self.emit("call_function", PackedSequence, tuple(self.name(item) for item in nest), {})

    def _view(self, value: Value, call: Heard, node: fx.Node) -> View | None:
        """How ``value`` is a part of the call's first argument, where it is."""
        first = call.args[0] if call.args else None
        parent = self.values.find(first) if isinstance(first, Tensor) else None
        if parent is None or parent.memory is not value.memory or not node.args:
            return None
        return View(parent, node.op, node.target, tuple(node.args[1:]), dict(node.kwargs), value.path)

    def taken(self, node: fx.Node, path: tuple[Any, ...]) -> fx.Node:
        for key in path:
            function = getattr if isinstance(key, structure.Field) else heard.getitem
            node = self.emit("call_function", function, (node, key), {})
        return node

    def _written(self, value: Value, node: fx.Node, blind: Iterable[Value]) -> None:
        """``node`` is what the tensor holds from now on."""
        base = value.memory.base
        if value in blind:  # autograd did not see it: the gradient passes as if nothing had been written
            before = self.values.node(value)
            cut = self.emit("call_method", "detach", (node,), {})
            node = self.emit("call_function", memory.with_part, (before, cut, (), True), {})
        silent = not torch.is_grad_enabled() and value not in blind and _has_gradients(value.tensor)
        if silent and base is not value:  # the graph is run with autograd listening
            node = self.emit("call_method", "detach", (node,), {})
        straight = base is not value and base.tensor.requires_grad and not value.tensor.requires_grad
        self.values.written(value, node, straight or value in blind)
        value.cut = silent and base is value

    def one_step(self, frame: Frame, result: Any) -> None:
        """A whole module, or custom function, as one node."""
        args, keywords = self.name(frame.given)
        inputs = [self.value(tensor) for tensor in structure.tensors(frame.given)]
        looked_at = self.values.all() if frame.reason is not None else list(dict.fromkeys(inputs))
        changed = self._changed_by(frame.module, looked_at)
        blind = [value for value in changed if value.tensor.requires_grad and not torch.is_grad_enabled()]
        args, keywords = self._copied(args, keywords, blind)
        if frame.module is not None:
            node = self.emit("call_module", frame.path, args, keywords)
        else:
            node = self.emit("call_function", frame.target, args, keywords)
        if frame.reason is not None:
            self.reasons[node.name] = frame.reason
        step = Heard("step", node.op, node.target, frame.given[0], frame.given[1])
        if self._results(node, result, frame.given, changed, blind, step):
            raise UnseenError(f"{frame.path or frame.target} changes a tensor in place")

    def _changed_by(self, module: nn.Module | None, looked_at: list[Value]) -> list[Value]:
        """What a step has changed in place that is not its own; its own must hold what the graph says it does."""
        own: set[int] = set()
        if module is not None:
            own = {id(each) for each in (*module.parameters(), *module.buffers())}
            for value in self.values.all():
                if id(value.tensor) in own:
                    self.flush(value)
        changed = [value for value in looked_at if version(value.tensor) != value.version]
        for value in changed:
            if id(value.tensor) in own:
                value.version = version(value.tensor)
        return [value for value in changed if id(value.tensor) not in own]

    def _copied(self, args: Any, keywords: Any, blind: list[Value]) -> tuple[Any, Any]:
        """Arguments with copies of what is written unseen by autograd: the graph is run with autograd listening, which
        this writing must escape."""
        copies: dict[fx.Node, fx.Node] = {}
        for value in blind:
            before = self.values.node(value)
            copies[before] = self.emit("call_method", "clone", (before,), {})
        return fx.node.map_arg((args, keywords), lambda node: copies.get(node, node)) if copies else (args, keywords)

    def discard(self, frame: Frame) -> None:
        """Forget what was recorded inside."""
        self.values.go_back(frame.mark)
        for node in reversed(self.nodes[frame.nodes :]):
            self.reasons.pop(node.name, None)
            self.graph.erase_node(node)
        del self.nodes[frame.nodes :]

    def flush(self, value: Value, before: fx.Node | None = None) -> None:
        """See to it that a tensor of the model itself holds what the graph says of it, before a step reads it."""
        if value.held is None or _is_current(value):
            return
        if before is not None:
            raise UnseenError("changes its state in place by several ways")
        node = self.values.node(value)
        held = self.emit("get_attr", value.held, (), {})
        self.emit("call_function", memory.update, (held, node), {})
        self.values.written(value, held, straight=False)

    def write_updates(self) -> None:
        """What the call changed of inputs, parameters and buffers, in place or by putting another tensor there."""
        for value in self.values.all():
            if _is_current(value) or (value.held is None and not value.given):
                continue
            if value.given:
                self.emit("call_function", memory.update, (self.taken(*value.first), self.values.node(value)), {})
            else:
                held = self.emit("get_attr", value.held, (), {})
                self.emit("call_function", memory.update, (held, self.values.node(value)), {})
        for path, old, new in self.untouched.exchanged_buffers():
            if not isinstance(new, Tensor) or not isinstance(old, Tensor):
                continue
            known = self.values.find(new)
            if known is not None and new.shape == old.shape and new.dtype == old.dtype:
                held = self.emit("get_attr", path, (), {})
                self.emit("call_function", memory.update, (held, self.values.node(known)), {})
                self.untouched.expressed(path)

    def built(self, result: Any) -> Any:
        """The call's result with nodes for tensors; containers of classes of their own are built by nodes."""
        if isinstance(result, Tensor):
            return self.values.node(self.value(result))
        if isinstance(result, tuple) and type(result) not in (tuple, torch.Size) and not hasattr(result, "_fields"):
            return self.emit("call_function", type(result), ([self.built(item) for item in result],), {})
        if isinstance(result, tuple) and (whole := self._whole(result)) is not None:
            return whole
        if isinstance(result, tuple):
            items = [self.built(item) for item in result]
            return type(result)(*items) if hasattr(result, "_fields") else tuple(items)
        if structure.is_record(result):
            fields = {field.name: self.built(getattr(result, field.name)) for field in dataclasses.fields(result)}
            return self.emit("call_function", type(result), (), fields)
        if isinstance(result, dict):
            pairs = {key: self.built(item) for key, item in result.items()}
            return pairs if type(result) is dict else self.emit("call_function", type(result), (pairs,), {})
        if isinstance(result, list):
            return [self.built(item) for item in result]
        if isinstance(result, _CONSTANTS):
            return self.name(result)
        raise UnseenError(f"returns a {type(result).__name__}")

    def name(self, given: Any) -> Any:
        """Arguments with nodes for tensors and sizes."""
        return structure.transform(given, self._name_leaf, self._whole)

    def _name_leaf(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return self.values.node(self.value(leaf))
        if isinstance(leaf, Size | Fraction):
            source = sizes.source_of(leaf, self._recorder)
            return sizes.plain(leaf) if source is None else source.node()
        if isinstance(leaf, np.generic):
            return leaf.item()
        if isinstance(leaf, _CONSTANTS):
            return leaf
        if isinstance(leaf, torch.Generator):
            self.untouched.keep_generator(leaf)
        elif not isinstance(leaf, np.ndarray):
            raise UnseenError(f"passes a {type(leaf).__name__} on")
        return self.emit("get_attr", self.origins.constant(leaf), (), {})

    def value(self, tensor: Tensor) -> Value:
        known = self.values.find(tensor)
        if known is not None:
            return known
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            raise UnseenError("computes under a transform of torch.func")
        target = self.origins.target(tensor)
        if target is None:
            raise UnseenError("uses a tensor that no recorded call made")
        return self.values.add(tensor, self.emit("get_attr", target, (), {}), held=target)

    def _aside(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        kept = Kept(leaf.detach(), version(leaf))
        self._results_in.setdefault(storage_of(leaf), []).append(kept)
        return kept

    def keep(self, value: Value) -> None:
        """Before a tensor is written: note what it holds, where it is the model's or a result."""
        for each in (value, value.memory.base):
            if each.held is not None:
                self.untouched.keep(each.tensor)
        for kept in self._results_in.pop(storage_of(value.tensor), ()):
            kept.copy()

    def keep_state(self, module: nn.Module) -> None:
        """Before a step that may change its parameters: chance is that it does."""
        if why_opaque(module) is not None or getattr(module, "max_norm", None) is not None:
            for parameter in module.parameters():
                self.untouched.keep(parameter)


def _holds_packed(result: Any) -> bool:
    """Whether a packed sequence is among the results, which takes tensors only."""
    return isinstance(result, tuple) and any(isinstance(each, PackedSequence) for each in (result, *result))


def _has_gradients(tensor: Tensor) -> bool:
    """Whether numbers of its kind can have any."""
    return tensor.is_floating_point() or tensor.is_complex()


def _is_current(value: Value) -> bool:
    """Whether a tensor of the model, or an input, is what it was at the beginning."""
    fresh = value.writes == value.memory.writes
    return not value.memory.writes or (fresh and value.node.op in ("get_attr", "placeholder"))
