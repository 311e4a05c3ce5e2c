"""Independent answers to compare with: plain loops in float64, finite differences, and autograd on torch's own layers.

Nothing here uses ``convscope.rules`` but ``check_model``, which checks them. The loops are written from the
definitions, index by index, and are meant for small sizes.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

Array = npt.NDArray[np.float64]
Sizes = Sequence[int]


def conv_by_loops(
    x: Array,
    kernels: Array,
    bias: Array | None = None,
    stride: Sizes = (1, 1),
    padding: Sizes = (0, 0),
    dilation: Sizes = (1, 1),
    groups: int = 1,
    table: Sequence[Sequence[int]] | None = None,
    true_convolution: bool = False,
) -> Array:
    """Σ over input maps and kernel taps of x[position·s − p + tap·d]·k[tap], for every output, one at a time.

    With ``table`` output map j sums only over the input maps in ``table[j]``. ``true_convolution`` reads the kernel
    backwards.
    """
    n, _, *size = x.shape
    out_channels, within, *kernel = kernels.shape
    out = [
        (m + 2 * p - d * (k - 1) - 1) // s + 1
        for m, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    y = np.zeros((n, out_channels, *out))
    for image, j in itertools.product(range(n), range(out_channels)):
        first = j // (out_channels // groups) * within
        maps = range(first, first + within) if table is None else table[j]
        for position in itertools.product(*map(range, out)):
            total = 0.0 if bias is None else float(bias[j])
            for i, tap in itertools.product(maps, itertools.product(*map(range, kernel))):
                at = [u * s - p + t * d for u, s, p, t, d in zip(position, stride, padding, tap, dilation, strict=True)]
                if all(0 <= a < m for a, m in zip(at, size, strict=True)):
                    read = tuple(k - 1 - t for t, k in zip(tap, kernel, strict=True)) if true_convolution else tap
                    total += x[(image, i, *at)] * kernels[(j, i - first if table is None else i, *read)]
            y[(image, j, *position)] = total
    return y


def pool_by_loops(
    x: Array,
    statistic: Callable[[list[float]], float],
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    out: Sizes,
) -> Array:
    """``statistic`` of the elements inside the picture of every window, for ``out`` windows a dimension."""
    n, c, *size = x.shape
    y = np.zeros((n, c, *out))
    for at in itertools.product(range(n), range(c), *map(range, out)):
        elements = []
        for tap in itertools.product(*map(range, kernel_size)):
            place = [u * s - p + t * d for u, s, p, t, d in zip(at[2:], stride, padding, tap, dilation, strict=True)]
            if all(0 <= q < m for q, m in zip(place, size, strict=True)):
                elements.append(float(x[(at[0], at[1], *place)]))
        y[at] = statistic(elements)
    return y


def slope(function: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor, step: float = 1e-5) -> float:
    """d/dt function(x + t·direction) at t = 0 by five points, error O(step⁴); ``function`` gives a scalar."""
    ahead = [float(function(x + k * step * direction)) for k in (-2, -1, 1, 2)]
    return (ahead[0] - 8 * ahead[1] + 8 * ahead[2] - ahead[3]) / (12 * step)


def by_autograd(
    function: Callable[..., Tensor], tensors: Sequence[Tensor], delta: Tensor | None = None
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """(y, δ, gradients by ``tensors``) of torch's own ``function``; δ is drawn where none is given."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    y = function(*leaves)
    delta = torch.randn_like(y) if delta is None else delta
    found = torch.autograd.grad(y, leaves, delta, allow_unused=True)
    filled = [torch.zeros_like(t) if g is None else g for t, g in zip(leaves, found, strict=True)]
    return y.detach(), delta, filled


def worst(one: Tensor, other: Tensor) -> float:
    """Largest difference relative to the largest value of ``other`` (at least 1e-4, for what is zero but for rounding,
    such as the gradient of a bias before batch normalisation)."""
    assert one.shape == other.shape, f"{tuple(one.shape)} is not {tuple(other.shape)}"
    if one.numel() == 0:
        return 0.0
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-4))


