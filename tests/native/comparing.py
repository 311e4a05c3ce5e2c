"""Native results beside torch's: outputs, gradients of parameters and input, running statistics."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from convscope.native import accelerate

ONE_LAYER = 1e-5  # of the largest number, as everywhere here
WHOLE_NETWORK = 1e-4


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Parameters and running statistics that hide nothing: no zeros, no ones."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, each in (*model.named_parameters(), *model.named_buffers()):
            if each.is_floating_point():
                fan_in = max(each[0].numel() if each.ndim > 1 else 4, 1)
                each.copy_(torch.randn(each.shape, generator=stream) / fan_in**0.5)
                if "var" in name:
                    each.abs_().add_(0.5)
    return model


def pictures(count: int, shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def relative(got: Tensor, wanted: Tensor) -> float:
    """The largest difference, in parts of the largest number wanted."""
    assert got.shape == wanted.shape, f"{tuple(got.shape)} instead of {tuple(wanted.shape)}"
    if wanted.numel() == 0:
        return 0.0
    largest = float(wanted.detach().abs().max())
    return float((got.detach() - wanted.detach()).abs().max()) / max(largest, 1e-3)


def differences(model: nn.Module, x: Tensor, seed: int = 5) -> dict[str, float]:
    """Every output, gradient and statistic of a forward and a backward pass, compared with torch on a copy.

    The sum that is differentiated weighs every output with its own random number.
    """
    results: list[dict[str, Tensor]] = []
    for subject in (copy.deepcopy(model), accelerate(copy.deepcopy(model))):
        own = x.clone().requires_grad_()
        outputs = _pytree.tree_leaves(subject(own))
        stream = torch.Generator().manual_seed(seed)
        total = torch.stack([(y * torch.randn(y.shape, generator=stream)).sum() for y in outputs]).sum()
        found: dict[str, Tensor] = {f"output {i}": y for i, y in enumerate(outputs)}
        total.backward()  # type: ignore[no-untyped-call]
        assert own.grad is not None
        found["input gradient"] = own.grad
        found |= {f"gradient of {n}": p.grad for n, p in subject.named_parameters() if p.grad is not None}
        found |= {n: b.double() for n, b in subject.named_buffers()}
        results.append(found)
    wanted, got = results
    assert wanted.keys() == got.keys()
    return {name: relative(got[name], wanted[name]) for name in wanted}


def worst(found: dict[str, float]) -> tuple[str, float]:
    return max(found.items(), key=lambda each: each[1] if each[1] == each[1] else float("inf"))


def check(model: nn.Module, x: Tensor, tolerance: float, **more: Any) -> None:
    name, value = worst(differences(model, x, **more))
    assert value <= tolerance, f"{name}: {value:.2e} of the largest"
