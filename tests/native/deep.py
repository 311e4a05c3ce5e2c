"""Gradients of deep networks in training beside float64, by the sides that each program took at kinks.

Where a ReLU's input, or the difference of two candidates of a maximum, is within rounding of its kink, either side is
right, and behind some dozen layers a jump of one unit is seen in every gradient before it. So the float64 gradients are
taken along the sides that the program itself took, which its own values tell, and the sides that are not float64's own
are counted. Nothing is forgiven but these: a unit may be on the other side only where its value is off by rounding.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from tests.native import comparing
from tests.native.comparing import Results
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from convscope import create_model
from convscope.layers import loss_for
from convscope.native import NativeNetwork
from convscope.native.branches import Along, every_value

#: Catalogue names, options, height and width of the pictures.
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "resnet18 64×64": ("resnet18", {}, 64),
    "resnet18 small, 32×32": ("resnet18", {"small": True}, 32),
    "vgg11_bn 32×32, 512 hidden": ("vgg11_bn", {"hidden": 512}, 32),
    "densenet121 64×64": ("densenet121", {}, 64),
    "googlenet 64×64": ("googlenet", {}, 64),
    "mobilenet_v2 64×64": ("mobilenet_v2", {}, 64),
}
BATCH = 16
_MAXIMA = ("max_pool2d", "adaptive_max_pool2d")


@dataclasses.dataclass(frozen=True)
class Gap:
    """How far a program's loss and gradients are from float64's, in parts of each one's largest number: as they are,
    and with float64 on the program's own ``sides`` at kinks, of which ``turned`` are not float64's own. ``off``: how
    far off the values were at the turned ones, in parts of their tensor's root mean square, at most."""

    plain: float
    sided: float
    turned: int
    sides: int
    off: float
    where: str


def built(name: str, seed: int, smooth: bool = False) -> nn.Module:
    """A network as it is before training, dropout off; ``smooth``: without kinks."""
    model, options, _ = NETWORKS[name]
    torch.manual_seed(seed)
    network = create_model(model, **options).train()
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return comparing.smooth(network) if smooth else network


def batch(name: str, seed: int) -> tuple[Tensor, Tensor]:
    side = NETWORKS[name][2]
    return comparing.pictures(BATCH, (3, side, side), seed), torch.arange(BATCH) * 7 % 10


class Sides(Along):
    """``Along`` in float64, which counts: every function with kinks must be met in ``values``."""

    def __init__(self, values: Sequence[Tensor]) -> None:
        super().__init__([each.double() for each in values])
        self.turned, self.sides, self.off = 0, 0, 0.0
        self._call: Any = None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._call = function, args[1:], {k: v for k, v in (kwargs or {}).items() if k != "inplace"}
        return super().__torch_function__(function, types, args, kwargs)

    def _own(self, u: Tensor, for_maxima: bool) -> Tensor | None:
        function, more, options = self._call
        own = super()._own(u, for_maxima)
        assert own is not None, f"{function.__name__} was given what the program never had"
        right = u.detach()
        if for_maxima:
            windows = {"return_indices": True, "ceil_mode": options.get("ceil_mode", False)}
            sizes = {k: options[k] for k in ("kernel_size", "stride", "padding") if k in options}
            most, _ = F.max_pool2d(right, *more[:3], **sizes, **windows)
            _, places = F.max_pool2d(own, *more[:3], **sizes, **windows)
            short = most - right.flatten(2).gather(2, places.flatten(2)).view_as(most)
            other = short > 0
            off = short[other]
        else:
            other = _slope(function, right, more, options) != _slope(function, own, more, options)
            off = (right - own).abs()[other]
            most = right
        self.turned += int(other.sum())
        self.sides += most.numel()
        if off.numel():
            self.off = max(self.off, float(off.max() / right.square().mean().sqrt()))
        return own


def _slope(function: Any, u: Tensor, more: Sequence[Any], options: dict[str, Any]) -> Tensor:
    with torch.enable_grad():
        leaf = u.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(function(leaf.clone(), *more, **options).sum(), leaf)
    return slope


class Heard(TorchFunctionMode):
    """Keeps what rectifiers and maxima are given."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Tensor] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "").removesuffix("_")
        if name in ("relu", "relu6", "hardtanh", *_MAXIMA):
            self.values.append(args[0].detach().clone())
        return function(*args, **(kwargs or {}))


def by_engine(model: nn.Module, x: Tensor, targets: Tensor) -> tuple[Results, list[Tensor]]:
    """Loss, outputs and gradients, and every value on the way."""
    model = copy.deepcopy(model)
    network = NativeNetwork(model, tuple(x.shape[1:]), "cross_entropy")
    values = [x, *every_value(network, x, 0)]
    loss, outputs = network.loss_and_grad(x, targets)
    return _results(model, torch.tensor(loss), outputs[0]), values


def by_torch(model: nn.Module, x: Tensor, targets: Tensor, mode: Any = None) -> Results:
    """In the type of ``x``."""
    model = copy.deepcopy(model).to(x.dtype)
    objective = loss_for("cross_entropy", model)
    if mode is None:
        outputs = model(x)
    else:
        with mode:
            outputs = model(x)
    loss = objective.value(outputs, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    return _results(model, loss, getattr(outputs, "logits", outputs))


def _results(model: nn.Module, loss: Tensor, outputs: Tensor) -> Results:
    found = {"the loss": loss.detach().double(), "output 0": outputs.detach().double()}
    return found | {f"gradient of {n}": p.grad.double() for n, p in model.named_parameters() if p.grad is not None}


def distance(got: Results, exact: Results) -> tuple[str, float]:
    scales = comparing.scales_of(exact)
    return comparing.worst({n: comparing.relative(got[n], right, scales[n]) for n, right in exact.items()})


def gap(model: nn.Module, x: Tensor, targets: Tensor, got: Results, values: Sequence[Tensor], exact: Results) -> Gap:
    """``got`` beside ``exact``, and beside float64 along the sides that ``values`` tell."""
    sides = Sides(values)
    along = by_torch(model, x.double(), targets, sides)
    where, sided = distance(got, along)
    return Gap(distance(got, exact)[1], sided, sides.turned, sides.sides, sides.off, where)


def gaps(name: str, seed: int, smooth: bool = False, torchs: bool = True) -> list[Gap]:
    """The engine's and, with ``torchs``, that of torch's own float32."""
    model, (x, targets) = built(name, seed, smooth), batch(name, seed)
    exact = by_torch(model, x.double(), targets)
    found = [gap(model, x, targets, *by_engine(model, x, targets), exact)]
    if torchs:
        heard = Heard()
        single = by_torch(model, x, targets, heard)
        found.append(gap(model, x, targets, single, heard.values, exact))
    return found
