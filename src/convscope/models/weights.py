"""Weights from files into models: ours and torchvision's, a new head for new classes, and freezing."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import safetensors
import safetensors.torch
import torch
from torch import nn

from convscope.errors import ArgumentError, CheckpointError, UnknownNameError
from convscope.layers.initialisers import fans

State = dict[str, torch.Tensor]

#: Names that ports of the same network give their last layer.
_HEADS = ("fc", "last_linear", "classif", "classifier")
#: torchvision's first DenseNet weights spell "norm.1" where the module is called "norm1".
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_NOT_WEIGHTS = "__optimiser__/"  # a training checkpoint keeps the optimiser's tensors beside the weights


def read_state(path: str | Path) -> State:
    """The state dict in ``path``: a safetensors file (ours or any other) or one written by ``torch.save``.

    The latter is read with ``weights_only``, which unpickles tensors and nothing else. Raises CheckpointError for a
    missing or damaged file and for one that holds more than weights.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror})") from error
    if start == b"PK" or start[:1] == b"\x80":  # a zip archive, torch.save's format, or the pickle of before 2020
        state = _read_torch(path)
    else:
        try:
            state = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(path, f"neither a safetensors file nor a torch state dict ({error})") from error
    return {name.removeprefix("module."): value for name, value in state.items() if not name.startswith(_NOT_WEIGHTS)}


def _read_torch(path: Path) -> State:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of unusual pickles; what comes out is checked below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        problem = "not a state dict of tensors alone, or damaged"
        remedy = "Save it again as torch.save(model.state_dict(), …); whole pickled models are never opened"
        raise CheckpointError(path, problem, remedy) from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise CheckpointError(path, "no state dict: wanted tensors by name")
    return dict(found)


def class_count(model: nn.Module, state: Mapping[str, torch.Tensor], classes: int) -> int | None:
    """How many classes the weights in ``state`` are for, where their last layer differs from the model's; else None."""
    counts = {
        state[name].shape[0]
        for name, value in model.state_dict().items()
        if name in state and value.ndim and state[name].ndim == value.ndim and state[name].shape != value.shape
        if value.shape[0] == classes and state[name].shape[1:] == value.shape[1:]
    }
    return counts.pop() if len(counts) == 1 else None


def put_state(model: nn.Module, state: Mapping[str, torch.Tensor], path: str | Path, classes: int) -> list[str]:
    """Load ``state`` into ``model``; returns the names left at their random start, those of a head for other classes.

    Everything else must fit exactly. Raises CheckpointError naming the first entries that are missing, left over or of
    another shape.
    """
    own = model.state_dict()
    state = _renamed(state, own)
    unknown = [name for name in state if name not in own and not name.startswith(_AUXILIARY)]
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    if unknown or missing:
        told = [f"{len(missing)} entries are missing, first {missing[0]!r}"] if missing else []
        told += [f"{len(unknown)} are unknown to the model, first {unknown[0]!r}"] if unknown else []
        raise CheckpointError(path, "weights of another architecture: " + "; ".join(told))
    other_classes = class_count(model, state, classes)
    fresh, fitting = [], {}
    for name, value in own.items():
        if name not in state or state[name].shape == value.shape:
            fitting[name] = state.get(name, value)
        elif other_classes is not None and state[name].shape == (other_classes, *value.shape[1:]):
            fresh.append(name)
        else:
            raise CheckpointError(
                path,
                f"weights of another build: {name!r} is {tuple(state[name].shape)}, the model's {tuple(value.shape)}",
                "Give create_model the options, in_channels among them, that the weights were made with",
            )
    model.load_state_dict(fitting, strict=False)
    return fresh


def _renamed(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> State:
    renamed: State = {}
    for name, value in state.items():
        found = _OLD_DENSENET.match(name)
        name = "".join(found.groups()) if found else name
        head, _, leaf = name.rpartition(".")
        if name not in own and head in _HEADS:
            name = next((f"{other}.{leaf}" for other in _HEADS if f"{other}.{leaf}" in own), name)
        renamed[name] = value
    return renamed


def freeze(model: nn.Module, what: int | str | Sequence[str]) -> list[str]:
    """Keep part of ``model`` from being trained (``requires_grad`` off); returns the names of the frozen parameters.

    ``what`` is a module name or several: each freezes everything below it, and a prefix such as "layer" means all
    modules whose names start so. Or a depth: n freezes the first n layers with kernels (convolutions and fully
    connected ones, with the normalisation between them), −n all but the last n. Running statistics of frozen
    normalisation layers still follow the data in training, as in torch. Raises UnknownNameError for a name that fits
    nothing, ArgumentError for a depth that the model does not have.
    """
    if isinstance(what, int) and not isinstance(what, bool):
        frozen = _first_layers(model, what)
    elif isinstance(what, str) or (isinstance(what, Sequence) and all(isinstance(each, str) for each in what)):
        frozen = _named(model, [what] if isinstance(what, str) else what)
    else:
        raise ArgumentError("freeze", what, "module names or a number of layers")
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    return frozen


def _named(model: nn.Module, prefixes: Sequence[str]) -> list[str]:
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not prefix or not any(name.startswith(prefix) for name in names):
            raise UnknownNameError("freeze", prefix, [path for path, _ in model.named_modules() if path])
    return [name for name in names if name.startswith(tuple(prefixes))]


def _first_layers(model: nn.Module, depth: int) -> list[str]:
    layers = [(path, fans(module) is not None) for path, module in model.named_modules() if _has_own(module)]
    count = sum(has_kernels for _, has_kernels in layers)
    wanted = depth if depth >= 0 else count + depth
    if not 0 < wanted <= count:
        raise ArgumentError("freeze", depth, f"a number of layers from −{count - 1} to {count}, but not 0")
    frozen, seen = [], 0
    for path, has_kernels in layers:
        seen += has_kernels
        if seen > wanted:
            break
        own = model.get_submodule(path).named_parameters(recurse=False)
        frozen += [f"{path}.{name}" if path else name for name, _ in own]
    return frozen


def _has_own(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None