def check_rule(
    rule: Any,
    reference: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    parameters: dict[str, Tensor] | None = None,
    exactly: float = 1e-9,
    by_differences: float = 1e-6,
) -> None:
    """Forward and backward of ``rule`` against torch's ``reference(*inputs, *parameters)`` under autograd, relative
    error ≤ ``exactly``, and its backward against finite differences of its own forward, ≤ ``by_differences``.

    Also: ``saved`` holds exactly what ``needs`` declares, and nothing that went in was changed.
    """
    parameters = parameters or {}
    tensors = [*inputs, *parameters.values()]
    before = [tensor.clone() for tensor in tensors]
    y, saved = rule.forward(*inputs, **parameters)
    assert set(saved) == set(rule.needs), f"saved {sorted(saved)}, declared {sorted(rule.needs)}"
    expected, delta, gradients = by_autograd(reference, tensors)
    assert worst(y, expected) <= exactly, f"forward: {worst(y, expected):.1e}"
    deltas, found = rule.backward(saved, delta)
    assert set(found) == set(parameters), f"gradients of {sorted(found)}, parameters {sorted(parameters)}"
    mine = [*deltas, *(found[name] for name in parameters)]
    labels = [*(f"input {index}" for index in range(len(inputs))), *parameters]
    for label, own, other in zip(labels, mine, gradients, strict=True):
        assert worst(own, other) <= exactly, f"{label} against autograd: {worst(own, other):.1e}"
    for tensor, old in zip(tensors, before, strict=True):
        assert torch.equal(tensor, old), "an input was changed"
    for index, (label, own, tensor) in enumerate(zip(labels, mine, tensors, strict=True)):

        def loss(moved: Tensor, index: int = index) -> Tensor:
            replaced = [*tensors[:index], moved, *tensors[index + 1 :]]
            named = dict(zip(parameters, replaced[len(inputs) :], strict=True))
            result: Tensor = (rule.forward(*replaced[: len(inputs)], **named)[0] * delta).sum()
            return result

        direction = torch.randn_like(tensor)
        numeric, analytic = slope(loss, tensor, direction), float((own * direction).sum())
        size = float(loss(tensor)) * 1e-4  # below it the differences are rounding: eps·J/step
        scale = max(abs(numeric), float((own * direction).abs().sum()), abs(size), 1e-6)
        assert abs(numeric - analytic) <= by_differences * scale, f"{label}: {analytic} but the slope is {numeric}"


def check_model(model: nn.Module, *inputs: Tensor, expected_rules: int | None = None, exactly: float = 1e-9) -> Any:
    """Output, δ of every input and gradient of every parameter equal autograd's, also the buffers afterwards.

    ``expected_rules``: how many steps the model has, all of which must be by rules. Returns the tape.
    """
    from convscope.rules.tape import forward

    model = model.double()
    inputs = tuple(item.double() if item.is_floating_point() else item for item in inputs)
    other = copy.deepcopy(model)
    leaves = [item.clone().requires_grad_() if item.is_floating_point() else item for item in inputs]
    torch.manual_seed(11)
    # a copy goes in, because a model may change its input in place
    outputs, structure = pytree.tree_flatten(other(*(leaf.clone() for leaf in leaves)))
    deltas = [torch.randn_like(y) if y.requires_grad else None for y in outputs]
    pairs = [(y, delta) for y, delta in zip(outputs, deltas, strict=True) if delta is not None]
    torch.autograd.backward([y for y, _ in pairs], [delta for _, delta in pairs])
    torch.manual_seed(11)
    ran = forward(model, *inputs)
    back = ran.backward(pytree.tree_unflatten(deltas, structure))
    for own, y in zip(pytree.tree_leaves(ran.output), outputs, strict=True):
        assert worst(own, y.detach()) <= exactly
    for mine, leaf in zip(back.inputs, leaves, strict=True):
        if leaf.grad is not None:
            assert mine is not None
            assert worst(mine, leaf.grad) <= exactly
    wanted = {name: parameter.grad for name, parameter in other.named_parameters() if parameter.grad is not None}
    assert set(back.gradients) >= set(wanted)
    for name, found in back.gradients.items():
        expected = wanted.get(name, torch.zeros_like(found))
        assert expected is not None
        assert worst(found, expected) <= exactly, name
    for name, buffer in other.named_buffers():
        torch.testing.assert_close(model.get_buffer(name), buffer, msg=name)
    assert all(parameter.grad is None for parameter in model.parameters())
    by_rule = sum(step.rule.kind != "other" for step in ran)
    assert expected_rules is None or by_rule == len(ran.steps) == expected_rules, [
        step.name for step in ran if step.rule.kind == "other"
    ]
    return ran


def well_apart(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random values no two of which are nearer than 0.01, nor nearer than 0.005 to zero: no kink within a finite
    difference's step."""
    count = int(np.prod(shape))
    values = (torch.randperm(count) - count // 2).to(dtype) * 0.01 + 0.005
    return values.reshape(shape)
