"""The folder of a stage: what it was asked for and, once it is finished, what its files must be.

stage.json            settings, threads and the earlier results it is made from; when finished, its files' checksums
result.json           what its work returned; result.safetensors where there are tensors among it
parts/                pieces of a long work, until it is finished
config.json …         where it trained: a run folder like any other
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from convscope.errors import ArgumentError, CheckpointError, ConvscopeError
from convscope.files import clear_unfinished
from convscope.tensorfile import explain, read_bytes, read_tensors, write_tensors, write_text

RECORD, MODEL, PARTS = "stage.json", "model.safetensors", "parts"
RESULTS = ("result.safetensors", "result.json")
DISCARDED = ".discarded"  # how the names of folders that are being removed begin
FORMAT = 1
_RUN_FILES = (MODEL, "metrics.json", "history.csv")  # of the result of a training


class StageError(ConvscopeError):
    """A stage cannot be used or carried out; ``stage`` is its name."""

    def __init__(self, stage: str, problem: str, remedy: str = "") -> None:
        self.stage, self.problem, self.remedy = stage, problem, remedy
        super().__init__(f"stage {stage!r}: {problem}" + (f". {remedy}" if remedy else ""))


class StageFolder:
    """Stage ``name``'s folder below ``job``; ``record`` is what its stage.json says, None where there is none.

    Raises StageError for a record that cannot be read, and for a run that no stage began.
    """

    def __init__(self, job: Path, name: str) -> None:
        self.job, self.name, self.path = job, name, job / name
        self.record: dict[str, Any] | None = None
        problem = ""
        if (self.path / RECORD).is_file():
            self.record, problem = _read_record(self.path / RECORD)
        elif (self.path / "config.json").exists():
            problem = f"{self.path} holds a run that no stage began"
        if problem:
            raise StageError(name, problem, f"redo={name!r} begins it anew; another folder leaves it as it is")

    @property
    def finished(self) -> bool:
        return self.record is not None and self.record["result"] is not None

    def begin(self, settings: Mapping[str, Any], threads: int, after: Mapping[str, str]) -> None:
        """Note what is begun: its settings, and the fingerprints of the earlier results by their stages' names."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._write({"settings": settings, "threads": threads, "after": dict(after), "redo": False, "result": None})

    def finish(self, values: Mapping[str, Any] | None, seconds: float) -> None:
        """Write what the work returned, then the checksums of all that belongs to the result, then clear up."""
        assert self.record is not None
        clear_unfinished(self.path)
        if values:
            write_values(self.path / RESULTS[0], values, self.name)
        files = [name for name in (*RESULTS, *_RUN_FILES) if (self.path / name).is_file()]
        result = {
            "files": {name: _checksum(self.path / name) for name in files},
            "fingerprint": self._fingerprint(),
            "seconds": seconds,
        }
        self._write({**self.record, "result": result})
        shutil.rmtree(self.path / PARTS, ignore_errors=True)

    def damage(self) -> str:
        """What is wrong with the files of a finished stage, in words; "" when every byte is as it was written."""
        assert self.record is not None
        for name, checksum in self.record["result"]["files"].items():
            if not (self.path / name).is_file():
                return f"{name} is missing"
            if _checksum(self.path / name) != checksum:
                return f"{name} is damaged"
        return ""

    def unfinish(self) -> None:
        """Its result is not whole: it is to be made again, a training from its checkpoints."""
        assert self.record is not None
        self._write({**self.record, "result": None})
        for name in (*RESULTS, *_RUN_FILES):
            (self.path / name).unlink(missing_ok=True)

    def allow_redo(self, allowed: bool = True) -> None:
        """Note whether it may be made anew when an earlier result has become another."""
        assert self.record is not None
        if self.record["redo"] != allowed:
            self._write({**self.record, "redo": allowed})

    def discard(self) -> None:
        """Remove the folder: first its name, so that a kill on the way leaves no half of it."""
        discard(self.job, self.path)
        self.record = None

    def _fingerprint(self) -> str:
        """What tells this result from another: values and weights, but no times or folders."""
        found = hashlib.sha256()
        tensors, plain = split_values(read_result(self.path))
        found.update(f"{digest(tensors)} {json.dumps(plain, sort_keys=True)}\n".encode())
        if (self.path / MODEL).is_file():
            found.update(digest(read_tensors(self.path / MODEL)[0]).encode())
        return found.hexdigest()

    def _write(self, record: dict[str, Any]) -> None:
        self.record = {"format": FORMAT, "stage": self.name, **record}
        write_text(self.path / RECORD, json.dumps(self.record, indent=1, ensure_ascii=False) + "\n")


