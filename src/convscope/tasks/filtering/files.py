"""Picture files with their depth and alpha kept: read as they are, written whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageOps

from convscope.errors import ArgumentError, DataError
from convscope.files import replacing
from convscope.tasks.filtering import deep_png

_PLAIN = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB", "PA": "RGBA", "La": "LA",
          "RGBa": "RGBA"}  # fmt: skip


def read_picture(path: str | Path) -> NDArray[Any]:
    """uint8 or uint16, (h, w) or (h, w, 2 to 4), upright; 16 bits in colour from PNG files.

    Raises DataError for a file that is missing, damaged or no picture.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(26)
        if deep_png.is_deep(head):
            return deep_png.read(path)
        with Image.open(path) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.mode == "P" and image.has_transparency_data:
                image = image.convert("RGBA")
            elif image.mode in _PLAIN:
                image = image.convert(_PLAIN[image.mode])
            if image.mode in ("I", "F"):
                raise DataError(path, f"pixels of mode {image.mode}", "Save it with 8 or 16 bits a pixel")
            pixels = numpy.array(image)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except Exception as problem:  # decoders of damaged files raise nearly anything
        raise DataError(path, f"not a picture that can be read ({problem})") from problem
    return pixels.astype(numpy.uint16) if pixels.dtype.kind == "u" and pixels.itemsize == 2 else pixels


def write_picture(path: Path, pixels: NDArray[Any]) -> None:
    """``pixels`` as ``read_picture`` gives them, in the format that the suffix names.

    Raises ArgumentError for a format that is not there or cannot hold them; DataError when it cannot be written.
    """
    pixels = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    deep = pixels.dtype == numpy.uint16 and pixels.ndim == 3
    suffix = path.suffix.lower()
    kind = Image.registered_extensions().get(suffix)
    if kind is None or kind not in Image.SAVE:
        raise ArgumentError("out", path.name, "a name that ends in .png, .tif, .jpg or another picture format")
    if pixels.dtype == numpy.uint16 and kind not in ("PNG", "TIFF"):
        raise ArgumentError("out", path.name, "a .png or .tif file, which can hold 16 bits")
    if deep and kind != "PNG":
        raise ArgumentError("out", path.name, "a .png file, which can hold 16 bits in colour")
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4) and kind not in ("PNG", "TIFF", "WEBP"):
        raise ArgumentError("out", path.name, "a .png, .tif or .webp file, which can hold transparency")
    try:
        with replacing(path) as temporary:
            if deep:
                deep_png.write(temporary, pixels)
            else:
                Image.fromarray(pixels).save(temporary, kind)
    except OSError as problem:
        raise DataError(path, f"cannot be written ({problem.strerror or problem})") from problem
