"""Pictures of files in memory where they fit, else read while training; decoded once where that takes longest."""

from __future__ import annotations

import concurrent.futures
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from convscope.data.decoded import DECODED_FOLDER, cached, cached_pixels, fingerprint_of, home_cache
from convscope.data.picture_stores import PictureFiles, PicturesInMemory, PictureStore, PixelFile
from convscope.errors import DataError

MEMORY_LIMIT = 4 * 2**30  # bytes of decoded pixels
WORTH_KEEPING = 500  # files; fewer are decoded in about a second
# Bytes of a decoded picture. Decoding takes 0.2 to 0.3 ms a picture of 28×28 to 32×32 and 0.9 ms one of 224×224 (one
# core, JPEG); a LeNet-5 step takes 0.03 ms a picture and a ResNet-18 one 50 ms: only small ones must be had faster.
SMALL = 3 * 128 * 128

_log = logging.getLogger("convscope.data")


def kept(
    files: PictureFiles,
    name: str,
    folder: Path,
    in_memory: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
    **options: object,
) -> PictureStore:
    """The pictures of ``files`` where they are best kept.

    In memory, up to ``memory_limit`` bytes: many of them are decoded once and a copy is kept beside the data. On disk
    where there are more, which is said, or where ``in_memory`` is False: small ones of one size are then decoded once
    into a file of pixels, as far as the disk has room, others are decoded whenever they are wanted. ``options`` are all
    that the pixels depend on beside the files. DataError where ``in_memory`` is True and they do not fit.
    """
    needed = files.bytes
    if in_memory is None:
        in_memory = needed <= memory_limit
        if not in_memory:
            _log.warning("%s: %s; its pictures are read while training", folder, _told(files, memory_limit))
    elif in_memory and needed > memory_limit:
        remedy = "Choose a smaller size, fewer classes, a higher limit, or in_memory=False"
        raise DataError(folder, _told(files, memory_limit), remedy)
    places = [folder / DECODED_FOLDER, home_cache(name)]
    if in_memory:
        if len(files) < WORTH_KEEPING:
            return PicturesInMemory(list(_decoded(files)), files.channels)
        return _split(cached(name, places, fingerprint_of(files.paths, **options), lambda: _joined(files)), files)
    if not files.uniform or needed > SMALL * len(files):
        return files
    shape = (len(files), *files.shape)
    path = cached_pixels(name, places, fingerprint_of(files.paths, **options), shape, _writing(files))
    return files if path is None else PixelFile(path)


def _told(files: PictureFiles, memory_limit: int) -> str:
    shape = f" of {files.shape[1]}×{files.shape[2]}" if files.uniform else ""
    gigabytes, limit = files.bytes / 2**30, memory_limit / 2**30
    return (
        f"{len(files):,} pictures{shape} would take {gigabytes:.1f} GiB of memory, "
        f"more than memory_limit = {limit:.1f} GiB"
    )


def _decoded(files: PictureFiles) -> Iterator[Tensor]:
    """All pictures in turn. Large ones are decoded by several threads, since Pillow lets others run meanwhile; of small
    ones most of the time is Python's, and two threads were twice as slow as one."""
    if files.bytes <= SMALL * len(files):
        yield from map(files.picture, range(len(files)))
        return
    with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1), "convscope-decoder") as threads:
        yield from threads.map(files.picture, range(len(files)))


def _joined(files: PictureFiles) -> dict[str, Tensor]:
    """{"images": (n, c, h, w)}, or of different sizes {"pixels": all in one row}."""
    shape = (len(files), *files.shape) if files.uniform else (files.bytes,)
    joined = torch.empty(shape, dtype=torch.uint8)
    row, place = joined.view(-1), 0
    for picture in _decoded(files):
        row[place : place + picture.numel()] = picture.flatten()
        place += picture.numel()
    return {"images" if files.uniform else "pixels": joined}


def _split(tensors: dict[str, Tensor], files: PictureFiles) -> PicturesInMemory:
    """Views of the joined pixels."""
    if "images" in tensors:
        return PicturesInMemory(list(tensors["images"]), files.channels)
    parts = torch.split(tensors["pixels"], (files.sizes.prod(1) * files.channels).tolist())
    pictures = [part.reshape(-1, *size) for part, size in zip(parts, files.sizes.tolist(), strict=True)]
    return PicturesInMemory(pictures, files.channels)


def _writing(files: PictureFiles) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        for picture in _decoded(files):
            file.write(picture.contiguous().numpy().tobytes())

    return write
