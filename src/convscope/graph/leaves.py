"""Which modules are the leaves of a graph, which are looked into, and which no record can see through."""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import nn

_LAYERS = ("torch.nn.modules.", "torch.ao.nn.", "torch.nn.quantized.", "torch.nn.intrinsic.", "convscope.layers")
_LOOKED_INTO: tuple[type[nn.Module], ...] = (
    nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict, nn.Transformer,
    nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.TransformerDecoder, nn.TransformerDecoderLayer,
)  # fmt: skip
LEAVES: set[type[nn.Module]] = set()
"""Further classes that are whole layers, such as modules of a user's own in the table of element-wise functions."""
_HOOKS = {
    "_forward_hooks": "forward hooks",
    "_forward_pre_hooks": "forward pre-hooks",
    "_backward_hooks": "backward hooks",
    "_backward_pre_hooks": "backward pre-hooks",
}


def is_layer(module: nn.Module) -> bool:
    """Whether the module is a whole layer that every reader knows by its class: one of torch.nn or convscope.layers,
    and nobody has replaced a method of it, on the object or on the class."""
    kind = type(module)
    known = kind.__module__.startswith(_LAYERS)
    if not (known or kind in LEAVES) or kind in _LOOKED_INTO or getattr(module, "looked_into", False):
        return False
    if hasattr(module, "parametrizations"):
        return False
    if any(callable(getattr(kind, name, None)) for name in module.__dict__):
        return False
    return not known or not any(_is_foreign(item) for base in kind.__mro__[:-1] for item in vars(base).values())


def _is_foreign(item: Any) -> bool:
    if isinstance(item, staticmethod | classmethod):
        item = item.__func__
    if not isinstance(item, types.FunctionType):
        return False
    return not (item.__module__ or "").startswith(("torch", "convscope", "typing", "abc"))


def why_opaque(module: nn.Module) -> str | None:
    """Why nothing can be seen of what the module computes, or None."""
    for registry, words in _HOOKS.items():
        if getattr(module, registry, None):
            return f"it has {words}"
    for name, parameter in module._parameters.items():
        if parameter is not None and (
            parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
        ):
            return f"its parameter {name!r} has hooks"
    if isinstance(module, torch.jit.ScriptModule):
        return "it is compiled by TorchScript"
    if type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None:
        return "it is compiled by torch.compile"
    if type(module).__module__.startswith(("torch.nn.parallel", "torch.distributed")):
        return "it spreads its work over devices or processes"
    return None


def hook_registries(module: nn.Module) -> list[Any]:
    """The dictionaries that hold the module's hooks."""
    return [getattr(module, registry) for registry in _HOOKS]


def global_hook_registries() -> list[Any]:
    """The dictionaries of hooks that are set for all modules of the process."""
    return [getattr(torch.nn.modules.module, f"_global{registry}", None) for registry in _HOOKS]


def has_global_hooks() -> bool:
    """Whether hooks are set for all modules of the process."""
    return any(global_hook_registries())
