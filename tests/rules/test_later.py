"""Tensors that are made when they are first looked up."""

from __future__ import annotations

import pytest
import torch

from convscope.rules.lazy_gradients import Later


def test_each_is_made_once_and_only_when_wanted() -> None:
    made: list[str] = []

    def maker(name: str, value: float) -> torch.Tensor:
        made.append(name)
        return torch.tensor(value)

    found = Later({"weight": lambda: maker("weight", 2.0), "bias": lambda: maker("bias", 3.0)})
    assert list(found) == ["weight", "bias"]
    assert "bias" in found
    assert "gamma" not in found
    assert len(found) == 2
    assert made == []
    assert float(found["bias"]) == 3
    assert found["bias"] is found["bias"]
    assert made == ["bias"]
    assert [float(value) for value in found.values()] == [2, 3]
    assert made == ["bias", "weight"]
    with pytest.raises(KeyError):
        found["gamma"]
