"""The ORL (AT&T) database of faces: 40 people, 10 grey PGM pictures of each."""

from __future__ import annotations

from pathlib import Path

from convscope.data.catalog import Card, Remote, register
from convscope.data.dataset import Dataset
from convscope.data.layouts.class_folders import load_folder
from convscope.spec import Fit


@register(
    "orl_faces",
    Card(
        title="ORL / AT&T database of faces",
        year=1994,
        source="Samaria, Harter: Parameterisation of a stochastic model for human face identification",
        shape=(1, 112, 92),
        classes=40,
        train=320,
        test=80,
        files="s1/ … s40/ with 1.pgm … 10.pgm in each",
        note="A fifth of every person's pictures is for testing, chosen by seed.",
    ),
    Remote("s1", (), "", provides=("s1/*.pgm",)),
)
def load(
    folder: Path,
    size: int | tuple[int, int] | None = None,
    channels: int = 1,
    fit: Fit = "resize",
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Options as ``load_folder``."""
    return load_folder(
        folder, name="orl_faces", size=size, channels=channels, fit=fit, test_fraction=test_fraction, seed=seed
    )
