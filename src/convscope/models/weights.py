"""Weights from files into models: ours and torchvision's, a new head for new classes, and freezing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from convscope.errors import ArgumentError, CheckpointError, UnknownNameError
from convscope.layers.initialisers import fans
from convscope.models.statefile import State, read_state

__all__ = ["CarriesOver", "State", "class_count", "freeze", "put_state", "read_state"]

#: Names that ports of the same network give their last layer.
_HEADS = ("fc", "last_linear", "classif", "classifier")
#: torchvision's first DenseNet weights spell "norm.1" where the module is called "norm1".
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_COMPILED = "_orig_mod."  # torch.compile puts it in front of the names of what it compiles
_COUNTER = "num_batches_tracked"  # which states of before 2018 lack


@runtime_checkable
class CarriesOver(Protocol):
    """A model that takes weights of another architecture, a classifier's for one."""

    def carried_over(self, state: State) -> State:
        """``state`` as this model's own; what is neither its own nor known to be left out stays, and is refused."""
        ...


def fit_names(state: Mapping[str, torch.Tensor], model: nn.Module, path: str | Path) -> State:
    """``state`` under the model's own names where another program has given them others: below a prefix ("module.",
    "model.", "backbone." …), by torch.compile, by old DenseNets, in the last layer.

    What stands beside the prefix is no part of the model and is left out. Raises CheckpointError, naming ``path``,
    where the model is there twice.
    """
    own = model.state_dict()
    state = {name.replace(_COMPILED, ""): value for name, value in state.items()}
    prefix = _prefix(state, own, path)
    fitted: State = {}
    for name, value in state.items():
        if not name.startswith(prefix):
            continue
        name = name.removeprefix(prefix)
        found = _OLD_DENSENET.match(name)
        name = "".join(found.groups()) if found else name
        head, _, leaf = name.rpartition(".")
        if name not in own and head in _HEADS:
            name = next((f"{other}.{leaf}" for other in _HEADS if f"{other}.{leaf}" in own), name)
        fitted[name] = value
    return fitted


def class_count(model: nn.Module, state: Mapping[str, torch.Tensor], classes: int) -> int | None:
    """How many classes the weights in ``state`` are for, where their last layer differs from the model's; else None."""
    own = model.state_dict()
    counts = {
        state[name].shape[0]
        for name, value in own.items()
        if name in state and value.ndim and state[name].ndim == value.ndim and state[name].shape != value.shape
        if value.shape[0] == classes and state[name].shape[1:] == value.shape[1:]
    }
    return counts.pop() if len(counts) == 1 else None


def put_state(model: nn.Module, state: Mapping[str, torch.Tensor], path: str | Path, classes: int) -> list[str]:
    """Load ``state`` into ``model``; returns the names left at their random start, those of a head for other classes
    and of a head that the file does not have.

    Everything else must fit exactly. Raises CheckpointError naming the first entries that are missing, left over, of
    another shape or of another kind of number.
    """
    own = model.state_dict()
    fresh = _headless(state, own, classes)
    _check_names(state, own, fresh, path)
    other_classes = class_count(model, state, classes)
    fitting = {}
    for name, value in own.items():
        if name in state and value.is_floating_point() and not state[name].is_floating_point():
            kinds = f"{_kind(state[name])}, the model's {_kind(value)}"
            raise CheckpointError(path, f"weights of another kind of number: {name!r} is {kinds}")
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


def _check_names(
    state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], fresh: Sequence[str], path: str | Path
) -> None:
    unknown = [name for name in state if name not in own and not name.startswith(_AUXILIARY)]
    missing = [name for name in own if name not in state and not name.endswith(_COUNTER) and name not in fresh]
    if unknown or missing:
        told = [f"{len(missing)} entries are missing, first {missing[0]!r}"] if missing else []
        told += [f"{len(unknown)} are unknown to the model, first {unknown[0]!r}"] if unknown else []
        raise CheckpointError(path, "weights of another architecture: " + "; ".join(told))


def _kind(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _headless(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], classes: int) -> list[str]:
    """Names of the last layer, where it has an output a class and the state ends before it."""
    last = next((name for name in reversed(list(own)) if name.endswith(".weight") and own[name].ndim >= 2), "")
    head = [name for name in own if name.rpartition(".")[0] == last.rpartition(".")[0]]
    absent = last and own[last].shape[0] == classes and not any(name in state for name in head)
    return head if absent else []


def _prefix(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], path: str | Path) -> str:
    """What stands before the model's names in the state: the prefix below which most of them are. CheckpointError
    where two have as many (a model and its running average): which is wanted cannot be told."""
    counts: dict[str, int] = {}
    for name in state:
        for start in [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]:
            if name[start:] in own:
                counts[name[:start]] = counts.get(name[:start], 0) + 1
    if not counts:
        return next((each for each in ("module.",) if all(name.startswith(each) for name in state)), "")
    most = max(counts.values())
    best = [prefix for prefix, count in counts.items() if count == most]
    if len(best) > 1 and "" not in best:
        told = ", ".join(f"{prefix}*" for prefix in sorted(best))
        raise CheckpointError(
            path, f"it holds the model {len(best)} times: {told}", "Save the one that is wanted alone"
        )
    return "" if "" in best else best[0]


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
