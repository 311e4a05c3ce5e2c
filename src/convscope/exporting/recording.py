"""A call of a model as ATen's own steps: what was done to the inputs, with everything else as constants.

The mode below stands under autograd and under ``torch.func.functionalize``: what it hears is free of modules, of
composite functions, of writing in place and of views that are written to. What depends on parameters alone is not
recorded: it has been computed, and is a constant.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from convscope.errors import ExportError


@dataclasses.dataclass(frozen=True)
class Ref:
    """The result of a step, or an input: its number, with the shape and type that it had in the recorded call."""

    number: int
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclasses.dataclass(frozen=True)
class Step:
    """``name`` as "aten.relu.default"; among ``args`` and ``keywords`` results are ``Ref``, constants are tensors."""

    name: str
    args: tuple[Any, ...]
    keywords: Mapping[str, Any]
    results: tuple[Any, ...]  # Ref, or Sized once recordings are compared; None for what is no tensor
    layer: str

    def __str__(self) -> str:
        return f"{self.name.removeprefix('aten.').partition('.')[0]}"


@dataclasses.dataclass(frozen=True)
class Recording:
    """``outputs`` is what the model returned, tensors as ``Ref`` (or as they are, where no input reached them)."""

    inputs: tuple[Any, ...]  # Ref, or Sized
    steps: tuple[Step, ...]
    outputs: Any


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, known: Callable[[str], bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.layers: list[str] = []
        self._known = known
        self._refs: Any = WeakIdKeyDictionary()
        self._count = 0

    def enrol(self, tensor: Tensor) -> Ref:
        ref = Ref(self._count, tuple(tensor.shape), tensor.dtype)
        self._count += 1
        self._refs[tensor] = ref
        return ref

    def ref_of(self, value: Any) -> Any:
        return self._refs.get(value, value) if isinstance(value, Tensor) else value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(isinstance(each, Tensor) and each in self._refs for each in tree_flatten((args, kwargs))[0]):
            return func(*args, **kwargs)
        name = str(func).replace("_copy.", ".")
        if not self._known(name):
            if func is torch.ops.aten._local_scalar_dense.default:
                raise ExportError(
                    self.layer, "what it does depends on the numbers that it is given (a branch or .item())"
                )
            if (found := _decompositions().get(func)) is not None:
                with self:
                    return found(*args, **kwargs)
            with self:
                taken_apart = func.decompose(*args, **kwargs)
            if taken_apart is not NotImplemented:
                return taken_apart
        result = func(*args, **kwargs)
        recorded_args, recorded_keywords = tree_map(self.ref_of, (tuple(args), kwargs))
        several = isinstance(result, tuple | list)
        results = tuple(
            self.enrol(each) if isinstance(each, Tensor) else None for each in (result if several else (result,))
        )
        self.steps.append(Step(name, recorded_args, recorded_keywords, results, self.layer))
        return result

    @property
    def layer(self) -> str:
        return self.layers[-1] if self.layers else ""


_TABLE: dict[Any, Callable[..., Any]] = {}


def _decompositions() -> Mapping[Any, Callable[..., Any]]:
    """Torch's own ways to take an operator apart; reading them takes a second, and few models need any."""
    if not _TABLE:
        from torch._decomp import core_aten_decompositions

        _TABLE.update(core_aten_decompositions())
    return _TABLE


def record(model: nn.Module, inputs: Sequence[Tensor], known: Callable[[str], bool]) -> Recording:
    """The call ``model(*inputs)`` without gradients; steps that are not ``known`` by their names are taken apart where
    torch knows how. Raises ExportError where the call cannot be recorded."""
    recorder = _Recorder(known)

    def call(*given: Tensor) -> Any:
        return model(*given)

    with torch.no_grad(), _named(model, recorder.layers):
        given = [each.detach().clone() for each in inputs]
        with recorder:
            refs = tuple(recorder.enrol(each) for each in given)
            try:
                outputs = torch.func.functionalize(call, remove="mutations")(*given)
            except ExportError:
                raise
            except RuntimeError as problem:
                raise ExportError(recorder.layer, f"it cannot be recorded: {str(problem).splitlines()[0]}") from problem
            return Recording(refs, tuple(recorder.steps), tree_map(recorder.ref_of, outputs))


@contextlib.contextmanager
def _named(model: nn.Module, layers: list[str]) -> Iterator[None]:
    """While entered, ``layers`` ends with the path of the module that is at work."""

    def enter(path: str) -> Any:
        return lambda module, inputs: layers.append(path)

    handles = []
    for path, module in model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(enter(path)))
            handles.append(module.register_forward_hook(lambda *_: layers.pop() and None, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
