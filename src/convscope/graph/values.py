"""What a recording knows of each tensor: the node that made it, and with which other tensors it shares memory."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from convscope.graph import memory as functions
from convscope.graph import structure
from convscope.graph.heard import words


class UnseenError(Exception):
    """Something was done to a tensor that the recording did not see, or cannot express."""


@dataclasses.dataclass(eq=False)
class View:
    """How a tensor was made as a view of another: ``target`` (a method's name, a function, or None for a module)."""

    parent: Value
    op: str
    target: Any
    args: tuple[Any, ...]  # nodes and constants, without the parent
    keywords: dict[str, Any]
    path: tuple[Any, ...]


@dataclasses.dataclass(eq=False)
class Memory:
    """Memory that several tensors may share. ``writes`` counts how often it was changed in place; ``pending`` are the
    parts that were changed since ``base`` was last named: (part's value, its node, unseen by autograd)."""

    base: Value
    members: list[Value] = dataclasses.field(default_factory=list)
    writes: int = 0
    pending: list[tuple[Value, fx.Node, bool]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False)
class Value:
    """One tensor. ``node`` (and ``path`` into its result) made its present contents as of ``writes``; ``cut`` says that
    gradients do not flow through it. ``held`` is the target of a get_attr where the model, not a call, made it."""

    tensor: Tensor
    node: fx.Node
    path: tuple[Any, ...]
    version: int
    cut: bool = False
    held: str | None = None
    given: bool = False  # an input of the model
    view: View | None = None
    memory: Memory = dataclasses.field(init=False)
    writes: int = 0
    first: tuple[fx.Node, tuple[Any, ...]] = dataclasses.field(init=False)  # what it was at the beginning

    def __post_init__(self) -> None:
        self.first = self.node, self.path


def version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def storage_of(tensor: Tensor) -> Any:
    """What tensors that share memory have in common; something of its own where there is no plain memory."""
    if tensor.layout is not torch.strided or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return id(tensor)
    return tensor.untyped_storage()._cdata


class Values:
    """All tensors of a recording by identity. They are kept, so that no identity is used twice."""

    def __init__(self, emit: Callable[..., fx.Node]) -> None:
        self._emit = emit
        self._by_id: dict[int, Value] = {}
        self._memories: dict[Any, Memory] = {}
        self._kept: list[Tensor] = []
        self._log: list[tuple[Any, dict[str, Any] | None]] = []

    def find(self, tensor: Tensor) -> Value | None:
        return self._by_id.get(id(tensor))

    def all(self) -> list[Value]:
        return list(self._by_id.values())

    def mark(self) -> int:
        """A point to go back to."""
        return len(self._log)

    def go_back(self, mark: int) -> None:
        """Forget what has happened to values since ``mark``."""
        while len(self._log) > mark:
            item, before = self._log.pop()
            if before is None:
                self._forget(item)
            else:
                item.__dict__.clear()
                item.__dict__.update(before)

    def _note(self, item: Value | Memory) -> None:
        self._log.append((item, dict(item.__dict__)))  # lists inside are replaced, never changed

    def add(self, tensor: Tensor, node: fx.Node, path: tuple[Any, ...] = (), **more: Any) -> Value:
        """A tensor that ``node`` made; one already known stands for this node's result from now on."""
        found = self._by_id.get(id(tensor))
        if found is not None:
            self._note(found)
            found.node, found.path, found.cut = node, path, bool(more.get("cut", False))
            found.writes, found.version = found.memory.writes, version(tensor)
            return found
        value = Value(tensor, node, path, version(tensor), **more)
        key = storage_of(tensor)
        if key not in self._memories:
            self._memories[key] = Memory(value)
        value.memory = self._memories[key]
        value.memory.members.append(value)
        value.writes = value.memory.writes
        self._by_id[id(tensor)] = value
        self._log.append((value, None))
        self._kept.append(tensor)
        return value

    def _forget(self, value: Value) -> None:
        """As if the tensor had never been seen."""
        del self._by_id[id(value.tensor)]
        value.memory.members.remove(value)
        if value.memory.base is value:
            del self._memories[storage_of(value.tensor)]

    def sharing(self, tensor: Tensor) -> Memory | None:
        return self._memories.get(storage_of(tensor))

    def node(self, value: Value) -> fx.Node:
        """The node whose result is the tensor as it is now."""
        if value.writes != value.memory.writes:
            self._refresh(value)
        return self._named(value)

    def _named(self, value: Value) -> fx.Node:
        """A node of its own for what ``value`` stands for, be it out of date or not."""
        if value.node._erased:
            if value.held is None:
                raise UnseenError("uses a tensor that was made inside an opaque step")
            self._note(value)
            value.node, value.path = self._emit("get_attr", value.held, (), {}), ()
        if value.path or (value.cut and torch.is_grad_enabled()):
            self._note(value)
        for key in value.path:
            function = getattr if isinstance(key, structure.Field) else operator.getitem
            value.node = self._emit("call_function", function, (value.node, key), {})
        value.path = ()
        if value.cut and torch.is_grad_enabled():
            value.node, value.cut = self._emit("call_method", "detach", (value.node,), {}), False
        return value.node

    def _refresh(self, value: Value) -> None:
        """Name the present contents of a tensor whose memory was changed by another name."""
        memory = value.memory
        if value is memory.base:
            node = self._named(value)
            for part, changed, straight in memory.pending:
                chain = self._views(part, value)
                node = self._emit("call_function", functions.with_part, (node, changed, chain, straight), {})
            self._note(value)
            self._note(memory)
            memory.pending = []
            value.node, value.path = node, ()
        elif value.view is not None:
            view = value.view
            parent = self.node(view.parent)
            node = self._emit(view.op, view.target, (parent, *view.args), view.keywords)
            self._note(value)
            value.node, value.path = node, view.path
        else:
            raise UnseenError("shares memory with another tensor in a way that no recorded call made")
        value.writes = memory.writes

    def before_writing(self, value: Value) -> None:
        """Name what will be needed once the tensor is written, and complain now where the part cannot be told."""
        self.node(value)
        if value.memory.base is not value:
            self._views(value, value.memory.base)

    def written(self, value: Value, node: fx.Node, straight: bool) -> None:
        """``node``'s result is what the tensor holds now; all others of its memory must be named anew."""
        memory = value.memory
        self._note(memory)
        for member in memory.members:  # views count their writes together
            self._note(member)
            member.version = version(member.tensor)
        memory.writes += 1
        if value is memory.base:
            memory.pending = []
        else:
            memory.pending = [entry for entry in memory.pending if entry[0] is not value or entry[2] != straight]
            memory.pending.append((value, node, straight))
        value.node, value.path, value.cut = node, (), False
        value.writes = memory.writes

    def _views(self, part: Value, base: Value) -> tuple[functions.View, ...]:
        """The way from ``base`` to ``part`` as methods of tensors."""
        chain: list[functions.View] = []
        at = part
        while at is not base:
            view = at.view
            step = None if view is None else _as_method(view)
            if view is None or step is None:
                return (_as_strided(part.tensor, base.tensor),)
            chain.append(step)
            at = view.parent
        return tuple(reversed(chain))


_METHODS = frozenset(
    words("""
    view reshape flatten unflatten transpose permute t narrow select unsqueeze squeeze chunk split unbind detach
    diagonal expand movedim swapaxes swapdims view_as expand_as contiguous
""")
)


def _as_method(view: View) -> functions.View | None:
    name = view.target if isinstance(view.target, str) else getattr(view.target, "__name__", "")
    if name == "getitem":
        name = "__getitem__"
    if view.op == "call_module" or (name not in _METHODS and name != "__getitem__"):
        return None
    return name, view.args, view.keywords, view.path


def _as_strided(part: Tensor, base: Tensor) -> functions.View:
    """``part`` by its place in memory; UnseenError unless a copy of ``base`` lies as ``base`` does."""
    copy = torch.empty_like(base)
    if part.dtype != base.dtype or copy.stride() != base.stride():
        raise UnseenError("changes a part of a tensor in place that cannot be told from outside")
    offset = part.storage_offset() - base.storage_offset()
    last = offset + sum((size - 1) * stride for size, stride in zip(part.shape, part.stride(), strict=True))
    if part.numel() and not 0 <= offset <= last < base.numel():
        raise UnseenError("changes memory in place of which another tensor sees a part only")
    return "as_strided", (tuple(part.shape), tuple(part.stride()), offset), {}, ()
