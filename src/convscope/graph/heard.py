"""What a function of torch that was heard does: a step of the graph, a size, a decision, or nothing that matters."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
import os
import sysconfig
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convscope.graph import memory


@dataclasses.dataclass(frozen=True)
class Heard:
    """``kind`` is "step", "size", "plain" (runs and is forgotten) or "opaque" with a ``reason``.

    A step is the graph's ``op`` with ``target``, ``args`` and ``keywords``. ``writes``: the tensors that it is known to
    change in place. ``replaces``: the step's result is what ``writes[0]`` holds afterwards, whatever the call returned.
    """

    kind: str
    op: str = ""
    target: Any = None
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""
    writes: tuple[Tensor, ...] = ()
    replaces: bool = False


def words(text: str) -> list[str]:
    return text.split()


_OPERATORS = (type(torch.ops.aten.relu), type(torch.ops.aten.relu.default))
_PLAIN = frozenset(
    words("""
    dim ndim ndimension stride storage_offset data_ptr is_contiguous is_floating_point is_complex is_signed
    is_same_size element_size itemsize nbytes get_device dtype device layout requires_grad is_leaf grad_fn
    _version _base output_nr names is_cuda is_cpu is_sparse is_quantized is_mkldnn is_meta is_nested is_mps
    is_xpu is_conj is_neg is_inference is_pinned is_shared is_sparse_csr is_tensor untyped_storage storage
    _typed_storage has_names name retains_grad __hash__ __repr__ __str__ __dir__ __format__ is_set_to _is_view
    can_cast result_type promote_types finfo iinfo is_storage get_default_dtype is_grad_enabled
    _set_grad_enabled is_inference_mode_enabled is_autocast_enabled is_nonfloating is_coalesced dense_dim
    sparse_dim is_deterministic_algorithms_warn_only_enabled _has_compatible_shallow_copy_type _assert
    _is_zerotensor is_ipu is_xla is_maia is_vulkan is_hpu is_mtia
