"""The sparsity penalty of a learned combination of maps is part of what a run minimises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from convscope.data import Dataset
from convscope.layers import CombinedConv2d, penalised, penalty
from convscope.tasks import fit


def network(sparsity: float) -> tuple[nn.Sequential, CombinedConv2d]:
    """For the stripes (1×9×7): four maps, of which each of three is to choose one."""
    torch.manual_seed(3)
    combined = CombinedConv2d(4, 3, 3, sparsity=sparsity)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), combined, nn.ReLU(), nn.Flatten(), nn.Linear(45, 3)), combined


def entropy(combined: CombinedConv2d) -> float:
    """Of a row of α in nats, their mean: 0 for one input map alone, ln 4 = 1.39 for all four alike."""
    alpha = combined.alpha().detach().double()
    return float(-(alpha * alpha.clamp_min(1e-30).log()).sum(1).mean())


@pytest.mark.parametrize("engine", ["auto", "torch", "rules"])
def test_training_makes_the_combination_sparse(engine: str, stripes: Dataset, tmp_path: Path) -> None:
    left: dict[float, float] = {}
    for sparsity in (0.0, 0.3):
        model, combined = network(sparsity)
        before = entropy(combined)
        result = fit(
            model, stripes, engine=engine, epochs=30, batch_size=16, optimiser="adam", learning_rate=0.02,
            schedule="constant", watch=False, run_dir=str(tmp_path / f"{engine}-{sparsity}"), device="cpu",
        )  # fmt: skip
        left[sparsity] = entropy(combined)
        assert result.history[-1].train_accuracy > 0.9  # and it still learns
        assert before > 0.9
    assert left[0.3] < 0.1
    assert left[0.0] > 0.5


def test_the_loss_that_is_reported_holds_the_penalty(stripes: Dataset, tmp_path: Path) -> None:
    """A rate too small to move anything: the loss of the only step is cross-entropy plus penalty."""
    losses = {}
    for sparsity in (0.0, 5.0):
        model, _ = network(sparsity)
        added = penalty(penalised(model))
        assert (added is None) == (sparsity == 0)
        expected = 0.0 if added is None else added.item()
        result = fit(
            model, stripes, engine="torch", max_steps=1, batch_size=16, optimiser="sgd", learning_rate=1e-12,
            watch=False, run_dir=str(tmp_path / str(sparsity)), device="cpu",
        )  # fmt: skip
        losses[sparsity] = result.history[0].train_loss - expected
    assert losses[5.0] == pytest.approx(losses[0.0], abs=1e-5)


def test_the_native_engine_leaves_such_a_layer_to_torch(stripes: Dataset, tmp_path: Path) -> None:
    from convscope import native

    if not native.available():
        pytest.skip("the engine is not built")
    losses = {}
    for engine in ("native", "torch"):
        model, _ = network(0.3)
        result = fit(
            model, stripes, engine=engine, epochs=2, batch_size=16, watch=False, run_dir=str(tmp_path / engine),
            device="cpu",
        )  # fmt: skip
        losses[engine] = [each.train_loss for each in result.history]
    assert losses["native"] == pytest.approx(losses["torch"], rel=1e-4)
