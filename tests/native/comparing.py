"""Native results beside torch's: outputs, gradients of parameters and input, running statistics."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from tests import kinks
from torch import Tensor, nn
from torch.utils import _pytree

from convscope.layers import loss_for
from convscope.native import NativeNetwork, accelerate

ONE_LAYER = 1e-5  # of the largest number, as everywhere here
WHOLE_NETWORK = 1e-4
# A whole network rounds some times as much as one rounding of every parameter moves it: torch's own float32 gradients
# are up to 3 times as far off, the engine's up to 7 times (Inception-v4, 5 images).
ROUNDINGS = 16


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


def smooth(model: nn.Module) -> nn.Module:
    """Without kinks: SiLU in place of rectifiers, means in place of maxima."""
    for module in list(model.modules()):
        for child_name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(module, child_name, nn.SiLU())
            elif isinstance(child, nn.MaxPool2d):
                sizes = (child.kernel_size, child.stride, child.padding)
                setattr(module, child_name, nn.AvgPool2d(*sizes, ceil_mode=child.ceil_mode))
    return model


def relative(got: Tensor, wanted: Tensor, least: float = 1e-3) -> float:
    """The largest difference, in parts of the largest number wanted (at least ``least``)."""
    assert got.shape == wanted.shape, f"{tuple(got.shape)} instead of {tuple(wanted.shape)}"
    if wanted.numel() == 0:
        return 0.0
    largest = float(wanted.detach().abs().max())
    return float((got.detach() - wanted.detach()).abs().max()) / max(largest, least)


Objective = Callable[[Any], Tensor]
Results = dict[str, Tensor]  # "output 0", …, "input gradient", "gradient of …", buffers by name


class Difference(NamedTuple):
    what: str
    value: float  # in parts of the largest number
    allowed: float
    turned: int  # decisions at kinks that had to be taken the other way


def check(model: nn.Module, x: Tensor, tolerance: float, gradients: bool = True) -> None:
    """Outputs, statistics and (unless told otherwise) gradients of ``model``, accelerated, against torch's float64."""
    found = difference(model, x, tolerance, gradients)
    assert found.value <= found.allowed, f"{found.what}: {found.value:.2e} of the largest, allowed {found.allowed:.0e}"


def difference(model: nn.Module, x: Tensor, tolerance: float, gradients: bool = True) -> Difference:
    """What differs most. The sum that is differentiated weighs every output with its own random number."""
    fast = accelerate(copy.deepcopy(model))
    own = x.clone().requires_grad_()
    outputs = fast(own)
    _weighed(outputs).backward()  # type: ignore[no-untyped-call]
    return _compare(model, x, _weighed, _results(fast, own, outputs), tolerance, gradients)


def check_step(model: nn.Module, loss: str, x: Tensor, targets: Tensor, tolerance: float) -> None:
    """The same of a training step in one pass, for a loss of ours; without dropout, since its numbers differ."""
    model = copy.deepcopy(model).train()
    for each in model.modules():
        if isinstance(each, nn.modules.dropout._DropoutNd):
            each.eval()
    native = copy.deepcopy(model)
    network = NativeNetwork(native, tuple(x.shape[1:]), loss)
    delta = torch.empty_like(x)
    value, outputs = network.loss_and_grad(x, targets, input_delta=delta)
    own = x.clone().requires_grad_()
    own.grad = delta
    calculated = loss_for(loss, model)

    def objective(y: Any) -> Tensor:
        found: Tensor = calculated.value(y, targets)
        return found

    found = _compare(model, x, objective, _results(native, own, outputs), tolerance)
    assert found.value <= found.allowed, f"{found.what}: {found.value:.2e} of the largest, allowed {found.allowed:.0e}"
    exact = float(objective(copy.deepcopy(model).double()(x.double())).detach())
    assert abs(value - exact) <= found.allowed * abs(exact), f"the loss: {value} instead of {exact}"


