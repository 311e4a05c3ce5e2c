"""Decoded pictures kept on disk: a data set of many small files is decoded once, then read back quickly.

The copy is a safetensors file beside the data, or under ~/.cache/convscope where that folder cannot be written. Its
name carries a fingerprint of the sources (name, size, time of change) and of the options, so that a changed source is
decoded anew. A disk that is full or read-only costs the copy, never the data set.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file

from convscope.data.files import make_folder
from convscope.files import replacing

_log = logging.getLogger("convscope.data")
Tensors = dict[str, torch.Tensor]
DECODED_FOLDER = ".convscope"


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
    _keep(tensors, folders, name, file_name)
    return tensors


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


def _keep(tensors: Tensors, folders: list[Path], name: str, file_name: str) -> None:
    problems: list[str] = []
    for folder in folders:
        path = folder / file_name
        try:
            make_folder(folder)
            with replacing(path) as temporary:
                save_file(tensors, temporary)
            for old in folder.glob(f"{name}-" + "[0-9a-f]" * 16 + ".safetensors"):
                if old != path:
                    old.unlink(missing_ok=True)
            return
        except (OSError, safetensors.SafetensorError) as error:
            problems.append(f"{folder}: {getattr(error, 'strerror', None) or error}")
    _log.warning("decoded pictures of %s could not be kept, so each start decodes anew (%s)", name, "; ".join(problems))
