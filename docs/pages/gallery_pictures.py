"""The pictures that the gallery's networks learn from: ``python docs/pages/gallery_pictures.py`` draws them.

Circles, squares and triangles in some colour on paper, 96×96, in three layouts: ``drawn/maps`` (a class a pixel),
``drawn/boxes`` (Pascal VOC) and ``drawn/captions`` (a sentence a picture). All chance derives from one seed.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

SIZE, PICTURES, TEST = 96, 240, 24
CORNERS = {"circle": 24, "square": 4, "triangle": 3}
NAMES = list(CORNERS)
COLOURS = {"red": (190, 40, 40), "green": (40, 130, 60), "blue": (40, 60, 180)}

Shape = tuple[str, str, list[tuple[float, float]]]  # its name, its colour's, its corners in pixels


def shape(chance: random.Random, left: float, right: float) -> Shape:
    """One shape whose middle is between the columns ``left`` and ``right``."""
    name, colour, r, turn = chance.choice(NAMES), chance.choice(list(COLOURS)), chance.uniform(12, 19), chance.random()
    x, y = chance.uniform(left, right), chance.uniform(22, SIZE - 22)
    angles = [math.tau * (turn + corner / CORNERS[name]) for corner in range(CORNERS[name])]
    return name, colour, [(x + r * math.cos(angle), y + r * math.sin(angle)) for angle in angles]


def picture(shapes: list[Shape]) -> tuple[Image.Image, Image.Image]:
    """The picture, and its map: 0 is paper, then the shapes by their place in ``NAMES``."""
    drawn, classes = Image.new("RGB", (SIZE, SIZE), (244, 240, 230)), Image.new("L", (SIZE, SIZE), 0)
    for name, colour, corners in shapes:
        ImageDraw.Draw(drawn).polygon(corners, fill=COLOURS[colour])
        ImageDraw.Draw(classes).polygon(corners, fill=1 + NAMES.index(name))
    return drawn, classes


def boxes(shapes: list[Shape], file: str) -> str:
    """The picture's XML file, whose boxes count pixels from 1."""
    rows = []
    for name, _, corners in shapes:
        sides = {"xmin": 1 + min(x for x, _ in corners), "ymin": 1 + min(y for _, y in corners)}
        sides |= {"xmax": 1 + max(x for x, _ in corners), "ymax": 1 + max(y for _, y in corners)}
        numbers = "".join(f"<{side}>{round(value)}</{side}>" for side, value in sides.items())
        rows.append(f"<object><name>{name}</name><bndbox>{numbers}</bndbox></object>")
    size = f"<size><width>{SIZE}</width><height>{SIZE}</height><depth>3</depth></size>"
    return f"<annotation><filename>{file}</filename>{size}{''.join(rows)}</annotation>"


def main(folder: Path) -> None:
    """Write the three folders and, in ``new``, four pictures that are in none of them."""
    chance = random.Random(0)
    maps, voc, captions = folder / "maps", folder / "boxes", folder / "captions"
    below = ("train/images", "train/labels", "test/images", "test/labels")
    for each in (*(maps / name for name in below), voc / "JPEGImages", voc / "Annotations", captions, folder / "new"):
        each.mkdir(parents=True, exist_ok=True)
    (maps / "classes.txt").write_text("\n".join(["paper", *NAMES]) + "\n")
    lines = []
    for number in range(PICTURES + 4):
        shapes = [shape(chance, 22, 30), shape(chance, SIZE - 30, SIZE - 22)]
        drawn, classes = picture(shapes)
        name = f"{number:03}.png"
        if number >= PICTURES:
            drawn.save(folder / "new" / name)
            continue
        part = "test" if number < TEST else "train"
        drawn.save(maps / part / "images" / name)
        classes.save(maps / part / "labels" / name)
        drawn.save(voc / "JPEGImages" / name)
        (voc / "Annotations" / f"{number:03}.xml").write_text(boxes(shapes, name))
        drawn.save(captions / name)
        first, second = (f"a {colour} {what}" for what, colour, _ in shapes)
        lines.append(f"{name}\t{first} left of {second}")
    (captions / "captions.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path("drawn"))