def _compare(
    model: nn.Module, x: Tensor, objective: Objective, got: Results, tolerance: float, gradients: bool = True
) -> Difference:
    """``got`` beside float64.

    Where it is further off than ``tolerance``, two things may excuse it. A network may make more of any rounding: what
    it makes of one rounding of every parameter is measured, and ``ROUNDINGS`` times as much allowed. And units within
    rounding of a kink may be on either side of it: ``tests.kinks`` settles on which.
    """
    exact = _exactly(copy.deepcopy(model).double(), x, objective)
    assert exact.keys() == got.keys()
    if not gradients:
        exact = {name: each for name, each in exact.items() if "gradient" not in name}
    scales = scales_of(exact)
    found = {name: relative(got[name], right, scales[name]) for name, right in exact.items()}
    turned = 0
    if not worst(found)[1] <= tolerance and math.isfinite(worst(found)[1]):
        tolerance = max(tolerance, ROUNDINGS * conditioning(model, x, objective, exact, scales))
    deltas = {name: name.removeprefix("gradient of ") for name in found if "gradient" in name}
    if any(not found[name] <= tolerance for name in deltas) and all(got[name].isfinite().all() for name in deltas):
        settled = kinks.settle(
            model, x, objective, {short: got[n] for n, short in deltas.items()},
            {short: scales[n] for n, short in deltas.items()}, tolerance,
        )  # fmt: skip
        turned = settled.turned
        found |= {n: relative(got[n], settled.gradients[short], scales[n]) for n, short in deltas.items()}
    return Difference(*worst(found), tolerance, turned)


def conditioning(model: nn.Module, x: Tensor, objective: Objective, exact: Results, scales: dict[str, float]) -> float:
    """How much the results move when every parameter is rounded once, in float32: the smaller of two draws, since a
    jump at a kink is not to be allowed for."""
    moved = []
    for draw in range(2):
        other, stream = copy.deepcopy(model).double(), torch.Generator().manual_seed(draw)
        with torch.no_grad():
            for each in other.parameters():
                each.mul_(1 + torch.finfo(torch.float32).eps * torch.randn(each.shape, generator=stream).to(each))
        found = _exactly(other, x, objective)
        moved.append(max(relative(found[name], right, scales[name]) for name, right in exact.items()))
    return min(moved)


def scales_of(exact: Results) -> dict[str, float]:
    """What each difference is measured in: the largest number, or that of the other gradients if it is far smaller."""
    sizes = {name: float(each.abs().max()) if each.numel() else 0.0 for name, each in exact.items()}
    largest = max((size for name, size in sizes.items() if name.startswith("gradient of")), default=0.0)
    scales = {}
    for name, size in sizes.items():
        floor = 1e-3
        if name.startswith("gradient of"):
            # A bias before batch normalisation has a gradient of 0 but for the rounding of what cancels out, which is
            # not small beside itself but beside the other gradients.
            floor = max(floor, largest if size < 1e-8 * largest else 0.02 * largest)
        scales[name] = max(size, floor)
    return scales


def _weighed(outputs: Any) -> Tensor:
    stream = torch.Generator().manual_seed(5)
    every = _pytree.tree_leaves(outputs)
    return torch.stack([(y * torch.randn(y.shape, generator=stream).to(y)).sum() for y in every]).sum()


def _exactly(model: nn.Module, x: Tensor, objective: Objective) -> Results:
    own = x.double().requires_grad_()
    outputs = model(own)
    objective(outputs).backward()  # type: ignore[no-untyped-call]
    return _results(model, own, outputs)


def _results(model: nn.Module, own: Tensor, outputs: Any) -> Results:
    assert own.grad is not None
    every = [y for y in _pytree.tree_leaves(outputs) if isinstance(y, Tensor)]  # a loss's weight is a number
    found = {f"output {i}": y.detach().double() for i, y in enumerate(every)}
    found["input gradient"] = own.grad.double()
    found |= {f"gradient of {n}": p.grad.double() for n, p in model.named_parameters() if p.grad is not None}
    return found | {n: b.double() for n, b in model.named_buffers()}


def worst(found: dict[str, float]) -> tuple[str, float]:
    return max(found.items(), key=lambda each: each[1] if each[1] == each[1] else float("inf"))
