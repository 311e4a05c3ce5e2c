"""Decoded pictures kept on disk: a data set of many small files is decoded once, then read back quickly.

The copy is a safetensors file beside the data, or under ~/.cache/convscope where that folder cannot be written. Its
name carries a fingerprint of the sources (name, size, time of change) and of the options, so that a changed source is
decoded anew. A disk that is full or read-only costs the copy, never the data set.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy
import safetensors
import torch
from safetensors.torch import load_file, save_file

from convscope.data.files import make_folder
from convscope.files import replacing

_log = logging.getLogger("convscope.data")
Tensors = dict[str, torch.Tensor]
DECODED_FOLDER = ".convscope"
_SPARE = 1 << 30  # bytes that are left free beside a copy that is only there to be faster


def cached(name: str, places: Iterable[Path], fingerprint: str, build: Callable[[], Tensors]) -> Tensors:
    """The tensors kept as ``name`` with this ``fingerprint`` in one of the folders ``places``, else those of ``build``.

    What is built is kept in the first of the places that can be written; older copies of the same name there go.
    """
    folders = list(places)
    file_name = f"{name}-{fingerprint}.safetensors"
    for folder in folders:
        path = folder / file_name
        if path.is_file():
            try:
                return load_file(path)
            except (safetensors.SafetensorError, OSError) as error:
                _log.warning("%s: damaged copy of decoded pictures is made anew (%s)", path, error)
    tensors = build()
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    _keep(folders, name, file_name, lambda temporary: save_file(tensors, temporary), needed)
    return tensors


def cached_pixels(
    name: str, places: Iterable[Path], fingerprint: str, shape: tuple[int, ...], write: Callable[[BinaryIO], None]
) -> Path | None:
    """The .npy file of uint8 ``shape`` kept as ``name`` with this ``fingerprint`` in one of the folders ``places``.

    Where there is none, ``write`` writes the pixels of a new one into the first of the places that can be written and
    has room for it; older ones of the same name there go. None, which is said, where no place will do.
    """
    folders = list(places)
    path = _whole_pixels([folder / f"{name}-{fingerprint}.npy" for folder in folders], shape)
    if path is not None:
        return path

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            numpy.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            write(file)

    return _keep(folders, name, f"{name}-{fingerprint}.npy", fill, math.prod(shape) + _SPARE)


def _whole_pixels(paths: Iterable[Path], shape: tuple[int, ...]) -> Path | None:
    """The first of ``paths`` that is a whole file of pixels; one cut short is said and passed by."""
    for path in paths:
        if path.is_file():
            if path.stat().st_size >= math.prod(shape):
                return path
            _log.warning("%s: damaged copy of decoded pictures is made anew (cut short)", path)
    return None


def fingerprint_of(files: Iterable[Path], **options: object) -> str:
    """A short digest of the files' names, sizes and times of change, and of the options."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode())
    for path in files:
        status = path.stat()
        digest.update(os.fsencode(f"\0{path}\0{status.st_size}\0{status.st_mtime_ns}"))
    return digest.hexdigest()[:16]


def home_cache(name: str) -> Path:
    """The user's own folder for copies, used where the data's folder cannot be written."""
    return Path.home() / ".cache" / "convscope" / name / DECODED_FOLDER


def _keep(folders: list[Path], name: str, file_name: str, fill: Callable[[Path], None], needed: int) -> Path | None:
    """Let ``fill`` write ``needed`` bytes into the first of ``folders`` that will do; None where none will."""
    problems: list[str] = []
    for folder in folders:
        path = folder / file_name
        try:
            make_folder(folder)
            free = shutil.disk_usage(folder).free
            if free < needed:
                problems.append(f"{folder}: {free / 2**30:.1f} GiB free, {needed / 2**30:.1f} needed")
                continue
            with replacing(path) as temporary:
                fill(temporary)
            for old in folder.glob(f"{name}-" + "[0-9a-f]" * 16 + path.suffix):
                if old != path:
                    old.unlink(missing_ok=True)
            return path
        except (OSError, safetensors.SafetensorError) as error:
            problems.append(f"{folder}: {getattr(error, 'strerror', None) or error}")
    _log.warning("decoded pictures of %s could not be kept, so each start decodes anew (%s)", name, "; ".join(problems))
    return None
