"""BCCD: blood cells under the microscope, with boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convscope.data.catalog import Card, Remote, register
from convscope.data.dataset import Dataset
from convscope.data.keeping import MEMORY_LIMIT
from convscope.data.kinds.boxes import Boxes
from convscope.data.layouts.pascal_voc import load_voc

CLASSES = ("RBC", "WBC", "Platelets")


@register(
    "bccd",
    Card(
        title="BCCD blood cells",
        year=2017,
        source="Shenggan: BCCD Dataset; pictures and first annotations by cosmicad and akshaylamba",
        shape=(3, 480, 640),
        classes=3,
        train=292,
        test=72,
        files="JPEGImages/, Annotations/, ImageSets/Main/ (Pascal VOC's layout)",
        note="Red cells (RBC), white cells (WBC), platelets. Two boxes of a single pixel are left out.",
        kind="boxes",
    ),
    Remote(
        "BCCD",
        (),
        "",
        provides=("Annotations/*.xml",),
        page="https://github.com/Shenggan/BCCD_Dataset/tree/master/BCCD",
    ),
)
def load(
    folder: Path,
    train: str | None = None,
    test: str | None = None,
    classes: str | Sequence[str] | None = None,
    longest: int | None = None,
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset[Boxes]:
    """Options as ``load_voc``."""
    return load_voc(
        folder,
        name="bccd",
        train=train,
        test=test,
        classes=CLASSES if classes is None else classes,
        longest=longest,
        channels=3,
        in_memory=in_memory,
        memory_limit=memory_limit,
    )
