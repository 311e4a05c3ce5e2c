"""``CNNClassifier`` among scikit-learn's tools, and its answers against those of ``convscope`` itself."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator
from torch import nn

import convscope
from convscope.sklearn import CNNClassifier

QUICK = ("get_params", "set_params", "init", "clone", "tags", "overwrite", "nan", "1d", "pickle", "sparse")


def small(classes: int, in_channels: int, width: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(4 * width, classes),
    )  # fmt: skip


def line(classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, (1, 3), padding=(0, 1)), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten(),
        nn.Linear(32, classes),
    )  # fmt: skip


def of(**more: Any) -> CNNClassifier:
    return CNNClassifier(**{"model": small, "epochs": 3, "learning_rate": 0.02, "random_state": 0, **more})


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    found = load_digits()
    return (found.images[:300] * 15).astype(np.uint8), found.target[:300]


@pytest.fixture(scope="module")
def fitted(digits: tuple[Any, Any]) -> CNNClassifier:
    X, y = digits
    return of(epochs=8).fit(X, y)


def test_it_learns_and_answers_as_convscope_does(fitted: CNNClassifier, digits: tuple[Any, Any]) -> None:
    X, y = digits
    assert fitted.score(X, y) > 0.5
    shares = fitted.predict_proba(X)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-12)
    np.testing.assert_array_equal(fitted.classes_[shares.argmax(1)], fitted.predict(X))
    own = convscope.predict(fitted.model_, X[:20], engine="torch")
    np.testing.assert_allclose(shares[:20], [each.probabilities for each in own], atol=1e-5)
    assert [each.label for each in own] == [str(each) for each in fitted.predict(X[:20])]
    assert fitted.n_features_in_ == 64
    assert len(fitted.history_) == 8
    assert "test_loss" not in fitted.history_[0]


def test_shapes_and_libraries_say_the_same(digits: tuple[Any, Any], fitted: CNNClassifier) -> None:
    X, y = digits
    shares = fitted.predict_proba(X)
    rows = of(epochs=8, input_shape=(8, 8)).fit(X.reshape(300, 64), y)
    np.testing.assert_array_equal(rows.predict_proba(X.reshape(300, 64)), shares)
    np.testing.assert_array_equal(fitted.predict_proba(torch.from_numpy(X)), shares)
    np.testing.assert_array_equal(fitted.predict_proba(X.astype(float)), shares)  # whole numbers of 0 … 255
    colour = np.repeat(X[:60, :, :, None], 3, axis=3)
    last = of().fit(colour, y[:60]).predict_proba(colour)
    first = of().fit(torch.from_numpy(colour).permute(0, 3, 1, 2), torch.from_numpy(y[:60]))
    np.testing.assert_array_equal(first.predict_proba(np.moveaxis(colour, 3, 1)), last)


def test_numbers_are_standardised_by_what_was_trained_on(digits: tuple[Any, Any]) -> None:
    X, y = digits
    plain = of(epochs=4).fit(X / 15.0, y)
    moved = of(epochs=4).fit(X / 15.0 * 1e6 - 3e7, y)  # the same pictures in other units
    np.testing.assert_allclose(moved.predict_proba(X / 15.0 * 1e6 - 3e7), plain.predict_proba(X / 15.0), atol=1e-4)
    assert plain.score(X / 15.0, y) > 0.3
    by_hand = (X / 15.0 - (X / 15.0).mean()) / (X / 15.0).std()
    with torch.no_grad():
        scores = plain.model_(torch.from_numpy(by_hand).float()[:, None]).softmax(1)
    np.testing.assert_allclose(plain.predict_proba(X / 15.0), scores, atol=1e-5)


def test_numbers_reach_a_catalogue_models_size(digits: tuple[Any, Any]) -> None:
    X, y = digits
    found = of(model="lenet5", epochs=2, learning_rate=None, model_options={"activation": "relu"}).fit(X / 16.0, y)
    assert found.input_.shape == (1, 28, 28)
    assert found.predict(X[:3] / 16.0).shape == (3,)


def test_files_that_must_not_be_written(tmp_path: Path, digits: tuple[Any, Any], fitted: CNNClassifier) -> None:
    """As joblib hands arrays of a megabyte and more to its workers."""
    X, y = digits
    np.save(tmp_path / "x.npy", X)
    kept = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(of(epochs=8).fit(kept, y).predict_proba(kept), fitted.predict_proba(X))


def test_labels_of_any_type(digits: tuple[Any, Any]) -> None:
    X, y = digits
    names = np.array(["odd", "even"])[1 - y % 2]
    found = of().fit(X, names)
    assert found.classes_.tolist() == ["even", "odd"]
    assert set(found.predict(X)) <= {"even", "odd"}
    assert of().fit(X, y % 2 == 0).predict(X).dtype == bool


def test_the_seed_decides(digits: tuple[Any, Any]) -> None:
    X, y = digits
    one, again, other = (of(epochs=1, random_state=seed).fit(X, y).predict_proba(X) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


def test_warm_start_goes_on(digits: tuple[Any, Any]) -> None:
    X, y = digits
    warm = of(warm_start=True)
    first = warm.fit(X, y).history_[-1]["train_loss"]
    assert warm.fit(X, y).history_[0]["train_loss"] < first
    with pytest.raises(ValueError, match="warm_start: got .*wanted labels, shape and kind of number of the last fit"):
        warm.fit(X[y < 5], y[y < 5])


@pytest.mark.long
def test_in_a_search_with_workers(digits: tuple[Any, Any]) -> None:
    X, y = digits
    steps = make_pipeline(StandardScaler(), of(input_shape=(8, 8), epochs=2))
    scores = cross_val_score(steps, X.reshape(300, 64) / 16.0, y, cv=2)
    assert scores.shape == (2,)
    search = GridSearchCV(of(epochs=2), {"model_options__width": [2, 8], "fit_options__schedule": ["constant"]}, cv=2)
    search.fit(X, y)
    assert search.best_estimator_.model_options == {"width": search.best_params_["model_options__width"]}
    assert search.best_estimator_.model_[0].out_channels == search.best_params_["model_options__width"]


def test_pickled_it_is_the_model_files_bytes(fitted: CNNClassifier, digits: tuple[Any, Any]) -> None:
    state = fitted.__getstate__()
    assert isinstance(state["model_"], bytes)
    assert not any(isinstance(each, torch.Tensor | nn.Module) for each in state.values())
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(digits[0]), fitted.predict_proba(digits[0]))
    assert not hasattr(clone(fitted), "model_")


class Branching(nn.Module):
    """What it does depends on numbers, so that no file can describe it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(x.flatten(1))
        return y if float(y.detach().sum()) < 1e9 else -y


