"""Normalising by the whole batch's statistics, its parts in threads that stand for processes."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from convscope.training.batch_norm import Synchronised


class Meeting:
    """``gather`` between threads: each puts its values down, waits for the others, and takes them all."""

    def __init__(self, world: int) -> None:
        self.values: list[Tensor] = [torch.empty(0)] * world
        self.barrier = threading.Barrier(world, timeout=20)

    def gather(self, rank: int) -> Callable[[Tensor], Tensor]:
        def all_values(values: Tensor) -> Tensor:
            self.values[rank] = values
            self.barrier.wait()
            found = torch.stack(self.values)
            self.barrier.wait()
            return found

        return all_values


def run(layer: nn.Module, parts: list[Tensor], weights: Tensor) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """(layer, outputs, ∂J/∂x) of each part, J = Σ w·y³ over all of them."""
    meeting = Meeting(len(parts))
    copies = [copy.deepcopy(layer) for _ in parts]
    shares = torch.split(weights, [len(part) for part in parts])

    def work(rank: int) -> tuple[nn.Module, Tensor, Tensor]:
        x = parts[rank].clone().requires_grad_()
        with Synchronised(meeting.gather(rank)):
            y = copies[rank](x)
        (shares[rank] * y**3).sum().backward()
        assert x.grad is not None
        return copies[rank], y.detach(), x.grad

    with ThreadPoolExecutor(len(parts)) as threads:
        return list(threads.map(work, range(len(parts))))


def close(found: Tensor, wanted: Tensor | None) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("sizes", [[3, 4], [1, 5, 1], [7]])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm2d(3), (3, 5, 4)),
        (nn.BatchNorm2d(3, affine=False, momentum=0.3), (3, 1, 1)),
        (nn.BatchNorm1d(3, eps=1e-2), (3,)),
        (nn.BatchNorm1d(3, track_running_stats=False), (3, 6)),
    ],
)
def test_parts_give_what_the_whole_gives(sizes: list[int], layer: nn.Module, shape: tuple[int, ...]) -> None:
    """torch's batch normalisation of the whole batch is the reference: outputs, all gradients, running statistics."""
    chance = torch.Generator().manual_seed(3)
    layer = copy.deepcopy(layer).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=chance, dtype=torch.float64) + 0.5)
    x = torch.randn(sum(sizes), *shape, generator=chance, dtype=torch.float64) * 3 + 2
    weights = torch.rand(x.shape, generator=chance, dtype=torch.float64)
    parts = run(layer, list(torch.split(x, sizes)), weights)
    whole = x.clone().requires_grad_()
    y = layer(whole)
    (weights * y**3).sum().backward()
    close(torch.cat([each[1] for each in parts]), y.detach())
    close(torch.cat([each[2] for each in parts]), whole.grad)
    for name, parameter in layer.named_parameters():
        gradients = [dict(each[0].named_parameters())[name].grad for each in parts]
        summed = torch.stack([each for each in gradients if each is not None]).sum(0)
        close(summed, parameter.grad)
    for name, buffer in layer.named_buffers():
        for each in parts:
            close(dict(each[0].named_buffers())[name], buffer)
    if len(sizes) > 1 and sizes[0] > 1:  # the canary: one part's own statistics give something else
        assert not torch.allclose(layer(x[: sizes[0]]), y[: sizes[0]], rtol=1e-3)


def test_a_single_value_in_all_parts_is_refused() -> None:
    with (
        Synchronised(lambda values: values.unsqueeze(0)),
        pytest.raises(ValueError, match="Expected more than 1 value per channel"),
    ):
        nn.BatchNorm2d(2)(torch.zeros(1, 2, 1, 1))


def test_evaluation_and_other_functions_are_left_alone() -> None:
    def never(values: Tensor) -> Tensor:
        raise AssertionError("nothing is exchanged")

    x, mean, variance = torch.randn(2, 3, 4), torch.randn(3), torch.rand(3) + 1
    with Synchronised(never):
        found = functional.batch_norm(x, mean, variance), functional.relu(x)
    assert torch.equal(found[0], functional.batch_norm(x, mean, variance))
    assert torch.equal(found[1], x.relu())


def test_bfloat16_is_normalised_in_float32() -> None:
    x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1)) + 5
    with Synchronised(lambda values: values.unsqueeze(0)):
        found = functional.batch_norm(x.bfloat16(), None, None, training=True)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), functional.batch_norm(x, None, None, training=True), rtol=0, atol=0.05)
