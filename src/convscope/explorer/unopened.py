"""What the page says when a file cannot be opened as a model: what it holds, what is missing, and what to do."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import torch

from convscope.errors import CheckpointError
from convscope.models import MODELS, create_model
from convscope.models.statefile import is_torch_file, read_state

MAX_HEADER = 16 * 1024 * 1024
CANDIDATES = 3


@dataclasses.dataclass(frozen=True)
class UnopenedFile:
    """``reason`` is a key of the page's texts, "no_description" or "unreadable"; ``detail`` the error as it was, and
    ``parts`` what it is made of, which the page puts together in its own language.

    ``tensors`` are (name, shape) of what the file holds, ``candidates`` catalogue models whose parameters have the
    same names and shapes.
    """

    file: str
    reason: str
    detail: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...] = ()
    candidates: tuple[str, ...] = ()
    parts: dict[str, str] | None = None

    def describe(self) -> dict[str, Any]:
        shown = [{"name": name, "shape": list(shape)} for name, shape in self.tensors[:200]]
        return {
            "file": self.file,
            "reason": self.reason,
            "detail": self.detail,
            "parts": self.parts,
            "tensors": shown,
            "count": len(self.tensors),
            "candidates": list(self.candidates),
        }


def unopened_file(path: Path, error: Exception) -> UnopenedFile:
    """The card for a file that ``convscope.load`` refused with ``error``."""
    tensors = _tensors(path)
    reason = "no_description" if tensors else "unreadable"
    parts = None
    if isinstance(error, CheckpointError):
        parts = {"path": error.path.name, "problem": error.problem, "hint": error.remedy}
    return UnopenedFile(path.name, reason, str(error), tuple(tensors.items()), tuple(candidates(tensors)), parts)


def candidates(tensors: dict[str, tuple[int, ...]]) -> list[str]:
    """Catalogue models with just these parameters, but for the number of classes."""
    if not tensors:
        return []
    found: list[str] = []
    for name in MODELS:
        if len(found) == CANDIDATES:
            break
        with torch.device("meta"):
            try:
                own = create_model(name).state_dict()
            except Exception:
                continue
        if own.keys() == tensors.keys() and _fits(own, tensors):
            found.append(name)
    return found


def _fits(own: dict[str, torch.Tensor], tensors: dict[str, tuple[int, ...]]) -> bool:
    """Equal shapes but for the classes: at most the last two tensors may differ in their first size."""
    different = [name for name, each in own.items() if tuple(each.shape) != tensors[name]]
    return all(tuple(own[name].shape[1:]) == tensors[name][1:] for name in different) and len(different) <= 2


def _tensors(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes from a safetensors file's header, without reading its data; torch.save's are read whole."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
            if is_torch_file(start):
                return {name: tuple(value.shape) for name, value in read_state(path).items()}
            (length,) = struct.unpack("<Q", start[:8])
            file.seek(8)
            if length > MAX_HEADER:
                return {}
            header = json.loads(file.read(length))
        return {
            name: tuple(int(side) for side in entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (CheckpointError, OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError, struct.error):
        return {}