def test_what_no_file_describes_is_not_pickled(digits: tuple[Any, Any]) -> None:
    found = of(model=Branching, epochs=1).fit(*digits)
    assert found.predict(digits[0]).shape == (300,)
    with pytest.raises(ValueError, match="model: got 'Branching', wanted a module that a model file can describe"):
        pickle.dumps(found)


def test_its_run_folders(tmp_path: Path, digits: tuple[Any, Any]) -> None:
    X, y = digits
    found = of(run_dir=tmp_path, epochs=1, validation_fraction=0.2)
    folders = {str(found.fit(X, y).run_dir_) for _ in range(2)}
    assert len(folders) == 2
    assert all((Path(folder) / "model.safetensors").is_file() for folder in folders)
    assert found.history_[0]["test_accuracy"] > 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, r"input_shape: got None, wanted the shape of a picture, or 'row'.*\(8, 8\) is one of them"),
        ({"input_shape": (4, 4)}, r"input_shape: got \(4, 4\), wanted a shape of the 64 features"),
        ({"input_shape": "line"}, "input_shape: got 'line', wanted"),
        ({"input_shape": (8, 8), "augment": "flip"}, "augment: got 'flip', wanted none"),
        ({"input_shape": (8, 8), "model": 3}, "model: got 3, wanted a catalogue name"),
        ({"input_shape": (8, 8), "model": small(10, 1), "model_options": {"width": 2}}, "model_options: got"),
        ({"input_shape": (8, 8), "fit_options": {"lr": 1}}, "training option: got 'lr'"),
    ],
)
def test_what_is_refused(more: dict[str, Any], message: str, digits: tuple[Any, Any]) -> None:
    X, y = digits
    with pytest.raises(ValueError, match=message):
        of(**more).fit(X.reshape(300, 64) / 16.0, y)


def test_pictures_that_do_not_go_together(fitted: CNNClassifier, digits: tuple[Any, Any]) -> None:
    X, _ = digits
    with pytest.raises(ValueError, match="X: got .float64 from 0 to .*wanted whole numbers from 0 to 255"):
        fitted.predict(X / 255.0)
    with pytest.raises(ValueError, match=r"X: got \(4, 16\), wanted pictures of shape \(8, 8\)"):
        fitted.predict(X.reshape(300, 4, 16))
    with pytest.raises(ValueError, match="whose channels, 1, 3 or 4, are at one end alone"):
        of().fit(np.zeros((4, 3, 8, 3), np.uint8), [0, 1, 0, 1])
    with pytest.raises(ValueError, match="y: got .one class"):
        of().fit(X, np.zeros(300, int))


def checked() -> CNNClassifier:
    """Whole batches in float64, for an example of weight 2 must be two of it to 10⁻⁷."""
    return CNNClassifier(
        line, input_shape="row", epochs=40, batch_size=1024, learning_rate=0.05, engine="torch",
        fit_options={"precision": "float64"},
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_quick_checks() -> None:
    some = [(each, check) for each, check in estimator_checks_generator(checked()) if _named(check, QUICK)]
    assert len(some) >= 8
    for estimator, check in some:
        check(estimator)


def _named(check: Any, parts: tuple[str, ...]) -> bool:
    return any(part in check.func.__name__ for part in parts)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_all_of_scikit_learns_checks() -> None:
    """None is expected to fail; pandas and the array API are skipped where they are not there."""
    done = check_estimator(checked(), on_fail=None)
    assert [each["check_name"] for each in done if each["status"] not in ("passed", "skipped")] == []
    assert {each["status"] for each in done} >= {"passed"}
