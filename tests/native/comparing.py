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


def relative(got: Tensor, wanted: Tensor, least: float = 1e-3) -> float:
    """The largest difference, in parts of the largest number wanted (at least ``least``)."""
    assert got.shape == wanted.shape, f"{tuple(got.shape)} instead of {tuple(wanted.shape)}"
    if wanted.numel() == 0:
        return 0.0
    largest = float(wanted.detach().abs().max())
    return float((got.detach() - wanted.detach()).abs().max()) / max(largest, least)


def differences(model: nn.Module, x: Tensor, seed: int = 5, gradients: bool = True) -> dict[str, float]:
    """Every output, statistic and (unless told otherwise) gradient of a pass there and back, compared with float64.

    The sum that is differentiated weighs every output with its own random number. Four times torch's own error in
    float32 is forgiven: where a ReLU's input or the difference of two candidates of a maximum is within rounding of 0,
    either side is right.
    """
    exact, torch32 = _results(copy.deepcopy(model).double(), x.double(), seed), _results(copy.deepcopy(model), x, seed)
    got = _results(accelerate(copy.deepcopy(model)), x, seed)
    assert exact.keys() == got.keys()
    sizes = [float(each.abs().max()) for name, each in exact.items() if name.startswith("gradient of")]
    largest = max(sizes, default=0.0)
    found = {}
    for name, right in exact.items():
        if "gradient" in name and not gradients:
            continue
        floor = 1e-3
        if name.startswith("gradient of"):
            # A bias before batch normalisation has a gradient of 0 but for the rounding of what cancels out, which is
            # not small beside itself but beside the other gradients.
            cancels = float(right.abs().max()) < 1e-8 * largest
            floor = max(floor, largest if cancels else 0.02 * largest)
        found[name] = max(0.0, relative(got[name], right, floor) - 4 * relative(torch32[name], right, floor))
    return found


def _results(model: nn.Module, x: Tensor, seed: int) -> dict[str, Tensor]:
    own = x.clone().requires_grad_()
    outputs = _pytree.tree_leaves(model(own))
    stream = torch.Generator().manual_seed(seed)
    total = torch.stack([(y * torch.randn(y.shape, generator=stream).to(y)).sum() for y in outputs]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    assert own.grad is not None
    found = {f"output {i}": y.detach().double() for i, y in enumerate(outputs)}
    found["input gradient"] = own.grad.double()
    found |= {f"gradient of {n}": p.grad.double() for n, p in model.named_parameters() if p.grad is not None}
    return found | {n: b.double() for n, b in model.named_buffers()}


def worst(found: dict[str, float]) -> tuple[str, float]:
    return max(found.items(), key=lambda each: each[1] if each[1] == each[1] else float("inf"))


def check(model: nn.Module, x: Tensor, tolerance: float, **more: Any) -> None:
    name, value = worst(differences(model, x, **more))
    assert value <= tolerance, f"{name}: {value:.2e} of the largest"
