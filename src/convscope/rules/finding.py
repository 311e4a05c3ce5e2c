"""Which rule takes one call of a graph; autograd, locally, where none does."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from convscope.graph import structure
from convscope.rules import base
from convscope.rules.base import Applied
from convscope.rules.local_autograd import LocalAutograd


def find_rule(node: fx.Node, module: nn.Module | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Applied:
    """The rule for a call, or autograd."""
    if module is not None:
        found = base.apply_module(module, args, kwargs)
    elif node.op == "call_function":
        assert callable(node.target)
        found = base.apply_function(node.target, args, kwargs)
    else:
        found = base.apply_method(str(node.target), args, kwargs)
    return found if found is not None else by_autograd(node, module, args, kwargs)


def by_autograd(node: fx.Node, module: nn.Module | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Applied:
    """The call as a step whose derivatives autograd takes."""
    leaves = structure.leaves((args, kwargs))
    at = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def call(tensors: Any) -> Any:
        filled = dict(zip(at, tensors, strict=True))
        numbers = iter(range(len(leaves)))

        def fill(leaf: Any) -> Any:
            return filled.get(next(numbers), leaf)

        own_args, own_kwargs = structure.transform((args, kwargs), fill)
        if module is not None:
            return module(*own_args, **own_kwargs)
        if node.op == "call_method":
            return getattr(own_args[0], str(node.target))(*own_args[1:], **own_kwargs)
        assert callable(node.target)
        return node.target(*own_args, **own_kwargs)

    named = module.named_parameters() if module is not None else iter(())
    trained = {name: parameter for name, parameter in named if parameter.requires_grad}
    return Applied(LocalAutograd(call, trained), tuple(leaves[index] for index in at))
