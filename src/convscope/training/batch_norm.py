"""Batch normalisation whose statistics are those of the whole batch, whichever processes its parts are in.

torch's own ``SyncBatchNorm`` works on GPUs only, and takes the mean of the processes' losses for granted. Here the
loss is the whole batch's, so that what comes out is, but for rounding, what one process makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Gather = Callable[[Tensor], Tensor]


class _Arguments(NamedTuple):
    """Of ``torch.nn.functional.batch_norm``, in its order."""

    input: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5


class Synchronised(TorchFunctionMode):
    """Inside ``with``, every batch normalisation that takes its statistics from the batch takes them from the whole.

    ``gather`` turns a tensor of one shape in every process into all of them, stacked: (processes, …). All processes
    must come through the same normalisations in the same order, forward and backward, as copies of one model do.
    Running means and variances are updated from the whole batch too, equally in every process. Raises ValueError, as
    torch does, for a channel of which the whole batch has a single value.
    """

    def __init__(self, gather: Gather) -> None:
        super().__init__()
        self.gather = gather
        self.idle = False  # whether what passes here stands for nothing, and only keeps the others company

    def __torch_function__(
        self, function: Any, types: Iterable[Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is functional.batch_norm:
            given = _Arguments(*args, **kwargs)
            if given.training:
                return self._normalised(given)
        return function(*args, **kwargs)

    def _normalised(self, given: _Arguments) -> Tensor:
        x = given.input
        if x.ndim < 2:
            raise ValueError(f"batch normalisation takes (n, c, …), not {tuple(x.shape)}")
        arguments = (x, given.weight, given.bias, given.eps, self.gather, self.idle)
        result, mean, variance, count = _Normalised.apply(*arguments)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            if given.running_mean is not None:
                given.running_mean.lerp_(mean.to(given.running_mean.dtype), given.momentum)
            if given.running_var is not None:
                unbiased = variance * (count / (count - 1))
                given.running_var.lerp_(unbiased.to(given.running_var.dtype), given.momentum)
        normalised: Tensor = result
        return normalised


class _Normalised(torch.autograd.Function):
    """y = w·x̂ + b, x̂ = (x − μ) / √(σ² + ε) for each channel, μ and σ² over the N values of all processes.

    Backward: ∂J/∂x = w / √(σ² + ε) · (δ − Σδ/N − x̂·Σδx̂/N) with δ = ∂J/∂y and sums over all processes; ∂J/∂w = Σδx̂ and
    ∂J/∂b = Σδ over this process's values, since parameters' gradients are added up later (Ioffe, Szegedy, "Batch
    normalization", 2015, section 3). J must be this process's part of the whole batch's loss.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, gather: Gather, idle: bool
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        exact = x if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(exact, axes, correction=0)
        values = 0.0 if idle else x.numel() / x.shape[1]  # of each channel
        own = torch.cat((x.new_full((1,), values, dtype=torch.float64), mean, variance))
        counts, means, variances = torch.split(
            gather(own), [1, x.shape[1], x.shape[1]], 1
        )  # (processes, 1), (processes, c)
        count = float(counts.sum())
        if count <= 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got {count:g} in all processes")
        # sums of squares about each process's own mean, moved to the common one (Chan, Golub, LeVeque, 1979)
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean).square())).sum(0) / count
        shape = [1, -1, *[1] * (x.ndim - 2)]
        scale = (variance + eps).rsqrt().to(exact.dtype).reshape(shape)
        standard = (exact - mean.to(exact.dtype).reshape(shape)) * scale
        result = standard if weight is None else standard * weight.reshape(shape)
        if bias is not None:
            result = result + bias.reshape(shape)
        ctx.save_for_backward(standard, scale, weight)
        ctx.count, ctx.gather, ctx.axes, ctx.shape = count, gather, axes, shape
        ctx.idle = idle
        ctx.bias_type = None if bias is None else bias.dtype
        result = result.to(x.dtype)
        ctx.mark_non_differentiable(mean, variance)
        return result, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, delta: Tensor, *others: Any) -> tuple[Tensor | None, ...]:
        standard, scale, weight = ctx.saved_tensors
        exact = delta.to(standard.dtype)
        sums = torch.stack((exact.sum(ctx.axes), (exact * standard).sum(ctx.axes)))
        whole = (ctx.gather(sums.double()).sum(0) / ctx.count).to(standard.dtype)
        plain, along = whole[0].reshape(ctx.shape), whole[1].reshape(ctx.shape)
        inputs = (exact - plain - standard * along) * scale * (not ctx.idle)  # an idle part has no share in the means
        if weight is not None:
            inputs = inputs * weight.reshape(ctx.shape)
        weights = sums[1].to(weight.dtype) if weight is not None else None
        biases = sums[0].to(ctx.bias_type) if ctx.bias_type is not None else None
        return inputs.to(delta.dtype), weights, biases, None, None, None
