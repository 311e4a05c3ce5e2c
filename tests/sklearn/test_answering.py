"""What `CNNClassifier` keeps from one call to the next, and when it makes it anew."""

from __future__ import annotations

import copy
import threading
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from convscope.sklearn import CNNClassifier, answering
from convscope.training.inference import prepare_inference


def network(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(288, classes)
    )


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines that were made ready, in order."""
    found: list[str] = []

    def counted(*arguments: Any) -> Any:
        made = prepare_inference(*arguments)
        found.append(made.engine)
        return made

    monkeypatch.setattr("convscope.sklearn.answering.prepare_inference", counted)
    return found


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    found = load_digits()
    return (found.images[:200] * 15).astype(np.uint8), found.target[:200]


@pytest.fixture
def fitted(digits: tuple[Any, Any]) -> CNNClassifier:
    return CNNClassifier(network, epochs=1, random_state=0).fit(*digits)


def layer(fitted: CNNClassifier, place: int) -> Any:
    return cast(nn.Sequential, fitted.model_)[place]


def by_torch(fitted: CNNClassifier, X: Any) -> Any:
    found = CNNClassifier(network, engine="torch")
    found.__dict__.update({**fitted.__dict__, "engine": "torch", "_answering": answering.Answering()})
    return found.predict_proba(X)


def test_one_plan_serves_all_calls_until_the_next_fit(
    fitted: CNNClassifier, digits: tuple[Any, Any], prepared: list[str]
) -> None:
    X, y = digits
    first = fitted.predict_proba(X)
    np.testing.assert_array_equal(fitted.predict_proba(X), first)
    fitted.score(X[:50], y[:50])
    assert len(prepared) == 1
    np.testing.assert_allclose(fitted.predict_proba(X[:3]), first[:3], atol=1e-6)  # a few go through torch
    assert len(prepared) == 2
    fitted.fit(X, (y + 1) % 10)
    again = fitted.predict_proba(X)
    assert len(prepared) == 3
    np.testing.assert_allclose(again, by_torch(fitted, X), atol=1e-6)
    assert np.abs(again - first).max() > 0.01


@pytest.mark.parametrize("change", ["in place", "behind autograd", "a buffer", "another model"])
def test_a_model_that_was_changed_is_asked_anew(fitted: CNNClassifier, digits: tuple[Any, Any], change: str) -> None:
    X, _ = digits
    before = fitted.predict_proba(X)
    if change == "in place":
        with torch.no_grad():
            layer(fitted, 5).weight.mul_(3)
    elif change == "behind autograd":
        layer(fitted, 0).weight.data[0, 0, 1, 1] += 5
    elif change == "a buffer":
        layer(fitted, 1).running_mean += 1
    else:
        fitted.model_ = copy.deepcopy(fitted.model_)
        layer(fitted, 5).bias.data[3] += 4
    after = fitted.predict_proba(X)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, by_torch(fitted, X), atol=1e-6)


def test_a_hook_set_later_is_called(fitted: CNNClassifier, digits: tuple[Any, Any]) -> None:
    before = fitted.predict_proba(digits[0])
    layer(fitted, 2).register_forward_hook(lambda module, given, found: found * 0)
    assert np.abs(fitted.predict_proba(digits[0]) - before).max() > 1e-3


def test_another_engine_is_taken(fitted: CNNClassifier, digits: tuple[Any, Any], prepared: list[str]) -> None:
    fitted.predict_proba(digits[0])
    fitted.set_params(engine="torch").predict_proba(digits[0])
    assert prepared[-1] == "torch"
    assert len(prepared) == 2


def test_threads_take_turns(fitted: CNNClassifier, digits: tuple[Any, Any]) -> None:
    X, _ = digits
    parts = [X[start : start + 40] for start in range(0, 160, 10)]
    wanted = [fitted.predict_proba(part) for part in parts]
    found: list[Any] = [None] * len(parts)

    def ask(place: int) -> None:
        found[place] = fitted.predict_proba(parts[place])

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(parts))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for got, right in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(got, right)
