"""Connection tables."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from convscope.errors import ArgumentError
from convscope.rules.connections import connections, gather_kernels, scatter_kernels, whole_table
from convscope.rules.conv import Conv

#: LeCun et al. 1998, table I: the input maps of C3's sixteen output maps.
C3 = (
    *(tuple(sorted((start + k) % 6 for k in range(3))) for start in range(6)),
    *(tuple(sorted((start + k) % 6 for k in range(4))) for start in range(6)),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip


def test_c3_has_sixty_kernels_and_1516_parameters() -> None:
    into, out_of = connections(C3)
    assert len(into) == len(out_of) == 60
    assert 60 * 25 + 16 == 1516
    kernels = torch.arange(60 * 25.0).reshape(60, 5, 5)
    whole = scatter_kernels(kernels, C3, 6)
    assert whole.shape == (16, 6, 5, 5)
    assert torch.equal(gather_kernels(whole, C3), kernels)
    assert int((whole.abs().sum((2, 3)) > 0).sum()) == 60


def test_another_device() -> None:
    """On the "meta" device, which refuses tensors of the CPU."""
    rule = Conv(2, table=C3)
    y, saved = rule.forward(torch.empty(2, 6, 14, 14, device="meta"), torch.empty(60, 5, 5, device="meta"))
    _, gradients = rule.backward(saved, y)
    assert gradients["weight"].device.type == "meta"
    assert gradients["weight"].shape == (60, 5, 5)


def test_gather_is_the_adjoint_of_scatter() -> None:
    compact, whole = torch.randn(60, 5, 5, dtype=torch.float64), torch.randn(16, 6, 5, 5, dtype=torch.float64)
    left = float((scatter_kernels(compact, C3, 6) * whole).sum())
    assert left == pytest.approx(float((compact * gather_kernels(whole, C3)).sum()), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: whole_table([]), r"table: got \[\], wanted one row for each output map"),
        (lambda: whole_table([[0], []]), "at least one input map for output map 1"),
        (lambda: whole_table([[0, 0]]), "distinct input maps, counted from 0, for output map 0"),
        (lambda: whole_table([[-1]]), "distinct input maps"),
        (lambda: scatter_kernels(torch.zeros(2, 3, 3), ((0,),), 1), "weight: got .*wanted 1 kernels, one for each"),
        (lambda: scatter_kernels(torch.zeros(1, 3, 3), ((4,),), 3), "table: got 4, wanted input maps below 3"),
        (lambda: gather_kernels(torch.zeros(2, 3, 3, 3), ((0,),)), "weight: got .*wanted 1 output maps"),
        (lambda: gather_kernels(torch.zeros(1, 3, 3, 3), ((3,),)), "table: got 3, wanted input maps below 3"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()
