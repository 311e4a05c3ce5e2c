"""The record of one real call of a model, as a graph."""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from convscope.graph import heard, sizes, structure
from convscope.graph.boundaries import Boundaries
from convscope.graph.custom import Applied
from convscope.graph.heard import Heard
from convscope.graph.leaves import is_layer, why_opaque
from convscope.graph.sizes import Size
from convscope.graph.untouched import Untouched, foreign_chance, same_chance
from convscope.graph.values import UnseenError, Value
from convscope.graph.writer import Frame, Writer

_NO_DEFAULT = object()
#: A time limit of the caller's (TimeoutError is an OSError, raised anywhere by a signal), a disk, too little memory.
NOT_OF_THE_MODEL = (OSError, MemoryError)


class StoppedCall(BaseException):
    """The call would use up something that cannot be put back."""


class Recorder(TorchFunctionMode):
    """Hears every function that the model calls, and writes the graph.

    What cannot be told from what is heard makes the innermost module under way one opaque step (the writer's
    ``reasons``), at worst the whole model (``whole``). ``results``, where given, gets what each call put out, by node.
    ``frugal``: nothing is kept that the model has done with, neither here nor by autograd. Who wants a gradient of the
    call all the same, or has a say of his own in what is kept for one, makes the recording ``insufficient``.
    """

    def __init__(
        self,
        model: nn.Module,
        untouched: Untouched,
        results: dict[fx.Node, Any] | None = None,
        frugal: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.untouched, self._frugal = untouched, frugal
        self.writer = Writer(self, model, untouched, results, frugal)
        self.boundaries = Boundaries(self)
        self.listening = False
        self.codes: dict[types.CodeType, Any] = {}
        self.stopped: str | None = None  # what is used that cannot be put back
        self.insufficient = False
        self._begun: set[types.CodeType] = set()
        self._paths = {id(module): path for path, module in reversed(list(model.named_modules()))}
        self._tensors = {
            id(module): (*module._parameters.values(), *module._buffers.values()) for module in model.modules()
        }
        self._stack: list[Frame] = []
        self._compared: set[Any] = set()
        self._sizes: dict[tuple[Value, Any], Size] = {}
        self._push(None, None, None)

    # From outside

    @property
    def whole(self) -> str | None:
        """Why the whole model is one step, or None."""
        return self._stack[0].reason

    def given(self, name: str, value: Any, default: Any = _NO_DEFAULT) -> None:
        """An input of the model; its tensors stand for the placeholder, or for parts of it."""
        node = (
            self.writer.graph.placeholder(name)
            if default is _NO_DEFAULT
            else self.writer.graph.placeholder(name, None, default)
        )
        self.writer.nodes.append(node)
        for path, leaf in structure.walk(value):
            if isinstance(leaf, Tensor):
                self.writer.values.add(leaf, node, path, given=True)

    def finish(self, result: Any) -> None:
        """Write what the call returned, and what it changed for good."""
        self.listening = False
        if self.whole is None:
            try:
                output = self.writer.built(result)
                self.writer.write_updates()
                self.writer.graph.output(output)
            except Exception as problem:
                self._fail(problem)

    def let_go(self) -> None:
        """Keep no tensor any longer. Writer and recorder know each other, so that all that the call has put out would
        else stay until the collector comes by: 200 MB for a picture in DenseNet."""
        self.writer.let_go()
        self._sizes.clear()
        self._stack.clear()

    # From sizes

    def work_out(self, function: Callable[..., Any], operands: tuple[Any, ...]) -> fx.Node:
        return self.writer.emit("call_function", function, self.writer.name(operands), {})

    def compared(self, left: Any, comparison: str, right: Any, outcome: bool) -> None:
        if self._deaf():
            return
        try:
            arguments = self.writer.name((left, comparison, right, outcome))
        except UnseenError as problem:
            self.notice(str(problem))
            return
        if arguments not in self._compared:
            self._compared.add(arguments)
            self.writer.emit("call_function", sizes.expect, arguments, {})

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
        if self._has_drawn(self._stack[-1]):
            self.notice("draws chance of its own")
            return
        if not whole and self._is_lent(module):
            self.notice("exchanges the parameters or buffers of a part for a while")
            return
        self._push(place, module, path)
        frame = self._stack[-1]
        frame.given = args, keywords
        if (layer and path is not None) or reason is not None:
            frame.muted, frame.reason = True, reason
            self.writer.let_pass()
            self.writer.keep_state(module)
            if getattr(module, "inplace", False):
                for tensor in structure.tensors((args, keywords)):
                    known = self.writer.values.find(tensor)
                    if known is not None:
                        self.writer.keep(known)

    def enter_function(self, place: types.FrameType, function: Any, args: Any, keywords: Any) -> None:
        """A custom autograd function is called."""
        if self._deaf():
            return
        if self._has_drawn(self._stack[-1]):
            self.notice("draws chance of its own")
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

    def history(self) -> None:
        """Somebody means to have a say in what autograd keeps."""
        self.insufficient = self._frugal

    def unpack(self, _: int) -> Tensor:
        """What autograd has kept is asked for."""
        self.history()
        raise RuntimeError("a frugal recording keeps nothing for autograd")

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
        """A Python function begins: what it can reach is noted, to be put back; what never could be ends the call.

        Raises StoppedCall, before anything has been taken.
        """
        code = place.f_code
        if code in self._begun or heard.is_library(code.co_filename) or self.boundaries.is_import(place):
            return
        self._begun.add(code)
        if self.listening:
            self.codes[code] = place.f_globals
        self.untouched.keep_names(place.f_globals, code, place.f_locals)
        for name in (*code.co_names, *code.co_freevars, code.co_name):
            if name in self.untouched.hidden:
                self.stopped = self.untouched.hidden[name]
                raise StoppedCall(self.stopped)

    # From torch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._deaf():
            return func(*args, **kwargs)
        self.boundaries.pause()
        try:
            return self._heard(func, args, kwargs, sys._getframe(1))
        finally:
            self.boundaries.resume()

    def _heard(self, func: Any, args: tuple[Any, ...], keywords: dict[str, Any], place: types.FrameType) -> Any:
        plain_args, plain_keywords = structure.transform((args, keywords), sizes.plain)
        try:
            call = heard.classify(func, args, keywords)
            if call.kind == "size":
                return self._size(call, func, plain_args, plain_keywords)
            if call.kind == "plain":
                if call.reason and not heard.is_library(place.f_code.co_filename):
                    self.notice(call.reason)
                return func(*plain_args, **plain_keywords)
            if call.kind == "opaque":
                raise UnseenError(call.reason)
            self._check_modes()
            named = self.writer.name((call.args, call.keywords))
            values = [self.writer.value(tensor) for tensor in structure.tensors((args, keywords))]
            writes = [self.writer.value(tensor) for tensor in call.writes]
            blind = [value for value in writes if value.tensor.requires_grad and not torch.is_grad_enabled()]
            for value in writes:
                self.writer.values.before_writing(value)
                self.writer.keep(value)
        except Exception as problem:
            self._fail(problem)
            return func(*plain_args, **plain_keywords)
        self.writer.let_pass()
        result = func(*plain_args, **plain_keywords)
        try:
            if call.op != "call_module" and result is not None and not structure.tensors(result) and not call.replaces:
                if values:
                    raise UnseenError(f"its way depends on its data ({getattr(func, '__name__', func)})")
                return result  # worked out of plain numbers
            self.writer.step(call, named, values, blind, result)
        except Exception as problem:
            self._fail(problem)
        return result

    def _fail(self, problem: Exception) -> None:
        if isinstance(problem, NOT_OF_THE_MODEL):
            raise problem
        if not isinstance(problem, UnseenError):  # a mistake of ours: nothing is known any more
            self._stack[0].reason = f"it could not be recorded ({problem!r})"
        elif self.listening:
            self.notice(str(problem))
        else:
            self._stack[0].reason = str(problem)

    # Sizes

    def _size(self, call: Heard, func: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        tensor = args[0]
        result = func(*args, **keywords)
        value = self.writer.value(tensor)
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
        key = value, side
        if key not in self._sizes:

            def make() -> fx.Node:
                node = self.writer.values.node(value)
                return self.writer.emit(
                    "call_method", "numel" if side is None else "size", (node,) if side is None else (node, side), {}
                )

            self._sizes[key] = sizes.make_size(self, size, make)
        return self._sizes[key]

    # Frames

    def _is_lent(self, module: nn.Module) -> bool:
        """Whether a module that is called has other tensors than before the call (``torch.func.functional_call``)."""
        for part in module.modules():
            before = self._tensors.get(id(part))
            now = (*part._parameters.values(), *part._buffers.values())
            if before is not None and (len(before) != len(now) or any(map(operator.is_not, before, now))):
                return True
        return False

    def _push(self, place: types.FrameType | None, module: nn.Module | None, path: str | None) -> None:
        chance = self._chance() if not self._stack else self._stack[-1].chance
        self._stack.append(
            Frame(place, module, path, len(self.writer.nodes), self.writer.values.mark(), _autocast(), chance)
        )

    def _deaf(self) -> bool:
        """Whether what happens now is part of a step that is called as a whole."""
        return not self.listening or any(frame.muted or frame.reason is not None for frame in self._stack)

    def _unseen(self, frame: Frame, result: Any) -> str | None:
        """What was missed between the call's beginning and its end."""
        if self._has_drawn(frame):
            return "draws chance of its own"
        try:
            for tensor in structure.tensors(result):
                self.writer.value(tensor)
        except UnseenError as problem:
            return str(problem)
        return None

    def _one_step(self, frame: Frame, result: Any) -> None:
        """A whole module, or custom function, becomes one node."""
        if not frame.muted:
            self._discard(frame)
        self._refresh_chance()
        if frame.autocast != _autocast():
            raise UnseenError("switches autocast on")
        self._check_autocast()
        self.writer.one_step(frame, result)

    def _discard(self, frame: Frame) -> None:
        """Forget what was recorded inside."""
        self.writer.discard(frame)
        self._compared = {
            each for each in self._compared if not any(isinstance(item, fx.Node) and item._erased for item in each)
        }

    def _chance(self) -> tuple[Any, dict[int, Any]]:
        """The states of all generators but torch's own."""
        return foreign_chance(), self.untouched.states()

    def _has_drawn(self, frame: Frame) -> bool:
        """Whether the call itself drew from another generator than torch's, apart from the steps in it."""
        shared, own = frame.chance
        return not same_chance(shared, foreign_chance()) or self.untouched.drawn_since(own)

    def _refresh_chance(self) -> None:
        """A step draws when it is called again; what it drew now is not the callers'."""
        chance = self._chance()
        for frame in self._stack:
            frame.chance = chance

    def _check_modes(self) -> None:
        if torch.is_inference_mode_enabled():
            raise UnseenError("computes in inference mode")
        self._check_autocast()

    def _check_autocast(self) -> None:
        """The module that switched autocast must be one step: its nodes would be run without."""
        now = _autocast()
        for frame in reversed(self._stack):
            if frame.autocast != now and (frame.path is not None or frame.place is None):
                frame.reason = "computes under autocast"
                raise UnseenError("computes under autocast")


def _autocast() -> tuple[Any, ...]:
    on = torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")
    return on if not any(on) else (*on, torch.get_autocast_dtype("cpu"))
