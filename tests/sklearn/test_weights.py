"""``sample_weight``: an example of weight 2 is two of it, one of weight 0 is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import AdaBoostClassifier
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data
from torch import nn

from convscope.layers import LOSSES, AuxiliaryOutputs
from convscope.native import available
from convscope.sklearn import CNNClassifier


def small(classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, classes)
    )


def line(classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_channels, 4, (1, 3)), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 28, classes))


def of(**more: Any) -> CNNClassifier:
    return CNNClassifier(**{"model": small, "epochs": 5, "learning_rate": 0.02, "random_state": 0, **more})


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    found = load_digits()
    return (found.images[:40] * 15).astype(np.uint8), found.target[:40]


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error", "hinge"])
@pytest.mark.parametrize("pixels", [True, False])
def test_a_weight_is_a_number_of_copies(digits: tuple[Any, Any], pixels: bool, loss: str) -> None:
    """Whole batches in float64, so that nothing but the weights differs."""
    X, y = digits
    X = X if pixels else X / 255.0
    times = np.random.default_rng(0).integers(0, 4, len(y))
    exact = {"batch_size": 256, "engine": "torch", "fit_options": {"precision": "float64", "loss": loss}}
    weighed = of(**exact).fit(X, y, sample_weight=times)
    copied = of(**exact).fit(X.repeat(times, 0), y.repeat(times))
    np.testing.assert_allclose(weighed.predict_proba(X), copied.predict_proba(X), rtol=1e-6)
    assert weighed.history_[-1]["train_loss"] == pytest.approx(copied.history_[-1]["train_loss"], rel=1e-9)
    plain = of(**exact).fit(X, y)
    assert np.abs(plain.predict_proba(X) - copied.predict_proba(X)).max() > 1e-3


def test_equal_weights_are_none(digits: tuple[Any, Any]) -> None:
    X, y = digits
    plain = of().fit(X, y)
    for weight in (np.ones(len(y)), np.full(len(y), 0.25), 3.0):
        found = of().fit(X, y, sample_weight=weight)
        np.testing.assert_array_equal(found.predict_proba(X), plain.predict_proba(X))
        assert found.engine_ == plain.engine_


def test_in_small_batches_and_beside_validation_examples(digits: tuple[Any, Any]) -> None:
    X, y = digits
    weights = compute_sample_weight({digit: 50.0 if digit == 7 else 0.1 for digit in range(10)}, y)
    found = of(batch_size=7, augment="translate:1", validation_fraction=0.25, epochs=8).fit(X, y, weights)
    plain = of(batch_size=7, augment="translate:1", validation_fraction=0.25, epochs=8).fit(X, y)
    assert (found.predict(X) == 7).mean() > 0.5 > 0.3 > (plain.predict(X) == 7).mean()
    assert found.history_[-1]["test_loss"] > found.history_[-1]["train_loss"]
    assert found.engine_ == "torch"


@pytest.mark.skipif(not available(), reason="the native engine is not built")
def test_the_native_engine_weighs_alike(digits: tuple[Any, Any]) -> None:
    X, y = digits
    weights = np.random.default_rng(0).random(len(y))
    found = {each: of(engine=each, optimiser="sgd").fit(X, y, weights) for each in ("native", "torch")}
    assert [each.engine_ for each in found.values()] == ["native", "torch"]
    native, plain = (each.predict_proba(X) for each in found.values())
    np.testing.assert_allclose(native, plain, atol=1e-5)
    assert np.abs(of(engine="torch", optimiser="sgd").fit(X, y).predict_proba(X) - plain).max() > 1e-4


def test_boosting(digits: tuple[Any, Any]) -> None:
    X, y = digits
    boosted = AdaBoostClassifier(of(input_shape=(8, 8), epochs=3), n_estimators=3, random_state=0)
    boosted.fit(X.reshape(len(X), 64).astype(float), y)
    assert len(boosted.estimators_) >= 2
    assert boosted.predict(X.reshape(len(X), 64).astype(float)).shape == y.shape


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"sample_weight: got \(3,\), wanted one number for each of the 40 examples"),
        (np.ones((40, 2)), r"Sample weights must be 1D"),
        (np.r_[-1.0, np.ones(39)], "got '-1 … 1', wanted finite numbers from 0 on"),
        (np.r_[np.nan, np.ones(39)], "wanted finite numbers"),
        (np.zeros(40), "sample_weight: got 'all zero'"),
        (np.eye(40)[0] * 2, "wanted weights above 0 in at least two classes"),
    ],
)
def test_weights_that_cannot_be(digits: tuple[Any, Any], weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        of().fit(*digits, sample_weight=weights)


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_check_of_equivalence() -> None:
    exact = {"precision": "float64", "optimiser": "sgd"}
    whole = CNNClassifier(line, input_shape="row", batch_size=1024, epochs=3, engine="torch", fit_options=exact)
    check_sample_weight_equivalence_on_dense_data("CNNClassifier", whole)


def test_the_loss_of_each_example() -> None:
    y, t = torch.rand(6, 5, dtype=torch.float64), torch.tensor([0, 4, 2, 1, 3, 3])
    outputs = AuxiliaryOutputs(y, (y.flip(0), y**2), 0.3)
    for name, loss in LOSSES.items():
        for given in (y, outputs):
            each = loss.each(given, t)
            assert each.shape == (6,), name
            torch.testing.assert_close(each.mean(), loss.value(given, t), rtol=1e-14, atol=0)
