"""Caltech-101: a folder of JPEGs for each of 101 categories, of different sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convscope.data.catalog import Card, Remote, register
from convscope.data.dataset import Dataset
from convscope.data.files import MissingFileError
from convscope.data.keeping import MEMORY_LIMIT
from convscope.data.layouts.class_folders import load_folder
from convscope.spec import Fit

# faces, easy faces, leopards, motorbikes, aeroplanes, bonsai, cars, chandeliers, turtles, sailing boats
SUBSETS = {
    "slides": (
        "Faces", "Faces_easy", "Leopards", "Motorbikes", "airplanes",
        "bonsai", "car_side", "chandelier", "hawksbill", "ketch",
    )
}  # fmt: skip
_PLACES = ("101_ObjectCategories", "caltech-101/101_ObjectCategories", "caltech101/101_ObjectCategories")


@register(
    "caltech101",
    Card(
        title="Caltech-101 object categories",
        year=2004,
        source="Fei-Fei, Fergus, Perona: Learning generative visual models from few training examples",
        shape=None,
        classes=101,
        train=0,
        test=0,
        files="101_ObjectCategories/ with a folder of pictures for each category (or 101_ObjectCategories.tar.gz)",
        note="About 8,700 pictures of some 300×200. classes=slides takes the ten of Xue's slides of 2016, 50 and 50 "
        "pictures of each. BACKGROUND_Google is left out.",
    ),
    Remote(
        "101_ObjectCategories.tar.gz", (), "", _PLACES, unpack=True, page="https://data.caltech.edu/records/mzrjq-6wc02"
    ),
)
def load(
    folder: Path,
    classes: str | Sequence[str] | None = None,
    size: int | tuple[int, int] = (200, 200),
    channels: int = 3,
    fit: Fit = "resize",
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset[Any]:
    """Options as ``load_folder``; the slides' choice of classes draws 50 training and 50 test pictures of each."""
    place = next((folder / inner for inner in _PLACES if (folder / inner).is_dir()), folder)
    if not place.is_dir() or not any(path.is_dir() for path in place.iterdir()):
        raise MissingFileError(folder, "folder missing: 101_ObjectCategories", f"Put it into the folder {folder}")
    if classes == "slides" and train_per_class is None and test_per_class is None:
        train_per_class = test_per_class = 50
    return load_folder(
        place,
        name="caltech101",
        classes=classes,
        subsets=SUBSETS,
        exclude=("BACKGROUND_Google",),
        size=size,
        channels=channels,
        fit=fit,
        train_per_class=train_per_class,
        test_per_class=test_per_class,
        test_fraction=test_fraction,
        seed=seed,
        in_memory=in_memory,
        memory_limit=memory_limit,
    )
