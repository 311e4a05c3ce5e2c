"""What a recording knows of each tensor: the node that made it, and with which other tensors it shares memory."""

from __future__ import annotations

import dataclasses
import operator
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from convscope.graph import memory as functions
from convscope.graph import structure
from convscope.graph.heap import MANY, give_back, is_alone
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

    key: Any  # as ``storage_of`` has it
    base: Value
    members: list[Value] = dataclasses.field(default_factory=list)
    writes: int = 0
    pending: list[tuple[Value, fx.Node, bool]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False)
class Value:
    """One tensor; what the recording has let go of has none. ``node`` (and ``path`` into its result) made its present
    contents as of ``writes``; ``cut`` says that gradients do not flow through it. ``held`` is the target of a get_attr
    where the model, not a call, made it."""

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

    def __getattr__(self, name: str) -> Any:
        if name == "tensor":
            raise UnseenError("uses a tensor that it was done with")
        raise AttributeError(name)


def version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def storage_of(tensor: Tensor) -> Any:
    """What tensors that share memory have in common; something of its own where there is no plain memory."""
    if tensor.layout is not torch.strided or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return id(tensor)
    return tensor.untyped_storage()._cdata


class Values:
    """All tensors of a recording by identity. What is known by identity is kept, so that none is used twice.

    ``frugal``: not for longer than somebody else has it (``let_pass``). Where that is judged wrongly, the tensor is one
    that no recorded call made, and not mistaken for another.
    """

    def __init__(self, emit: Callable[..., fx.Node], frugal: bool = False) -> None:
        self._emit = emit
        self._frugal = frugal
        self._passing: list[Memory] = []  # of results, where they may pass
        self._passed = 0  # bytes since the system was given back any
        self._by_id: dict[int, Value] = {}
        self._memories: dict[Any, Memory] = {}
        self._made: list[Value] = []
        self._log: list[tuple[Any, dict[str, Any] | None]] = []

    def find(self, tensor: Tensor) -> Value | None:
        return self._by_id.get(id(tensor))

    def all(self) -> list[Value]:
        return list(self._by_id.values())

    def let_go(self) -> None:
        """Keep no tensor any longer, at the end of the recording."""
        for value in self._made:  # it and its memory know each other
            value.__dict__.clear()
        for held in (self._by_id, self._memories, self._made, self._log, self._passing):
            held.clear()

    def let_pass(self) -> None:
        """Let go of the memories whose tensors nobody else has any longer, of each with all of them."""
        left = []
        for memory in self._passing:
            if self._memories.get(memory.key) is not memory:
                continue
            if all(map(_has_passed, memory.members)):
                del self._memories[memory.key]
                self._passed += memory.base.tensor.numel() * memory.base.tensor.element_size()
                for value in memory.members:
                    del self._by_id[id(value.tensor)], value.tensor
            else:
                left.append(memory)
        self._passing = left
        if self._passed >= MANY:
            self._passed = 0
            give_back()

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
                item.__dict__.update(before)

    def _note(self, item: Value | Memory) -> None:
        before = dict(item.__dict__)  # lists inside are replaced, never changed
        before.pop("tensor", None)  # stays the same as long as it is there
        self._log.append((item, before))

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
            self._memories[key] = Memory(key, value)
            if self._frugal:
                self._passing.append(self._memories[key])
        value.memory = self._memories[key]
        value.memory.members.append(value)
        value.writes = value.memory.writes
        self._by_id[id(tensor)] = value
        self._log.append((value, None))
        self._made.append(value)
        return value

    def _forget(self, value: Value) -> None:
        """As if the tensor had never been seen."""
        if "tensor" not in value.__dict__:
            return
        del self._by_id[id(value.tensor)]
        value.memory.members.remove(value)
        if value.memory.base is value:
            del self._memories[value.memory.key]
        del value.tensor

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


def _has_passed(value: Value) -> bool:
    """Whether a result is nobody's but the recording's, and autograd's as what others are views of. Only what has a
    history: without one it might be taken for a constant, if it came back in a way that is not heard."""
    if value.given or value.held is not None or value.tensor.grad_fn is None:
        return False
    return is_alone(value, "tensor", _BY_VIEW if _in_torch(value.tensor) > 1 else 0)


def _in_torch(tensor: Tensor) -> int:
    """How many in torch itself refer to a tensor, Python being one; 1 where torch does not tell."""
    count: int = getattr(tensor, "_use_count", lambda: 1)()
    return count


def _by_view() -> int:
    """How many references more a tensor has of which another is a view."""
    with torch.inference_mode(False):
        base = torch.ones(1)
        before = sys.getrefcount(base)
        view = base[:]
        return sys.getrefcount(base) - before if view._is_view() else 0


_BY_VIEW = _by_view()
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
