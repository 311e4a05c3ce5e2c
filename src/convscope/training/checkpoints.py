"""Training states as single safetensors files: a run goes on exactly from one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from convscope import spec
from convscope.errors import CheckpointError
from convscope.models.modelfile import FORMAT, OPTIMISER, read_spec
from convscope.tensorfile import read_tensors, write_tensors


@dataclasses.dataclass(frozen=True)
class State:
    """A training run at a moment between two batches: enough to go on exactly.

    ``position`` holds epoch, batch, step and the sums of the epoch under way; ``config``, ``data`` and ``history`` are
    JSON values. Chance needs no state: shuffling, dropout and augmentation are functions of seed, epoch and batch.
    """

    weights: dict[str, torch.Tensor]
    optimiser: dict[str, torch.Tensor]
    position: dict[str, Any]
    config: dict[str, Any]
    data: dict[str, Any]
    history: list[dict[str, Any]]
    model: spec.ModelSpec | None


def save_state(path: Path, state: State) -> None:
    """Write a checkpoint of a run."""
    description = {
        "format": FORMAT,
        "kind": "checkpoint",
        "model": None if state.model is None else state.model.to_json(),
        "position": state.position,
        "config": state.config,
        "data": state.data,
        "history": state.history,
    }
    optimiser = {OPTIMISER + name: each for name, each in state.optimiser.items()}
    write_tensors(path, {**state.weights, **optimiser}, description)


def load_state(path: Path, content: bytes | None = None) -> State:
    """Read a checkpoint of a run (or its ``content``, read before). Raises CheckpointError, also for a file that is a
    finished model alone."""
    tensors, description = read_tensors(path, content)
    described = read_spec(path, description)
    if description.get("kind") != "checkpoint":
        raise CheckpointError(path, "a finished model, not a checkpoint of a run", "Give the run's folder to resume")
    for name, kind in (("position", dict), ("config", dict), ("data", dict), ("history", list)):
        if not isinstance(description.get(name), kind):
            raise CheckpointError(path, f"its description is damaged (no {name})")
    return State(
        weights={name: each for name, each in tensors.items() if not name.startswith(OPTIMISER)},
        optimiser={name.removeprefix(OPTIMISER): each for name, each in tensors.items() if name.startswith(OPTIMISER)},
        position=description["position"],
        config=description["config"],
        data=description["data"],
        history=description["history"],
        model=described,
    )
