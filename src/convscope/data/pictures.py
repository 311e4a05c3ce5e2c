"""Picture files of any kind as uint8 tensors: grey or colour, upright, opaque; broken ones refused with a clear error.

Transparent parts are composited on white, as paper is. 16-bit grey is divided by 257 (65,535 → 255). The orientation
that a camera noted (EXIF) is applied. Of an animation the first frame is taken.
"""

from __future__ import annotations

import functools
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from convscope import files
from convscope.data.transforms import prepare
from convscope.errors import DataError
from convscope.quiet import quiet
from convscope.spec import Preprocessing

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".pgm", ".ppm", ".pbm", ".pnm", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
)  # fmt: skip
MAX_PIXELS = 80_000_000  # 240 MB decoded; below 89 million, where Pillow itself begins to warn
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # from 0 … 3 and 0 … 15 to 0 … 255
_ORIENTATION_TAG = 0x0112
_RUN_PROGRAMS = frozenset({"EPS"})


def load_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """The picture as uint8 (c, h, w): c = 1 for grey files, 3 for all others.

    Raises DataError, naming the file, if it is missing, not a picture, cut short, damaged or above ``max_pixels``.
    """
    return _as_tensor(decode_pixels(None, Path(path), max_pixels))


def decode_picture(content: bytes, name: str | Path, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """As ``load_picture``, of a file's content in memory; ``name`` is used in errors."""
    return _as_tensor(decode_pixels(content, Path(name), max_pixels))


def load_pictures(paths: Sequence[str | Path], preprocessing: Preprocessing) -> torch.Tensor:
    """The pictures, each prepared for a model: uint8 (n, channels, height, width)."""
    height, width = preprocessing.size
    batch = torch.empty((len(paths), preprocessing.channels, height, width), dtype=torch.uint8)
    for place, path in enumerate(paths):
        batch[place] = prepare(load_picture(path).unsqueeze(0), preprocessing)[0]
    return batch


def find_pictures(folder: str | Path) -> list[Path]:
    """Picture files directly in ``folder`` by their suffix, sorted by name; hidden files are left out."""
    return sorted(path for path in Path(folder).iterdir() if is_picture(path))


def find_pictures_below(folder: str | Path) -> list[Path]:
    """Picture files in ``folder`` and all folders below it, sorted by path; hidden files and folders are left out."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [path for path in (Path(place, name) for name in names) if is_picture(path)]
    return sorted(found)


def is_picture(path: Path) -> bool:
    """Whether the name says so; the content is looked at when it is loaded."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def probe_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int, int]:
    """(channels, height, width) that ``load_picture`` will give, from the file's head alone (about 0.1 ms)."""
    path = Path(path)
    with quiet(), _opened(path, None, max_pixels) as image:
        width, height = image.size
        known = "exif" in image.info or image.format == "TIFF"  # asking a PNG without would decode it
        if known and image.getexif().get(_ORIENTATION_TAG, 1) >= 5:  # 5 … 8 lie on their side
            width, height = height, width
        return (1 if image.mode in _GREY_MODES else 3), height, width


def decode_pixels(content: bytes | None, path: Path, max_pixels: int = MAX_PIXELS) -> numpy.ndarray:
    """uint8 (h, w) of a grey picture, (h, w, 3) of any other, from ``content`` or else from the file ``path``."""
    with quiet(), _opened(path, content, max_pixels) as image:
        try:
            grey, raw = image.mode in _GREY_MODES, _png_layout(image)
            upright = _upright(image)
            if raw == "RGB;16B" and "transparency" in upright.info:
                with _opened(path, content, max_pixels) as again:
                    return _clear_deep_colour(upright, _low_bytes(again))
            return _pixels(upright, path, grey, raw)
        except DataError:
            raise
        except Exception as error:  # decoders of damaged files raise nearly anything, SyntaxError included
            raise DataError(path, f"damaged or cut short picture ({error})") from error


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # only now is everything known that the file says of itself
    # asking every picture for its orientation costs as much as decoding 32×32 pixels
    return ImageOps.exif_transpose(image) if "exif" in image.info or image.format == "TIFF" else image


def load_numbers(path: Path, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """The values of a grey picture, or the numbers of a palette picture's colours, as they are: uint8 (1, h, w).

    Raises DataError, naming the file, for a colour picture or values above 255, and as ``load_picture``.
    """
    with quiet(), _opened(path, None, max_pixels) as image:
        try:
            raw = _png_layout(image)
            image.load()
            values = numpy.array(image) // _GREY_STEPS.get(raw, 1)  # Pillow spreads 4 and 16 greys to 0 … 255
        except Exception as error:  # as above
            raise DataError(path, f"damaged or cut short picture ({error})") from error
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            problem = f"a picture of mode {image.mode}, wanted one number a pixel"
            raise DataError(path, problem, "Save it grey or with a palette")
    if values.max(initial=0) > 255:
        raise DataError(path, f"a value of {values.max()}, wanted numbers up to 255")
    return torch.from_numpy(values.astype(numpy.uint8)).unsqueeze(0)


def palette_of(path: Path, count: int) -> tuple[tuple[int, int, int], ...] | None:
    """The first ``count`` colours (red, green, blue) of a palette picture; None of any other, or of fewer colours."""
    with quiet(), _opened(path, None, MAX_PIXELS) as image:
        flat = image.getpalette("RGB") if image.mode == "P" else None
    if flat is None or len(flat) < 3 * count:
        return None
    return tuple((flat[3 * place], flat[3 * place + 1], flat[3 * place + 2]) for place in range(count))


def _png_layout(image: Image.Image) -> str:
    """How a PNG's pixels lie in the file, as Pillow calls it ("L;2", "RGB;16B", …); "" for other files."""
    if not isinstance(image, ImageFile.ImageFile) or image.format != "PNG" or not image.tile:
        return ""
    described = image.tile[0][3]
    return described if isinstance(described, str) else ""


def _as_tensor(pixels: numpy.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None]).permute(2, 0, 1).contiguous()


def _opened(path: Path, content: bytes | None, max_pixels: int) -> Image.Image:
    try:
        if content is None:
            files.check_regular(path)
        image = Image.open(path if content is None else io.BytesIO(content), formats=_formats())
    except FileNotFoundError as error:
        raise DataError(path, "no such file") from error
    except Image.DecompressionBombError as error:
        size = re.search(r"\((\d+) pixels\)", str(error))
        told = f"{int(size.group(1)):,} pixels are" if size else "it is"
        raise DataError(path, f"picture too large, {told} more than {max_pixels:,} pixels", _SCALE_DOWN) from error
    except UnidentifiedImageError as error:
        raise DataError(path, "not a picture that can be read (PNG, JPEG, PGM, BMP, …)") from error
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # as above
        raise DataError(path, f"damaged or cut short picture ({error})") from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise DataError(
            path, f"picture too large, {width}×{height} is more than {max_pixels:,} pixels", _SCALE_DOWN
        )  # fmt: skip
    return image


@functools.cache
def _formats() -> tuple[str, ...]:
    """All that Pillow reads by itself; for PostScript it would run another program on a file from elsewhere."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _RUN_PROGRAMS)


def _pixels(image: Image.Image, path: Path, grey: bool, raw: str) -> numpy.ndarray:
    if image.mode.startswith("I"):
        deep = numpy.asarray(image)
        if deep.min() < 0 or deep.max() > 65535:
            raise DataError(path, f"grey values from {deep.min()} to {deep.max()}", "Save it with 8 or 16 bits a pixel")
        shallow = ((deep.astype(numpy.uint32) + 128) // 257).astype(numpy.uint8)
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            shallow[deep == clear] = 255
        return shallow
    if image.mode == "F":
        raise DataError(path, "its pixels are floating-point numbers", "Save it with 8 or 16 bits a pixel")
    if image.has_transparency_data:
        clear = image.info.get("transparency")
        if raw in _GREY_STEPS and isinstance(
            clear, int
        ):  # of 4 or 16 greys: the pixels are spread to 0 … 255, it is not
            image.info["transparency"] = clear * _GREY_STEPS[raw]
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layered)
    return numpy.array(image.convert("L" if grey else "RGB"))


def _clear_deep_colour(image: Image.Image, low: Image.Image) -> numpy.ndarray:
    """A PNG of 16 bits a colour of which one colour is clear: compared with all 16, of which ``image`` has the upper
    and ``low`` the lower 8 bits."""
    pixels = numpy.array(image.convert("RGB"))
    clear = numpy.array(image.info["transparency"])  # (3,)
    deep = pixels.astype(numpy.uint16) * 256 + numpy.asarray(low)
    pixels[(deep == clear).all(axis=2)] = 255
    return pixels


def _low_bytes(image: Image.Image) -> Image.Image:
    """The lower 8 of 16 bits: what is left when its numbers are read as if their bytes were in the other order."""
    assert isinstance(image, ImageFile.ImageFile)
    codec, box, offset, _ = image.tile[0]
    image.tile = [type(image.tile[0])(codec, box, offset, "RGB;16L")]
    return _upright(image)


_SCALE_DOWN = "Scale it down, or raise max_pixels if you trust the file"
