"""Where modules and custom functions begin and end in a call, seen in this thread alone.

Python's own profiler hook tells of every call in the thread that sets it. Nothing of torch is patched: other threads
do not notice, and no model is changed.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
import types
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn
from torch.autograd.function import Function

from convscope.graph.heard import ASKS_OF_GRADIENTS, is_library

_MODULE_CALL = nn.Module._wrapped_call_impl.__code__
# None from torch 2.14 on, whose ``apply`` is no Python: it is met as a built-in function, whose arguments stay unseen.
_FUNCTION_APPLY = getattr(getattr(Function.apply, "__func__", None), "__code__", None)
_RESEEDING = frozenset(
    function.__code__ for function in (torch.random.manual_seed, torch.random.seed, torch.random.set_rng_state)
)
_CLOCKS = frozenset(
    (time.time, time.time_ns, time.perf_counter, time.perf_counter_ns, time.monotonic, time.monotonic_ns)
)
# What these do fails, or does something else, where others have told autograd how to keep tensors.
_HISTORY = frozenset(("_saved_tensors_hooks_disable", "register_hooks"))
_ASKING = frozenset((torch.is_grad_enabled, torch.is_inference_mode_enabled))


class Listener(Protocol):
    def enter(self, frame: types.FrameType, module: nn.Module, args: Any, keywords: Any) -> None: ...
    def enter_function(self, frame: types.FrameType, function: Any, args: Any, keywords: Any) -> None: ...
    def leave(self, frame: types.FrameType, result: Any) -> None: ...
    def notice(self, reason: str) -> None: ...
    def code(self, frame: types.FrameType) -> None: ...
    def history(self) -> None: ...


class Boundaries:
    """While entered, tells ``listener`` of the calls of this thread; a profiler that was at work is put back."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._before: Any = None
        self._outside: types.FrameType | None = None
        self._hook: Callable[..., Any] = self._event

    def __enter__(self) -> Boundaries:
        self._before, self._outside = sys.getprofile(), sys._getframe(1)
        sys.setprofile(self._hook)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        self._outside = None
        if self._before is None:
            return
        if callable(self._before):
            sys.setprofile(self._before)
        else:  # cProfile's own kind, which is no Python function
            self._before.enable()

    def pause(self) -> None:
        sys.setprofile(None)

    def resume(self) -> None:
        sys.setprofile(self._hook)

    def _event(self, frame: types.FrameType, event: str, argument: Any) -> None:
        listener = self._listener
        code = frame.f_code
        if event == "call":
            if code is _MODULE_CALL:
                given = frame.f_locals
                with torch._C.DisableTorchFunction():  # what the listener does itself is not part of the call
                    listener.enter(frame, given["self"], given["args"], given["kwargs"])
            elif code is _FUNCTION_APPLY:
                given = frame.f_locals
                with torch._C.DisableTorchFunction():
                    listener.enter_function(frame, given["cls"], given["args"], given["kwargs"])
            elif code in _RESEEDING:
                listener.notice("seeds torch's generator itself")
            elif code not in _collectors():
                listener.code(frame)
        elif event == "return":
            if code is _MODULE_CALL or code is _FUNCTION_APPLY:
                with torch._C.DisableTorchFunction():
                    listener.leave(frame, argument)
        elif event == "c_call":
            self._built_in(frame, code, argument)

    def _built_in(self, frame: types.FrameType, code: types.CodeType, argument: Any) -> None:
        owner = getattr(argument, "__self__", None)
        if (
            isinstance(owner, random.Random)
            or argument is os.urandom
            or type(owner).__module__.startswith("numpy.random")
        ):
            self._notice(frame, "draws chance of its own")
        elif argument in _CLOCKS and not is_library(code.co_filename):
            self._notice(frame, "asks what time it is")
        elif argument in _ASKING and not is_library(code.co_filename):
            self._notice(frame, ASKS_OF_GRADIENTS)
        elif getattr(argument, "__name__", "") in _HISTORY:
            self._listener.history()
        elif isinstance(owner, torch.Generator) and argument.__name__ in ("manual_seed", "seed", "set_state"):
            self._notice(frame, "seeds a generator itself")
        elif _FUNCTION_APPLY is None and _is_apply(argument, owner):
            self._notice(frame, f"calls a function with a derivative of its own, {argument.__self__.__name__}")

    def _notice(self, frame: types.FrameType, reason: str) -> None:
        """Tell of what the model does; not of what others do whom the garbage collector calls in the midst of it, nor
        of what a module does that is imported there."""
        theirs = _collectors()
        if not self._is_within(frame, lambda code: code in theirs or code.co_filename == _IMPORTING):
            self._listener.notice(reason)

    def is_import(self, frame: types.FrameType) -> bool:
        """Whether what runs there is a module that is imported in the midst of the call, which no later call does."""
        return self._is_within(frame, lambda code: code.co_filename == _IMPORTING)

    def _is_within(self, frame: types.FrameType, asked: Callable[[types.CodeType], bool]) -> bool:
        above: types.FrameType | None = frame
        while above is not None and above is not self._outside:
            if asked(above.f_code):
                return True
            above = above.f_back
        return False


def _is_apply(called: Any, owner: Any) -> bool:
    return called.__name__ == "apply" and isinstance(owner, type) and issubclass(owner, Function)


_IMPORTING = "<frozen importlib._bootstrap>"


def _collectors() -> list[types.CodeType]:
    return [each.__code__ for each in gc.callbacks if isinstance(each, types.FunctionType)]
