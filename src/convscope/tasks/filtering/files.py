"""Picture files with their depth and alpha kept: read as they are, written whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageOps

from convscope.errors import ArgumentError, DataError
from convscope.files import replacing

_PLAIN = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB", "PA": "RGBA", "La": "LA",
          "RGBa": "RGBA"}  # fmt: skip
_PNG = b"\x89PNG\r\n\x1a\n"


def read_picture(path: str | Path) -> NDArray[Any]:
    """uint8 (h, w), (h, w, 2 to 4), or uint16 (h, w) for 16-bit grey, upright.

    Raises DataError for a file that is missing, damaged or no picture, and for 16 bits a channel in colour, which
    Pillow would cut to 8 without a word.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(26)
        if head[:8] == _PNG and head[24] == 16 and head[25] != 0:
            raise DataError(path, "16 bits a channel in colour, which cannot be read whole", "Save it as 16-bit grey")
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
    image = Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    suffix = path.suffix.lower()
    kind = Image.registered_extensions().get(suffix)
    if kind is None or kind not in Image.SAVE:
        raise ArgumentError("out", path.name, "a name that ends in .png, .tif, .jpg or another picture format")
    if pixels.dtype == numpy.uint16 and kind not in ("PNG", "TIFF"):
        raise ArgumentError("out", path.name, "a .png or .tif file, which can hold 16 bits")
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4) and kind not in ("PNG", "TIFF", "WEBP"):
        raise ArgumentError("out", path.name, "a .png, .tif or .webp file, which can hold transparency")
    try:
        with replacing(path) as temporary:
            image.save(temporary, kind)
    except OSError as problem:
        raise DataError(path, f"cannot be written ({problem.strerror or problem})") from problem