def _read_record(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The record and what is wrong with it, in words."""
    try:
        record = json.loads(read_bytes(path))
    except (ValueError, CheckpointError) as problem:
        return None, f"{path} is damaged ({problem})"
    wanted = {"format", "stage", "settings", "threads", "after", "result", "redo"}
    if not isinstance(record, dict) or record.get("format") != FORMAT or not wanted <= record.keys():
        return None, f"{path} is damaged or of another version"
    return record, ""


def discard(job: Path, path: Path) -> None:
    """Remove the folder ``path`` of a job."""
    number = 0
    while (job / f"{DISCARDED}-{number}").exists():
        number += 1
    try:
        path.rename(job / f"{DISCARDED}-{number}")
    except FileNotFoundError:
        return
    except OSError as problem:
        raise CheckpointError(path, explain(problem)) from problem
    clear_discarded(job)


def clear_discarded(job: Path) -> None:
    """Remove what is left of discarded folders."""
    for left in job.glob(f"{DISCARDED}-*"):
        shutil.rmtree(left, ignore_errors=True)


def differences(before: Any, now: Any, place: str = "") -> list[str]:
    """Where two settings differ, in words: "epochs: 12 in the folder, 3 now"."""
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in [*before, *(key for key in now if key not in before)]:
            name = f"{place}.{key}" if place else key
            found += differences(before.get(key, ...), now.get(key, ...), name)
        return found
    if before == now and type(before) is type(now):
        return []
    told = ["nothing" if value is ... else json.dumps(value, ensure_ascii=False) for value in (before, now)]
    return [f"{place}: {told[0]} in the folder, {told[1]} now"]


def split_values(values: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors, and the others."""
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    return tensors, {name: value for name, value in values.items() if name not in tensors}


def write_values(path: Path, values: Mapping[str, Any], stage: str, legible: bool = True) -> None:
    """Tensors and JSON values by name as a safetensors file with a checksum; where there are no tensors and it should
    be ``legible``, as a JSON file of the same stem.

    Raises ArgumentError for anything else, not-a-number and infinity outside of tensors included.
    """
    tensors, plain = split_values(values)
    for name, value in plain.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as problem:
            raise ArgumentError(
                f"{name!r} of stage {stage!r}", value, "a tensor, or JSON values without nan", str(problem)
            ) from problem
    description = {"format": FORMAT, "kind": "stage", "values": plain}
    if tensors or not legible:
        write_tensors(path, tensors, description)
    else:
        write_text(path.with_suffix(".json"), json.dumps(description, indent=1, ensure_ascii=False) + "\n")


def read_values(path: Path) -> dict[str, Any]:
    """What ``write_values`` wrote; CheckpointError for a damaged or foreign file."""
    tensors: dict[str, torch.Tensor] = {}
    if path.suffix == ".json":
        try:
            description = json.loads(read_bytes(path))
        except ValueError as problem:
            raise CheckpointError(path, f"damaged ({problem})") from problem
    else:
        tensors, description = read_tensors(path)
    if not isinstance(description, dict) or (description.get("kind"), description.get("format")) != ("stage", FORMAT):
        raise CheckpointError(path, "not the result of a stage")
    return {**description["values"], **tensors}


def read_result(folder: Path) -> dict[str, Any]:
    """What the work of the stage in ``folder`` returned; nothing where that was a training alone."""
    path = next((folder / name for name in RESULTS if (folder / name).is_file()), None)
    return {} if path is None else read_values(path)


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and every byte, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        each = tensors[name].detach().to("cpu").contiguous()
        found.update(f"{name} {each.dtype} {tuple(each.shape)}\n".encode())
        found.update(each.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
