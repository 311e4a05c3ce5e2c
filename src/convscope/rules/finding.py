"""Which rule takes one call of a graph; autograd, locally, where none does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

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
    still = {id(each) for each in _statistics(node, args, kwargs)}
    constant = frozenset(place for place, index in enumerate(at) if id(leaves[index]) in still)
    return Applied(LocalAutograd(call, trained, constant), tuple(leaves[index] for index in at))


#: Where functions take running statistics, which torch refuses a gradient by; by name they are the same everywhere.
_STATISTICS: dict[Any, slice] = {
    functional.batch_norm: slice(1, 3), functional.instance_norm: slice(1, 3),
    torch.batch_norm: slice(3, 5), torch.instance_norm: slice(3, 5),
}  # fmt: skip


def _statistics(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    if node.op != "call_function" or node.target not in _STATISTICS:
        return []
    named = [kwargs.get(name) for name in ("running_mean", "running_var")]
    return [each for each in (*args[_STATISTICS[node.target]], *named) if isinstance(each, Tensor)]
