"""The record of one real call of a model, as a graph."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from convscope.graph import heard, memory, sizes, structure
from convscope.graph.boundaries import Boundaries
from convscope.graph.custom import Applied
from convscope.graph.heard import Heard
from convscope.graph.leaves import is_layer, why_opaque
from convscope.graph.origins import Origins
from convscope.graph.sizes import Fraction, Size
from convscope.graph.untouched import Untouched, foreign_chance, is_generator, same_chance
from convscope.graph.values import UnseenError, Value, Values, View, storage_of, version

_CONSTANTS = (
    type(None), bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format,
    type(Ellipsis),
)  # fmt: skip
_STATEFUL = frozenset(("batch_norm", "instance_norm", "embedding", "embedding_bag"))  # functions that change arguments
_NO_DEFAULT = object()


class Kept:
    """The numbers that a call put out. They are copied before anything writes over them; where that was not foreseen,
    they are gone."""

    def __init__(self, tensor: Tensor, written: int) -> None:
        self._tensor: Tensor | None = tensor
        self._written: int | None = written

    def copy(self) -> None:
        if self._tensor is not None and self._written is not None:
            if version(self._tensor) == self._written:
                self._tensor = self._tensor.clone()
                self._written = None
            else:
                self._tensor = None

    def tensor(self) -> Tensor | None:
        """The numbers, or None."""
        if self._written is not None and self._tensor is not None and version(self._tensor) != self._written:
            self._tensor = None
        return self._tensor


def known_result(results: Mapping[fx.Node, Any], node: fx.Node) -> Any:
    """What ``node`` put out in the recorded call; None where that is not known (any more)."""
    if node not in results:
        return None
    kept = [leaf.tensor() for leaf in structure.leaves(results[node]) if isinstance(leaf, Kept)]
    if any(tensor is None for tensor in kept):
        return None
    return structure.transform(results[node], lambda leaf: leaf.tensor() if isinstance(leaf, Kept) else leaf)


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


class Recorder(TorchFunctionMode):
    """Hears every function that the model calls, and writes the graph.

    What cannot be told from what is heard makes the innermost module under way one opaque step (``reasons``, by the
    node's name), at worst the whole model (``whole``). ``results``, where given, gets what each call put out, by node.
    """

    def __init__(self, model: nn.Module, untouched: Untouched, results: dict[fx.Node, Any] | None = None) -> None:
        super().__init__()
        self.model = model
        self.results = results
        self.untouched = untouched
        self.graph = fx.Graph()
        self.origins = Origins(model)
        self.values = Values(self.emit)
        self.boundaries = Boundaries(self)
        self.listening = False
        self.reasons: dict[str, str] = {}
        self.codes: dict[types.CodeType, Any] = {}
        self._paths = {id(module): path for path, module in reversed(list(model.named_modules()))}
        self._nodes: list[fx.Node] = []
        self._stack: list[Frame] = []
        self._compared: set[Any] = set()
        self._sizes: dict[tuple[int, Any], Size] = {}
        self._drawn: list[Any] = []
        self._results_in: dict[Any, list[Kept]] = {}
        self._push(None, None, None)

    # From outside

    @property
    def whole(self) -> str | None:
        """Why the whole model is one step, or None."""
        return self._stack[0].reason

    def given(self, name: str, value: Any, default: Any = _NO_DEFAULT) -> None:
        """An input of the model; its tensors stand for the placeholder, or for parts of it."""
        node = self.graph.placeholder(name) if default is _NO_DEFAULT else self.graph.placeholder(name, None, default)
        self._nodes.append(node)
        for path, leaf in structure.walk(value):
            if isinstance(leaf, Tensor):
                self.values.add(leaf, node, path, given=True)

    def finish(self, result: Any) -> None:
        """Write what the call returned, and what it changed for good."""
        self.listening = False
        if self.whole is None:
            try:
                output = self._built(result)
                self._write_updates()
                self.graph.output(output)
            except Exception as problem:
                self._fail(problem)

    # From sizes

    def work_out(self, function: Callable[..., Any], operands: tuple[Any, ...]) -> fx.Node:
        return self.emit("call_function", function, self._name(operands), {})

    def compared(self, left: Any, comparison: str, right: Any, outcome: bool) -> None:
        if self._deaf():
            return
        try:
            arguments = self._name((left, comparison, right, outcome))
        except UnseenError as problem:
            self.notice(str(problem))
            return
        if arguments not in self._compared:
            self._compared.add(arguments)
            self.emit("call_function", sizes.expect, arguments, {})

    # From the boundaries

    def enter(self, place: types.FrameType, module: nn.Module, args: Any, keywords: Any) -> None:
        """A module is called."""
        if self._deaf():
            return
        path = self._paths.get(id(module))
        whole = len(self._stack) == 1
        layer = not whole and is_layer(module)
        reason = None if whole else why_opaque(module)
        if reason is not None and (path is None or type(module).__call__ is not nn.Module.__call__):
            self.notice(f"calls a {type(module).__name__} that cannot be told apart: {reason}")
            return
        self._push(place, module, path)
        frame = self._stack[-1]
        frame.given = args, keywords
        if (layer and path is not None) or reason is not None:
            frame.muted, frame.reason = True, reason
            self._keep_state(module)
            if getattr(module, "inplace", False):
                for tensor in structure.tensors((args, keywords)):
                    known = self.values.find(tensor)
                    if known is not None:
                        self._keep(known)

    def enter_function(self, place: types.FrameType, function: Any, args: Any, keywords: Any) -> None:
        """A custom autograd function is called."""
        if self._deaf():
            return
        self._push(place, None, None)
        frame = self._stack[-1]
        frame.given, frame.target, frame.muted = (args, keywords), Applied(function), True

    def leave(self, place: types.FrameType, result: Any) -> None:
        """A call ends that the recorder was told of."""
        frame = self._stack[-1]
        if frame.place is not place:
            return
        try:
            if not frame.muted and frame.reason is None:
                frame.reason = self._unseen(frame, result)
            self._stack.pop()
            if len(self._stack) == 1:
                self._stack[0].reason = self._stack[0].reason or frame.reason
            elif frame.muted or frame.reason is not None:
                self._one_step(frame, result)
        except Exception as problem:
            self._fail(problem)

    def notice(self, reason: str) -> None:
        """Something happened that no graph can tell: the innermost module under way becomes one step."""
        if not self.listening:
            return
        for frame in reversed(self._stack):
            if frame.muted:
                return  # within a step that is called again as a whole
            if frame.path is not None or frame.place is None:
                frame.reason = frame.reason or reason
                return

    def code(self, place: types.FrameType) -> None:
        """A Python function begins: generators of random numbers that it names are looked after."""
        code = place.f_code
        if not self.listening or code in self.codes or heard.is_library(code.co_filename):
            return
        self.codes[code] = place.f_globals
        for name in code.co_names:
            item = place.f_globals.get(name)
            if item is not None and is_generator(item):
                self.untouched.keep_generator(item)
        for name in code.co_freevars:
            item = place.f_locals.get(name)
            if item is not None and is_generator(item):
                self.untouched.keep_generator(item)

    # From torch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._deaf():
            return func(*args, **kwargs)
        self.boundaries.pause()
        try:
            return self._heard(func, args, kwargs)
        finally:
            self.boundaries.resume()

    def _heard(self, func: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        plain_args, plain_keywords = structure.transform((args, keywords), sizes.plain)
        try:
            call = heard.classify(func, args, keywords)
            if call.kind == "size":
                return self._size(call, func, plain_args, plain_keywords)
            if call.kind == "plain":
                return func(*plain_args, **plain_keywords)
            if call.kind == "opaque":
                raise UnseenError(call.reason)
            self._check_autocast()
            named = self._name((call.args, call.keywords))
            values = [self._value(tensor) for tensor in structure.tensors((args, keywords))]
            writes = [self._value(tensor) for tensor in call.writes]
            blind = [value for value in writes if value.tensor.requires_grad and not torch.is_grad_enabled()]
            for value in writes:
                self.values.before_writing(value)
                self._keep(value)
        except Exception as problem:
            self._fail(problem)
            return func(*plain_args, **plain_keywords)
        result = func(*plain_args, **plain_keywords)
        try:
            if call.op != "call_module" and result is not None and not structure.tensors(result) and not call.replaces:
                if values:
                    raise UnseenError(f"its way depends on its data ({getattr(func, '__name__', func)})")
                return result  # worked out of plain numbers
            self._step(call, named, values, blind, result)
        except Exception as problem:
            self._fail(problem)
        return result

    def _fail(self, problem: Exception) -> None:
        if not isinstance(problem, UnseenError):  # a mistake of ours: nothing is known any more
            self._stack[0].reason = f"it could not be recorded ({problem!r})"
        elif self.listening:
            self.notice(str(problem))
        else:
            self._stack[0].reason = str(problem)

    # Writing the graph

    def emit(self, op: str, target: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> fx.Node:
        node = self.graph.create_node(op, target, args, keywords)
        self._nodes.append(node)
        return node

    def _step(self, call: Heard, named: tuple[Any, Any], values: list[Value], blind: list[Value], result: Any) -> None:
        """A function or method, as a node, and what it made and changed."""
        args, keywords = named
        if blind and not call.replaces:  # the graph is run with autograd listening, which this writing must escape
            copies = {
                self.values.node(value): self.emit("call_method", "clone", (self.values.node(value),), {})
                for value in blind
            }
            args, keywords = fx.node.map_arg((args, keywords), lambda node: copies.get(node, node))
        node = self.emit(call.op, call.target, args, keywords)
        changed = [value for value in dict.fromkeys(values) if version(value.tensor) != value.version]
        if call.replaces:
            target = self._value(call.writes[0])
            self._written(target, node, blind)
            changed = [value for value in changed if value.memory is not target.memory]
            result = None
        changed = self._results(node, result, call.args, changed, blind, call)
        for value in changed:
            name = getattr(call.target, "__name__", call.target)
            if value.held is None or name not in _STATEFUL:
                raise UnseenError(f"changes a tensor in place by {name}")
            self._flush(value, before=node)
            value.version = version(value.tensor)

    def _results(
        self, node: fx.Node, result: Any, given: Any, changed: list[Value], blind: list[Value], call: Heard
    ) -> list[Value]:
        """Note the tensors that ``node`` put out; the values that were changed but not put out are left."""
        if self.results is not None:
            self.results[node] = structure.transform(result, self._aside)
        cut = not torch.is_grad_enabled() and bool(structure.tensors(given))
        left = list(changed)
        for path, leaf in structure.walk(result):
            if not isinstance(leaf, Tensor):
                continue
            known = self.values.find(leaf)
            if known is not None and known in left:
                left = [value for value in left if value.memory is not known.memory]
                self._written(known, self._taken(node, path), blind)
                continue
            fresh = known is None
            value = self.values.add(leaf, node, path, cut=cut and leaf.is_floating_point())
            if fresh and value.memory.base is not value:
                value.view = self._view(value, call, node)
        return left

    def _view(self, value: Value, call: Heard, node: fx.Node) -> View | None:
        """How ``value`` is a part of the call's first argument, where it is."""
        first = call.args[0] if call.args else None
        parent = self.values.find(first) if isinstance(first, Tensor) else None
        if parent is None or parent.memory is not value.memory or not node.args:
            return None
        return View(parent, node.op, node.target, tuple(node.args[1:]), dict(node.kwargs), value.path)

    def _taken(self, node: fx.Node, path: tuple[Any, ...]) -> fx.Node:
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
        straight = base is not value and base.tensor.requires_grad and not value.tensor.requires_grad
        self.values.written(value, node, straight or value in blind)

    def _one_step(self, frame: Frame, result: Any) -> None:
        """A whole module, or custom function, as one node."""
        if not frame.muted:
            self._discard(frame)
        self._refresh_chance()
        if frame.autocast != _autocast():
            raise UnseenError("switches autocast on")
        self._check_autocast()
        named = self._name(frame.given)
        inputs = [self._value(tensor) for tensor in structure.tensors(frame.given)]
        looked_at = self.values.all() if frame.reason is not None else list(dict.fromkeys(inputs))
        own = (
            set()
            if frame.module is None
            else {id(each) for each in (*frame.module.parameters(), *frame.module.buffers())}
        )
        if frame.module is not None:
            for value in self.values.all():
                if id(value.tensor) in own:
                    self._flush(value)
        changed = [value for value in looked_at if version(value.tensor) != value.version]
        for value in changed:
            if id(value.tensor) in own:
                value.version = version(value.tensor)
        changed = [value for value in changed if id(value.tensor) not in own]
        blind = [value for value in changed if value.tensor.requires_grad and not torch.is_grad_enabled()]
        args, keywords = named
        for value in blind:
            before = self.values.node(value)
            copy = self.emit("call_method", "clone", (before,), {})
            copies = {before: copy}
            args, keywords = fx.node.map_arg((args, keywords), lambda node, copies=copies: copies.get(node, node))  # type: ignore[misc]
        if frame.module is not None:
            node = self.emit("call_module", frame.path, args, keywords)
        else:
            node = self.emit("call_function", frame.target, args, keywords)
        if frame.reason is not None:
            self.reasons[node.name] = frame.reason
        step = Heard("step", node.op, node.target, frame.given[0], frame.given[1])
        if self._results(node, result, frame.given, changed, blind, step):
            raise UnseenError(f"{frame.path or frame.target} changes a tensor in place")

    def _discard(self, frame: Frame) -> None:
        """Forget what was recorded inside."""
        self.values.go_back(frame.mark)
        for node in reversed(self._nodes[frame.nodes :]):
            self.reasons.pop(node.name, None)
            self.graph.erase_node(node)
        del self._nodes[frame.nodes :]
        self._compared = {
            each for each in self._compared if not any(isinstance(item, fx.Node) and item._erased for item in each)
        }

    def _flush(self, value: Value, before: fx.Node | None = None) -> None:
        """See to it that a tensor of the model itself holds what the graph says of it, before a step reads it."""
        if value.held is None or _is_current(value):
            return
        if before is not None:
            raise UnseenError("changes its state in place by several ways")
        node = self.values.node(value)
        held = self.emit("get_attr", value.held, (), {})
        self.emit("call_function", memory.update, (held, node), {})
        self.values.written(value, held, straight=False)

    def _write_updates(self) -> None:
        """What the call changed of inputs, parameters and buffers, in place or by putting another tensor there."""
        for value in self.values.all():
            if _is_current(value) or (value.held is None and not value.given):
                continue
            if value.given:
                self.emit("call_function", memory.update, (self._taken(*value.first), self.values.node(value)), {})
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

    def _built(self, result: Any) -> Any:
        """The call's result with nodes for tensors; containers of classes of their own are built by nodes."""
        if isinstance(result, Tensor):
            return self.values.node(self._value(result))
        if isinstance(result, tuple) and type(result) not in (tuple, torch.Size) and not hasattr(result, "_fields"):
            return self.emit("call_function", type(result), ([self._built(item) for item in result],), {})
        if isinstance(result, tuple):
            items = [self._built(item) for item in result]
            return type(result)(*items) if hasattr(result, "_fields") else tuple(items)
        if structure.is_record(result):
            fields = {field.name: self._built(getattr(result, field.name)) for field in dataclasses.fields(result)}
            return self.emit("call_function", type(result), (), fields)
        if isinstance(result, dict):
            pairs = {key: self._built(item) for key, item in result.items()}
            return pairs if type(result) is dict else self.emit("call_function", type(result), (pairs,), {})
        if isinstance(result, list):
            return [self._built(item) for item in result]
        if isinstance(result, _CONSTANTS):
            return self._name(result)
        raise UnseenError(f"returns a {type(result).__name__}")

    # Names

    def _name(self, given: Any) -> Any:
        """Arguments with nodes for tensors and sizes."""
        return structure.transform(given, self._name_leaf)

    def _name_leaf(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return self.values.node(self._value(leaf))
        if isinstance(leaf, Size | Fraction):
            source = sizes.source_of(leaf, self)
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

    def _value(self, tensor: Tensor) -> Value:
        known = self.values.find(tensor)
        if known is not None:
            return known
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            raise UnseenError("computes under a transform of torch.func")
        target = self.origins.target(tensor)
        if target is None:
            raise UnseenError("uses a tensor that no recorded call made")
        return self.values.add(tensor, self.emit("get_attr", target, (), {}), held=target)

    def _size(self, call: Heard, func: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        tensor = args[0]
        result = func(*args, **keywords)
        value = self._value(tensor)
        if value.held is not None:
            return result
        if call.target == "__len__":
            self.compared(self._side(value, 0, int(result)), "eq", int(result), True)
            return result
        if call.target in ("numel", "nelement"):
            return self._side(value, None, int(result))
        if isinstance(result, int):
            side = args[1] if len(args) > 1 else keywords["dim"]
            return self._side(value, side % tensor.ndim, int(result))
        return torch.Size([self._side(value, side, size) for side, size in enumerate(result)])

    def _side(self, value: Value, side: int | None, size: int) -> Size:
        """The length of one side of a tensor (None: of all together)."""
        key = id(value), side
        if key not in self._sizes:

            def make() -> fx.Node:
                node = self.values.node(value)
                return self.emit(
                    "call_method", "numel" if side is None else "size", (node,) if side is None else (node, side), {}
                )

            self._sizes[key] = sizes.make_size(self, size, make)
        return self._sizes[key]

    # Frames

    def _push(self, place: types.FrameType | None, module: nn.Module | None, path: str | None) -> None:
        chance = foreign_chance() if not self._stack else self._stack[-1].chance
        self._stack.append(Frame(place, module, path, len(self._nodes), self.values.mark(), _autocast(), chance))

    def _deaf(self) -> bool:
        """Whether what happens now is part of a step that is called as a whole."""
        return not self.listening or any(frame.muted or frame.reason is not None for frame in self._stack)

    def _unseen(self, frame: Frame, result: Any) -> str | None:
        """What was missed between the call's beginning and its end."""
        drawn = self.untouched.drawn()
        if len(drawn) > len(self._drawn) or not same_chance(frame.chance, foreign_chance()):
            self._drawn = drawn
            return "draws chance of its own"
        try:
            for tensor in structure.tensors(result):
                self._value(tensor)
        except UnseenError as problem:
            return str(problem)
        return None

    def _refresh_chance(self) -> None:
        """A step draws when it is called again; what it drew now is not the callers'."""
        self._drawn = self.untouched.drawn()
        chance = foreign_chance()
        for frame in self._stack:
            frame.chance = chance

    def _check_autocast(self) -> None:
        """The module that switched autocast must be one step: its nodes would be run without."""
        now = _autocast()
        for frame in reversed(self._stack):
            if frame.autocast != now and (frame.path is not None or frame.place is None):
                frame.reason = "computes under autocast"
                raise UnseenError("computes under autocast")

    def _aside(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        kept = Kept(leaf.detach(), version(leaf))
        self._results_in.setdefault(storage_of(leaf), []).append(kept)
        return kept

    def _keep(self, value: Value) -> None:
        """Before a tensor is written: note what it holds, where it is the model's or a result."""
        for each in (value, value.memory.base):
            if each.held is not None:
                self.untouched.keep(each.tensor)
        for kept in self._results_in.pop(storage_of(value.tensor), ()):
            kept.copy()

    def _keep_state(self, module: nn.Module) -> None:
        """Before a step that may change its parameters: chance is that it does."""
        if why_opaque(module) is not None or getattr(module, "max_norm", None) is not None:
            for parameter in module.parameters():
                self.untouched.keep(parameter)


def _is_current(value: Value) -> bool:
    """Whether a tensor of the model, or an input, is what it was at the beginning."""
    fresh = value.writes == value.memory.writes
    return not value.memory.writes or (fresh and value.node.op in ("get_attr", "placeholder"))


def _autocast() -> tuple[Any, ...]:
    on = torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")
    return on if not any(on) else (*on, torch.get_autocast_dtype("cpu"))
