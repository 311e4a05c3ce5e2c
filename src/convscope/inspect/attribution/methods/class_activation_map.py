"""Class activation mapping."""

from __future__ import annotations

from typing import NoReturn

from torch import Tensor

from convscope.errors import ArgumentError
from convscope.inspect.attribution.methods.grad_cam import stretched
from convscope.inspect.attribution.registry import method
from convscope.inspect.attribution.subject import Subject, first_tensor
from convscope.rules import tape
from convscope.rules.activation import Linear
from convscope.rules.pool import AdaptiveMeanPool, MeanPool
from convscope.rules.reshape import Total

_LINEAR = ("dense", "conv", "reshape", "dropout")


@method()
def class_activation_map(subject: Subject, upsample: bool = True) -> Tensor:
    """Σ_k w_k·A_k, w_k the class's weight of map k: for networks that end in the mean of each map and a linear layer.

    Zhou, Khosla, Lapedriza, Oliva, Torralba 2016. Its mean over all places is the score without the bias. Networks that
    go on otherwise behind their maps are refused; Grad-CAM is this method's form for them.
    """
    steps = subject.ran.steps
    place = next((at for at in reversed(range(len(steps))) if _is_global_mean(steps[at])), None)
    if place is None:
        _refuse("No layer takes the mean of whole maps.")
    pooled = steps[place]
    last = pooled
    for step in steps[place + 1 :]:
        reads = [source.node for source in step.sources if source is not None]
        if last.node not in reads:
            continue
        if len(reads) > 1 or not (step.rule.kind in _LINEAR or isinstance(step.rule, Linear)):
            _refuse(f"{step.name!r} stands between the mean of the maps and the output.")
        last = step
    if last.output.data_ptr() != first_tensor(subject.ran.output).data_ptr():
        _refuse(f"{last.name!r} is not what the network puts out.")
    delta = subject.back(subject.ran).steps[pooled.name].delta  # w_k, as everything behind is linear
    if delta is None:
        raise ArgumentError("target", str(subject.target), "one that lies behind the mean of the maps")
    maps = pooled.inputs[0]
    seen = (delta.reshape(*delta.shape[:2], *(1,) * (maps.ndim - 2)) * maps).sum(1, keepdim=True)
    return stretched(seen, subject.x) if upsample else seen


def _is_global_mean(step: tape.Step) -> bool:
    """Whether a step makes one number, the mean, of each map (n, c, …)."""
    x, y = (step.inputs or (None,))[0], step.output
    if not isinstance(x, Tensor) or not isinstance(y, Tensor) or x.ndim < 3 or y.numel() != len(x) * x.shape[1]:
        return False
    return isinstance(step.rule, MeanPool | AdaptiveMeanPool) or (isinstance(step.rule, Total) and step.rule.mean)


def _refuse(why: str) -> NoReturn:
    wanted = "a network that ends in the mean of each map and linear layers"
    raise ArgumentError("method", "class_activation_map", wanted, f"{why} Use grad_cam.")
