"""What learned from the same pictures before convolutional networks did: methods of scikit-learn's, on raw pixels.

The rows of the table of methods on MNIST (LeCun et al. 1998, figure 9; Xue 2016, table 1).
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy
import torch

from convscope.data import Labelled
from convscope.errors import ArgumentError, UnknownNameError

Rows = numpy.ndarray  # float32 (n, features)


@dataclasses.dataclass(frozen=True)
class Baseline:
    """``build(seed)`` is an estimator with fit and predict; ``deskewed`` pictures are straightened first; ``published``
    is the error on MNIST in per cent, ``source`` who printed it."""

    title: str
    build: Callable[[int], Any]
    published: float | None
    source: str
    deskewed: bool = False


def _pairwise(seed: int) -> Any:
    from sklearn.linear_model import RidgeClassifier
    from sklearn.multiclass import OneVsOneClassifier

    return OneVsOneClassifier(RidgeClassifier(alpha=1.0))


def _linear(seed: int) -> Any:
    from sklearn.linear_model import RidgeClassifier

    return RidgeClassifier(alpha=1.0)


def _neighbours(seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(3, algorithm="brute")


def _quadratic(seed: int) -> Any:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    return make_pipeline(
        PCA(40, svd_solver="randomized", random_state=seed), StandardScaler(), PolynomialFeatures(2),
        RidgeClassifier(alpha=1.0),
    )  # fmt: skip


def _stumps(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # Steps of 0.5 run away on all 60,000 digits (90.7 % errors after 150 rounds), though not on 10,000 (10 %).
    return HistGradientBoostingClassifier(
        max_iter=250, max_leaf_nodes=2, learning_rate=0.25, early_stopping=False, max_bins=32, random_state=seed
    )


def _gaussian(seed: int) -> Any:
    from sklearn.svm import SVC

    return SVC(kernel="rbf", C=10, gamma=0.02, cache_size=1000)


def _network(*hidden: int) -> Callable[[int], Any]:
    def build(seed: int) -> Any:
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier(hidden, batch_size=100, max_iter=15, tol=0, n_iter_no_change=15, random_state=seed)

    return build


_LECUN = "LeCun et al. 1998"
BASELINES: Mapping[str, Baseline] = {
    "linear": Baseline("linear classifier", _linear, 12.0, _LECUN),
    "pairwise": Baseline("pairwise linear classifiers", _pairwise, 7.6, f"{_LECUN}; Xue 2016, table 1"),
    "neighbours": Baseline("3 nearest neighbours, L2", _neighbours, 5.0, _LECUN),
    "deskewed_neighbours": Baseline("3 nearest neighbours, L2, deskewed", _neighbours, 2.4, _LECUN, deskewed=True),
    "quadratic": Baseline("40 PCA and a quadratic classifier", _quadratic, 3.3, _LECUN),
    "stumps": Baseline("boosted stumps", _stumps, 7.7, "Kégl et al. 2009 (0.87 % with Haar features)"),
    "gaussian": Baseline("SVM, Gaussian kernel", _gaussian, 1.4, "MNIST's list; Xue 2016, table 1: 0.56 % of the best"),
    "two_layers": Baseline("two-layer network, 300 hidden units", _network(300), 4.7, _LECUN),
    "three_layers": Baseline("three-layer network, 500 and 150 units", _network(500, 150), 2.95, _LECUN),
}


def measure(name: str, train: Labelled, test: Labelled, seed: int = 0) -> dict[str, float]:
    """Fit the baseline on ``train``; its error on ``test`` and what both took: error, fit_seconds, predict_seconds.

    Raises UnknownNameError for another name, ArgumentError for pictures of one class only.
    """
    if name not in BASELINES:
        raise UnknownNameError("baseline", name, BASELINES)
    if len(torch.unique(train.labels)) < 2:
        raise ArgumentError("train", "pictures of one class", "pictures of at least two classes")
    baseline = BASELINES[name]
    rows = [as_rows(deskew(each.images) if baseline.deskewed else each.images) for each in (train, test)]
    from sklearn.exceptions import ConvergenceWarning

    begun = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # so many passes were asked for
        fitted = baseline.build(seed).fit(rows[0], train.labels.numpy())
    between = time.monotonic()
    named = fitted.predict(rows[1])
    ended = time.monotonic()
    error = float((named != test.labels.numpy()).mean())
    return {"error": error, "fit_seconds": between - begun, "predict_seconds": ended - between}


def as_rows(images: torch.Tensor) -> Rows:
    """uint8 (n, c, h, w) → float32 (n, c·h·w) from 0 to 1."""
    rows: Rows = images.flatten(1).to(torch.float32).div(255).numpy()
    return rows


def deskew(images: torch.Tensor) -> torch.Tensor:
    """Grey pictures uint8 (n, 1, h, w), each slanted back so that its ink's moment μ_xy about its centre is 0.

    Column x of row y is taken from x + (y − ȳ)·μ_xy/μ_yy; blank pictures and those of one row stay as they are.
    """
    if images.ndim != 4 or images.shape[1] != 1 or images.dtype != torch.uint8:
        raise ArgumentError("images", tuple(images.shape), "grey pictures, uint8 (n, 1, h, w)")
    weights = images[:, 0].to(torch.float64)
    total = weights.sum((1, 2)).clamp(min=1e-9)
    y, x = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in weights.shape[1:]), indexing="ij")
    mean_y, mean_x = ((weights * place).sum((1, 2)) / total for place in (y, x))
    below, beside = y - mean_y[:, None, None], x - mean_x[:, None, None]
    spread = (weights * below.square()).sum((1, 2)) / total
    slant = torch.where(spread > 1e-6, (weights * below * beside).sum((1, 2)) / total / spread.clamp(min=1e-6), 0.0)
    sources = x + below * slant[:, None, None]  # (n, h, w)
    first = sources.floor()
    share = sources - first
    straight = torch.zeros_like(weights)
    for place, part in ((first, 1 - share), (first + 1, share)):
        inside = (place >= 0) & (place < weights.shape[2])
        taken = weights.gather(2, place.clamp(0, weights.shape[2] - 1).to(torch.int64))
        straight += torch.where(inside, part * taken, 0.0)
    return (straight + 0.5).to(torch.uint8)[:, None]
