"""The rule for what has no rule: run it once under autograd, on its own copies, and keep its Jacobian products."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.graph import structure
from convscope.rules.base import Deltas, Gradients, Rule, Saved


@dataclasses.dataclass(frozen=True)
class LocalAutograd(Rule):
    """y = g(x, θ),   δ_x = (∂g/∂x)ᵀ·δ,   ∂J/∂θ = (∂g/∂θ)ᵀ·δ   with g's Jacobian products taken by torch's autograd.

    ``call`` takes the tensors in ``forward``'s order; ``trained`` are the parameters that it uses, by name. It runs
    once a forward, so that dropout masks and running statistics are those of one call, and on clones, so that
    operations in place change neither the inputs nor what other nodes saved. No ``.grad`` is touched.
    ``saved["changed"]`` has the clones that it changed in place, by the inputs' places.
    """

    needs = ("inputs", "outputs", "changed")

    call: Callable[[Sequence[Tensor]], Any]
    trained: Mapping[str, nn.Parameter] = dataclasses.field(default_factory=dict)
    constant: frozenset[int] = frozenset()  # places of tensors that g has no derivative by, as running statistics

    def forward(self, *inputs: Any, **parameters: Any) -> tuple[Any, Saved]:
        with torch.enable_grad():
            leaves = [item.detach() if i in self.constant else _leaf(item) for i, item in enumerate(inputs)]
            copies = [leaf.clone() for leaf in leaves]
            versions = [copy._version for copy in copies]
            result = self.call(copies)
        plain = structure.transform(result, lambda item: item.detach() if isinstance(item, Tensor) else item)
        pairs = enumerate(zip(copies, versions, strict=True))
        changed = {index: copy.detach() for index, (copy, version) in pairs if copy._version != version}
        return plain, {"inputs": leaves, "outputs": structure.leaves(result), "changed": changed}

    def backward(self, saved: Saved, delta: Any) -> tuple[Deltas, Gradients]:
        pairs = [
            (out, d)
            for out, d in zip(saved["outputs"], structure.leaves(delta), strict=True)
            if isinstance(out, Tensor) and out.requires_grad and d is not None
        ]
        wanted = [leaf for leaf in saved["inputs"] if leaf.requires_grad]
        wanted += list(self.trained.values())
        found: list[Tensor | None] = [None] * len(wanted)
        if pairs and wanted:
            outputs, seeds = zip(*pairs, strict=True)
            found = list(torch.autograd.grad(outputs, wanted, seeds, allow_unused=True, retain_graph=True))
        remaining = iter(found)
        to_inputs = tuple(next(remaining) if leaf.requires_grad else None for leaf in saved["inputs"])
        gradients = {name: grad for name, grad in zip(self.trained, remaining, strict=True) if grad is not None}
        return to_inputs, gradients


def _leaf(item: Tensor) -> Tensor:
    leaf = item.detach()
    return leaf.requires_grad_() if leaf.is_floating_point() or leaf.is_complex() else leaf
