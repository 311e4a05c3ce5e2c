"""State dicts in files, as people publish them: bare, or beside an epoch, an optimiser and a script's arguments."""

from __future__ import annotations

import re
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors
import safetensors.torch
import torch

from convscope import files
from convscope.errors import CheckpointError
from convscope.quiet import quiet

State = dict[str, torch.Tensor]

#: Under which names training scripts keep the model's state dict, the first that is there.
_KEYS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "net_state_dict", "weights", "params",
)  # fmt: skip
_DEPTH = 3  # dicts within dicts that are looked through
_NOT_WEIGHTS = "__optimiser__/"  # a training checkpoint keeps the optimiser's tensors beside the weights
_UNPACKED = 4 * 2**30  # bytes that a compressed archive may unpack to; torch itself does not compress
_FOREIGN = re.compile(r"GLOBAL (\S+) was not an allowed global")
_BLOCKED = re.compile(r"unsupported GLOBAL (\S+) whose module")
_MOST_FOREIGN = 100  # classes and functions that are not torch's, in one file
_AS_STATE = "Save it again as torch.save(model.state_dict(), …); whole pickled models are never opened"
_reading = threading.Lock()


def read_state(path: str | Path) -> State:
    """The state dict in ``path``: a safetensors file (ours or any other) or one written by ``torch.save``.

    The latter is read with ``weights_only``, which unpickles tensors and nothing else; other objects beside the state
    dict (a script's arguments, say) are left out without being made. Raises CheckpointError for a missing or damaged
    file, and for one without a state dict; it names what is there instead.
    """
    path = Path(path)
    try:
        files.check_regular(path)
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror})") from error
    if is_torch_file(start):
        state = _read_torch(path)
    else:
        try:
            state = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(path, f"neither a safetensors file nor a torch state dict ({error})") from error
    return {name: value for name, value in state.items() if not name.startswith(_NOT_WEIGHTS)}


def is_torch_file(start: bytes) -> bool:
    """Whether a file whose first nine bytes are ``start`` begins as ``torch.save`` writes: a zip archive, or the pickle
    of before 2020. (The header's length in front of a safetensors file, then "{", may begin with the same bytes.)"""
    return start[8:9] != b"{" and (start[:2] == b"PK" or start[:1] == b"\x80")


class _Foreign:
    """Takes the place of an object of a class that is not torch's, and of a function's result; holds nothing."""

    def __new__(cls, *arguments: object, **named: object) -> _Foreign:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def _read_torch(path: Path) -> State:
    _check_unpacked(path)
    names: list[str] = []
    with _reading:  # what torch takes for safe is one list for the whole process
        while True:
            stand_ins: list[Any] = [(_Foreign, name) for name in names]
            try:
                # torch warns of unusual pickles; what comes out is checked below
                with quiet(), torch.serialization.safe_globals(stand_ins):
                    found = torch.load(path, map_location="cpu", weights_only=True)
                break
            except Exception as error:  # of a damaged pickle torch raises nearly anything
                name = _foreign_name(error)
                if name is not None and name in names and "." not in name:
                    name = f"builtins.{name}"  # torch shortens it
                if name is None or name in names or len(names) == _MOST_FOREIGN:
                    raise CheckpointError(path, _told(names, error), _AS_STATE) from error
                names.append(name)
    state = _state_within(path, found)
    if state is None:
        kind = f" but {type(found).__name__}" if not isinstance(found, dict | _Foreign) else ""
        inside = f" (it has {', '.join(map(repr, list(found)[:6]))})" if isinstance(found, dict) else kind
        raise CheckpointError(path, f"no state dict: wanted tensors by name{inside}{_objects(names)}", _AS_STATE)
    return {name: _usable(path, name, value) for name, value in state.items()}


def _foreign_name(error: Exception) -> str | None:
    found = _FOREIGN.search(str(error)) if isinstance(error, UnpicklingError) else None
    return found.group(1) if found else None


def _told(names: list[str], error: Exception) -> str:
    told = "not a state dict of tensors alone, or damaged" + _objects(names)
    blocked = _BLOCKED.search(str(error))
    if blocked is not None:
        return f"{told}; it asks for {blocked.group(1)}, which files have no business with"
    # torch's own advice, to read the file without weights_only, is not passed on
    text = str(error).rpartition("WeightsUnpickler error: ")[2].strip() or type(error).__name__
    return told if names else f"{told} ({text.splitlines()[0][:200]})"


def _objects(names: list[str]) -> str:
    return f"; in it are Python objects: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}" if names else ""


def _check_unpacked(path: Path) -> None:
    """CheckpointError for an archive that unpacks to far more than it holds."""
    try:
        if not zipfile.is_zipfile(path):  # it raises as well, for an archive that says it goes on on another disk
            return
        with zipfile.ZipFile(path) as archive:
            packed = [entry for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
            size = sum(entry.file_size for entry in packed)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(path, _told([], error), _AS_STATE) from error
    if size > _UNPACKED:
        raise CheckpointError(path, f"it unpacks to {size:,} bytes, more than {_UNPACKED:,}", "Do not trust it")


def _state_within(path: Path, found: object, depth: int = _DEPTH) -> Mapping[str, Any] | None:
    """The state dict that ``found`` is or holds; CheckpointError where it cannot be told which of several."""
    if not isinstance(found, dict):
        return None
    inner = {}
    if depth:
        for key, value in found.items():
            state = _state_within(path, value, depth - 1) if isinstance(value, dict) else None
            if state is not None:
                inner[key] = state
    for key in _KEYS:
        if key in inner:
            return inner[key]
    own = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}
    if any("." in name for name in own) or (own and not inner):
        return own
    if len(inner) > 1:
        names = ", ".join(repr(name) for name in inner)
        raise CheckpointError(path, f"it holds several state dicts: {names}", "Save the one that is wanted alone")
    return next(iter(inner.values()), None)


def _usable(path: Path, name: str, value: torch.Tensor) -> torch.Tensor:
    """``value`` as an ordinary tensor with its numbers; CheckpointError where it has none that can be copied."""
    if value.device.type == "meta":
        raise CheckpointError(path, f"{name!r} is a meta tensor: a shape without numbers", "Save the model itself")
    if value.is_quantized:
        return value.dequantize()
    if value.layout != torch.strided:
        return value.to_dense()
    return value.detach()
