"""Windows and their adjoint."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope.rules.windows import pad, rotate180, unpad, unwindow, windows


def test_hand_worked() -> None:
    x = torch.arange(6.0)
    assert windows(x, (2,), (2,), (1,)).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert windows(x, (2,), (1,), (3,)).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert unwindow(torch.ones(5, 2), (6,), (1,), (1,)).tolist() == [1, 2, 2, 2, 2, 1]
    assert rotate180(torch.tensor([[1, 2], [3, 4]]), 2).tolist() == [[4, 3], [2, 1]]
    assert pad(torch.ones(2), ((1, 2),), 7.0).tolist() == [7, 1, 1, 7, 7]
    assert pad(torch.arange(4.0), ((-1, 1),)).tolist() == [1, 2, 3, 0]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_adjoints(data: st.DataObject) -> None:
    """⟨A·x, y⟩ = ⟨x, Aᵀ·y⟩ for windows, padding (also negative) and non-contiguous inputs."""
    dims = data.draw(st.integers(1, 3))
    kernel, stride, dilation = (tuple(data.draw(st.integers(1, 3)) for _ in range(dims)) for _ in range(3))
    size = [d * (k - 1) + 1 + data.draw(st.integers(0, 3)) for k, d in zip(kernel, dilation, strict=True)]
    x = torch.randn(2, *reversed(size), dtype=torch.float64).permute(0, *range(dims, 0, -1))
    seen = windows(x, kernel, stride, dilation)
    y = torch.randn(seen.shape, dtype=torch.float64)
    left, right = (seen * y).sum(), (x * unwindow(y, size, stride, dilation)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-10, abs=1e-10)
    edges = tuple((data.draw(st.integers(-1, 2)), data.draw(st.integers(0, 2))) for _ in range(dims))
    if all(n + before > 0 for n, (before, _) in zip(size, edges, strict=True)):
        framed = pad(x, edges)
        z = torch.randn(framed.shape, dtype=torch.float64)
        assert float((framed * z).sum()) == pytest.approx(float((x * unpad(z, edges)).sum()), rel=1e-10, abs=1e-10)
