"""Handwritten digits of the UCI repository, inside scikit-learn: nothing to download, so the default data set."""

from __future__ import annotations

from pathlib import Path

import torch

from convscope.data.catalog import Card, register
from convscope.data.dataset import Dataset
from convscope.data.kinds.labelled import Labelled, stratified_split

CARD = Card(
    title="Optical recognition of handwritten digits (UCI, test part)",
    year=1998,
    source="Alpaydin, Kaynak: Cascading classifiers, Kybernetika 34",
    shape=(1, 8, 8),
    classes=10,
    train=1438,
    test=359,
    files="nothing: the pictures are inside scikit-learn",
    note="A fifth of every class is for testing, chosen by a fixed seed.",
)


@register("digits", CARD)
def load(folder: Path, test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """1,797 pictures of 8×8 pixels. Their 17 grey levels 0 … 16 become round(level · 255 / 16): each stays distinct."""
    from sklearn.datasets import load_digits  # takes 0.5 s to import: only where wanted

    bunch = load_digits()
    levels = torch.from_numpy(bunch.images)  # (n, 8, 8) float64, whole numbers
    images = (levels * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype("int64"))
    whole = Labelled(images, labels, tuple(str(digit) for digit in range(10)))
    train, test = stratified_split(whole, test_fraction, seed)
    return Dataset("digits", train, test)
