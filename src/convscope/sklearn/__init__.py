"""``convscope.sklearn.CNNClassifier``: training and prediction as scikit-learn's tools expect them."""

from __future__ import annotations

from convscope.sklearn.estimator import CNNClassifier as CNNClassifier

__all__ = ["CNNClassifier"]
