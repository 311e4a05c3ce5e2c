"""Picture files of any kind as uint8 tensors: grey or colour, upright, opaque; broken ones refused with a clear error.

Transparent parts are composited on white, as paper is. 16-bit grey is divided by 257 (65,535 → 255). The orientation
that a camera noted (EXIF) is applied. Of an animation the first frame is taken.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from convscope.data.transforms import prepare
from convscope.errors import DataError
from convscope.spec import Preprocessing

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".pgm", ".ppm", ".pbm", ".pnm", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
)  # fmt: skip
MAX_PIXELS = 80_000_000  # 240 MB decoded; below 89 million, where Pillow itself begins to warn
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION_TAG = 0x0112


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


def is_picture(path: Path) -> bool:
    """Whether the name says so; the content is looked at when it is loaded."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def probe_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int, int]:
    """(channels, height, width) that ``load_picture`` will give, from the file's head alone (about 0.1 ms)."""
    path = Path(path)
    with _QUIET, _opened(path, None, max_pixels) as image:
        width, height = image.size
        known = "exif" in image.info or image.format == "TIFF"  # asking a PNG without would decode it
        if known and image.getexif().get(_ORIENTATION_TAG, 1) >= 5:  # 5 … 8 lie on their side
            width, height = height, width
        return (1 if image.mode in _GREY_MODES else 3), height, width


def decode_pixels(content: bytes | None, path: Path, max_pixels: int = MAX_PIXELS) -> numpy.ndarray:
    """uint8 (h, w) of a grey picture, (h, w, 3) of any other, from ``content`` or else from the file ``path``."""
    with _QUIET, _opened(path, content, max_pixels) as image:
        try:
            image.load()  # only now is everything known that the file says of itself
            # asking every picture for its orientation costs as much as decoding 32×32 pixels
            upright = ImageOps.exif_transpose(image) if "exif" in image.info or image.format == "TIFF" else image
            return _pixels(upright, path)
        except DataError:
            raise
        except Exception as error:  # decoders of damaged files raise nearly anything, SyntaxError included
            raise DataError(path, f"damaged or cut short picture ({error})") from error


class _Quiet:
    """While any thread is inside, Pillow's warnings of odd metadata are left out: they are nobody's concern.

    Filters belong to the whole process, and restoring them is not made for threads: so the first to come in sets them
    and the last to go out restores them, and other modules' warnings are left as they are.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            self._inside += 1

    def __exit__(self, *problem: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


_QUIET = _Quiet()


def _as_tensor(pixels: numpy.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None]).permute(2, 0, 1).contiguous()


def _opened(path: Path, content: bytes | None, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(path if content is None else io.BytesIO(content))
    except FileNotFoundError as error:
        raise DataError(path, "no such file") from error
    except Image.DecompressionBombError as error:
        raise DataError(path, f"picture too large, more than {max_pixels:,} pixels", _SCALE_DOWN) from error
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


def _pixels(image: Image.Image, path: Path) -> numpy.ndarray:
    if image.mode.startswith("I"):
        deep = numpy.asarray(image).astype(numpy.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise DataError(path, f"grey values from {deep.min()} to {deep.max()}", "Save it with 8 or 16 bits a pixel")
        return ((deep + 128) // 257).astype(numpy.uint8)
    if image.mode == "F":
        raise DataError(path, "its pixels are floating-point numbers", "Save it with 8 or 16 bits a pixel")
    grey = image.mode in _GREY_MODES
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layered)
    return numpy.array(image.convert("L" if grey else "RGB"))


_SCALE_DOWN = "Scale it down, or raise max_pixels if you trust the file"