""")
)
#: What another call's mode may answer otherwise: a model that asks is not seen through.
ASKS_OF_GRADIENTS = "asks whether gradients are wanted"
_SIZES = frozenset(("shape", "size", "numel", "nelement", "__len__"))
_TENSOR_PROPERTIES = frozenset(("T", "mT", "H", "mH", "real", "imag"))
_OPAQUE = {
    "register_hook": "sets a hook on a tensor",
    "register_post_accumulate_grad_hook": "sets a hook on a tensor",
    "retain_grad": "keeps the gradient of a tensor",
    "requires_grad_": "changes what requires a gradient",
    "backward": "calls autograd itself",
    "grad": "calls autograd itself",
    "apply_": "calls a Python function for every number",
    "map_": "calls a Python function for every number",
    "map2_": "calls a Python function for every number",
    **dict.fromkeys(
        ("set_", "resize_", "resize_as_", "t_", "transpose_", "squeeze_", "unsqueeze_", "swapaxes_", "swapdims_",
         "as_strided_", "share_memory_", "rename_", "detach_"), "changes what a tensor is in place",
    ),
    **dict.fromkeys(("numpy", "__array__", "__dlpack__", "tolist"), "takes numbers out of a tensor"),
}  # fmt: skip
_BINARY: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "true_divide": operator.truediv, "matmul": operator.matmul, "pow": operator.pow, "gt": operator.gt,
    "lt": operator.lt, "ge": operator.ge, "le": operator.le, "eq": operator.eq, "ne": operator.ne,
    "__eq__": operator.eq, "__ne__": operator.ne, "__floordiv__": operator.floordiv, "__and__": operator.and_,
    "__or__": operator.or_, "__xor__": operator.xor, "__mod__": operator.mod, "__getitem__": operator.getitem,
    "__pow__": operator.pow, "__truediv__": operator.truediv, "__div__": operator.truediv, "__add__": operator.add,
    "__sub__": operator.sub, "__mul__": operator.mul, "__matmul__": operator.matmul, "remainder": operator.mod,
    "__lshift__": operator.lshift, "__rshift__": operator.rshift,
}  # fmt: skip
_SWAPPED: dict[str, Callable[..., Any]] = {
    "__radd__": operator.add, "__rsub__": operator.sub, "__rmul__": operator.mul, "__rdiv__": operator.truediv,
    "__rtruediv__": operator.truediv, "__rfloordiv__": operator.floordiv, "__rpow__": operator.pow,
    "__rmatmul__": operator.matmul, "__rmod__": operator.mod, "__rand__": operator.and_, "__ror__": operator.or_,
    "__rxor__": operator.xor,
}  # fmt: skip
_UNARY: dict[str, Callable[..., Any]] = {"neg": operator.neg, "__neg__": operator.neg, "__invert__": operator.invert}
_IN_PLACE: dict[str, Callable[..., Any]] = {
    "__iadd__": operator.iadd, "__isub__": operator.isub, "__imul__": operator.imul, "__itruediv__": operator.itruediv,
    "__idiv__": operator.itruediv, "__ifloordiv__": operator.ifloordiv, "__imod__": operator.imod,
    "__ipow__": operator.ipow, "__iand__": operator.iand, "__ior__": operator.ior, "__ixor__": operator.ixor,
}  # fmt: skip


def classify(func: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Heard:
    """What the call does. Nothing has run yet."""
    if isinstance(func, types.MethodWrapperType):
        return _property(func, args)
    name = getattr(func, "__name__", "")
    if name in _SIZES and args and isinstance(args[0], Tensor):
        return Heard("size", target=name, args=args, keywords=keywords)
    if name == "_assert" and args and isinstance(args[0], Tensor):
        return Heard("opaque", reason="asserts something of its data")
    if name in _PLAIN or (name == "type" and len(args) == 1 and not keywords):
        return Heard("plain")
    if name in _OPAQUE:
        return Heard("opaque", reason=_OPAQUE[name])
    if isinstance(func, types.MethodDescriptorType | types.WrapperDescriptorType) or (
        isinstance(func, types.FunctionType) and func.__module__ == "torch._tensor"
    ):
        return _method(name, args, keywords)
    if isinstance(func, _OPERATORS):
        if _mutates(func):
            return Heard("opaque", reason=f"calls {func}, which changes its arguments")
        return Heard("step", "call_function", func, args, keywords)
    return _function(func, name, args, keywords)


def _property(getter: Any, args: tuple[Any, ...]) -> Heard:
    owner = getter.__self__
    name = getattr(owner, "__name__", None) or getattr(getattr(owner, "fget", None), "__name__", "")
    if getter.__name__ != "__get__":
        return Heard("opaque", reason=f"sets the attribute {name!r} of a tensor")
    if name == "shape":
        return Heard("size", target=name, args=args[:1])
    if name == "data":
        return Heard("step", "call_method", "detach", args[:1])
    if name in _TENSOR_PROPERTIES:
        return Heard("step", "call_function", builtins_getattr, (args[0], name))
    return Heard("plain", reason=ASKS_OF_GRADIENTS if name in ("requires_grad", "is_leaf", "grad_fn") else "")


builtins_getattr: Any = getattr
getitem = operator.getitem


def _method(name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Heard:
    if name == "__setitem__":
        return Heard("step", "call_function", memory.with_item, args, keywords, writes=args[:1], replaces=True)
    if not keywords:
        if len(args) == 2 and name in _BINARY:
            return Heard("step", "call_function", _BINARY[name], args)
        if len(args) == 2 and name in _SWAPPED:
            return Heard("step", "call_function", _SWAPPED[name], args[::-1])
        if len(args) == 1 and name in _UNARY:
            return Heard("step", "call_function", _UNARY[name], args)
        if name in _IN_PLACE:
            return Heard("step", "call_function", _IN_PLACE[name], args, writes=args[:1])
    if name.endswith("__"):
        return Heard("opaque", reason=f"its way depends on its data ({name})")
    writes = args[:1] if name.endswith("_") else ()
    return Heard("step", "call_method", name, args, keywords, writes=writes)


def _function(func: Any, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Heard:
    if func is torch.Tensor.__torch_function__ or not callable(func):
        return Heard("opaque", reason=f"calls {func!r}")
    target = _public(func, name)
    out = keywords.get("out")
    if isinstance(out, Tensor):
        rest = {key: item for key, item in keywords.items() if key != "out"}
        return Heard("step", "call_function", target, args, rest, writes=(out,), replaces=True)
    if out is not None:
        return Heard("opaque", reason=f"gives several tensors to {name} as out")
    if name.endswith("_") and not name.endswith("__"):
        if args and isinstance(args[0], Tensor):
            return Heard("step", "call_function", target, args, keywords, writes=args[:1])
        if args:
            return Heard("opaque", reason=f"calls {name}, which changes several tensors")
    if is_in_place(func, args, keywords):
        return Heard("step", "call_function", target, args, keywords, writes=args[:1])
    return Heard("step", "call_function", target, args, keywords)


def _public(func: Any, name: str) -> Any:
    """The function under which torch offers it: equal functions are one."""
    offered = getattr(torch, name, None)
    return offered if offered is not None and offered == func else func


@functools.cache
def _place_of_inplace(func: Any) -> int | None:
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):
        return None
    return names.index("inplace") if "inplace" in names else None


def is_in_place(func: Any, args: Any, keywords: Any) -> bool:
    """Whether a function is told by its argument ``inplace`` to write over its first argument."""
    if keywords.get("inplace"):
        return True
    place = _place_of_inplace(func) if isinstance(func, types.FunctionType) and args else None
    if place is None and getattr(func, "__name__", "") in ("rrelu", "relu6", "hardtanh", "threshold"):
        return False
    return place is not None and len(args) > place and args[place] is True


def _mutates(func: Any) -> bool:
    overloads = [getattr(func, name) for name in func.overloads()] if hasattr(func, "overloads") else [func]
    return any(each._schema.is_mutable for each in overloads)


_OURS = (
    os.path.dirname(torch.__file__) + os.sep,  # noqa: PTH120
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,  # noqa: PTH100, PTH120
    "<frozen",
)
_PYTHON = sysconfig.get_paths()["stdlib"] + os.sep


def is_library(file: str) -> bool:
    """Whether code of this file is Python's, torch's or our own, not the model's."""
    return file.startswith(_OURS) or (file.startswith(_PYTHON) and "site-packages" not in file)
