"""Which of torch's pooling modules and functions the pooling rules answer for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.rules.base import Applied, Rule, rule_for_function, rule_for_module
from convscope.rules.pool import AdaptiveMaxPool, AdaptiveMeanPool, L2Pool, MaxPool, MeanPool


def _plain(value: Any) -> Any:
    """torch also takes a sequence of one number for all dimensions, and an empty one for the default."""
    if isinstance(value, Sequence) and len(value) <= 1:
        return value[0] if value else None
    return value


def _bins(output_size: Any, dims: int) -> tuple[int | None, ...]:
    return tuple(output_size) if isinstance(output_size, Sequence) else (output_size,) * dims


def _bind_modules(
    dims: int,
    largest: type[Any],
    mean: type[Any],
    adaptive_mean: type[Any],
    adaptive_largest: type[Any],
    power: type[Any],
) -> None:
    @rule_for_module(largest)
    def _(module: Any, x: Tensor) -> Rule | None:
        size, step, frame, apart = map(_plain, (module.kernel_size, module.stride, module.padding, module.dilation))
        return (
            MaxPool(dims, size, step, frame, apart, module.ceil_mode, module.return_indices)
            if x.ndim == dims + 2
            else None
        )

    @rule_for_module(mean)
    def _(module: Any, x: Tensor) -> Rule | None:
        size, step, frame = map(_plain, (module.kernel_size, module.stride, module.padding))
        divisor = getattr(module, "divisor_override", None)
        rule = MeanPool(dims, size, step, frame, 1, module.ceil_mode, module.count_include_pad, divisor)
        return rule if x.ndim == dims + 2 else None

    @rule_for_module(adaptive_mean)
    def _(module: Any, x: Tensor) -> Rule | None:
        return AdaptiveMeanPool(_bins(module.output_size, dims)) if x.ndim == dims + 2 else None

    @rule_for_module(adaptive_largest)
    def _(module: Any, x: Tensor) -> Rule | None:
        rule = AdaptiveMaxPool(_bins(module.output_size, dims), module.return_indices)
        return rule if x.ndim == dims + 2 else None

    @rule_for_module(power)
    def _(module: Any, x: Tensor) -> Rule | None:
        if module.norm_type != 2 or x.ndim != dims + 2:
            return None
        return L2Pool(dims, _plain(module.kernel_size), _plain(module.stride), ceil_mode=module.ceil_mode)


def _bind_functions(
    dims: int,
    largest: Sequence[Callable[..., Any]],
    mean: Callable[..., Any],
    adaptive_mean: Sequence[Callable[..., Any]],
    adaptive_largest: Callable[..., Any],
) -> None:
    @rule_for_function(*largest)
    def _(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Applied | None:
        size, step, frame, apart = map(_plain, (kernel_size, stride, padding, dilation))
        rule = MaxPool(dims, size, step, frame, apart, ceil_mode, return_indices)
        return Applied(rule, (input,)) if input.ndim == dims + 2 else None

    @rule_for_function(mean)
    def _(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Applied | None:
        size, step, frame = map(_plain, (kernel_size, stride, padding))
        rule = MeanPool(dims, size, step, frame, 1, ceil_mode, count_include_pad, divisor_override)
        return Applied(rule, (input,)) if input.ndim == dims + 2 else None

    @rule_for_function(*adaptive_mean)
    def _(input: Tensor, output_size: Any) -> Applied | None:
        return Applied(AdaptiveMeanPool(_bins(output_size, dims)), (input,)) if input.ndim == dims + 2 else None

    @rule_for_function(adaptive_largest)
    def _(input: Tensor, output_size: Any, return_indices: bool = False) -> Applied | None:
        rule = AdaptiveMaxPool(_bins(output_size, dims), return_indices)
        return Applied(rule, (input,)) if input.ndim == dims + 2 else None


_bind_modules(1, nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d, nn.LPPool1d)
_bind_modules(2, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d)
_bind_modules(3, nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d, nn.LPPool3d)
_bind_functions(1, (F.max_pool1d, torch.max_pool1d), F.avg_pool1d, (F.adaptive_avg_pool1d,), F.adaptive_max_pool1d)
_bind_functions(2, (F.max_pool2d, torch.max_pool2d), F.avg_pool2d, (F.adaptive_avg_pool2d,), F.adaptive_max_pool2d)
_bind_functions(3, (F.max_pool3d, torch.max_pool3d), F.avg_pool3d, (F.adaptive_avg_pool3d,), F.adaptive_max_pool3d)
