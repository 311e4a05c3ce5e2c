"""Pictures as a user hands them over: files, folders, arrays, tensors, PIL pictures, or lists of these."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image

from convscope.data.pictures import SUFFIXES, decode_picture, find_pictures_below, load_picture
from convscope.data.transforms import as_images
from convscope.errors import ArgumentError, DataError

Images = Any  # a path, an array, a tensor, a PIL picture, or a sequence of these


@dataclasses.dataclass(frozen=True)
class GivenPicture:
    """One picture: its name, and a file or pixels."""

    name: str
    path: Path | None = None
    content: torch.Tensor | None = None

    @property
    def flat_name(self) -> str:
        """The name for a file: its path with - for /."""
        return "-".join(part for part in Path(self.name).parts if part not in ("/", "..", "."))

    def pixels(self) -> torch.Tensor:
        """uint8 (c, h, w)."""
        if self.content is not None:
            return self.content
        assert self.path is not None
        return load_picture(self.path)


def given_pictures(images: Images, place: str = "") -> Iterator[GivenPicture]:
    """Each picture of paths of files or folders (searched through all levels), uint8 arrays or tensors (h, w),
    (h, w, c), (c, h, w), (n, c, h, w) or (n, h, w, c), PIL pictures, or of a sequence of these; named by its file, or
    by its place in what was given, which begins with ``place``.

    Raises DataError for a missing file or a folder without pictures, ArgumentError for what is no picture.
    """
    if isinstance(images, str | Path):
        yield from _files(Path(images).expanduser())
    elif isinstance(images, Image.Image):
        yield GivenPicture(place or "0", content=_from_pil(images, place or "0"))
    elif isinstance(images, torch.Tensor | numpy.ndarray):
        pictures = _pictures(images)
        if place and len(pictures) == 1:
            yield GivenPicture(place, content=pictures[0])
        else:
            prefix = f"{place}/" if place else ""
            yield from (GivenPicture(f"{prefix}{index}", content=picture) for index, picture in enumerate(pictures))
    elif isinstance(images, Sequence):
        for index, item in enumerate(images):
            yield from given_pictures(item, f"{place}/{index}" if place else str(index))
    else:
        raise ArgumentError(
            "images", type(images).__name__, "paths, uint8 arrays or tensors, PIL pictures, or a list of these"
        )


def _files(path: Path) -> Iterator[GivenPicture]:
    """The file itself, or all pictures below the folder, sorted by path; hidden ones are left out, as in training."""
    if not path.exists():
        raise DataError(path, "no such file or folder")
    if not path.is_dir():
        yield GivenPicture(str(path), path=path)
        return
    found = find_pictures_below(path)
    if not found:
        known = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise DataError(path, "a folder without pictures", f"Picture files end in {known}")
    yield from (GivenPicture(str(item), path=item) for item in found)


def _pictures(images: torch.Tensor | numpy.ndarray) -> torch.Tensor:
    """(n, c, h, w) of one picture or several; three dimensions are one picture, (c, h, w) or (h, w, c)."""
    shape = tuple(images.shape)
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4)):
        images = images[None]
    elif len(shape) == 3 and shape[0] in (1, 3, 4):
        tensor = images if isinstance(images, torch.Tensor) else torch.from_numpy(numpy.ascontiguousarray(images))
        if tensor.dtype == torch.uint8:
            return tensor[None]
    return as_images(images, "images")


def _from_pil(image: Image.Image, name: str) -> torch.Tensor:
    """uint8 (c, h, w), by the same rules as a picture file (transparency, 16 bits, orientation)."""
    if image.mode not in ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"):
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=0)
    return decode_picture(buffer.getvalue(), name)
