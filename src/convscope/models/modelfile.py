"""Models as single safetensors files that carry everything needed to use them again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.errors import ArgumentError, CheckpointError, UnknownNameError
from convscope.graph.examples import example_inputs
from convscope.models import portable
from convscope.models.catalog import MODELS
from convscope.tensorfile import read_description, read_tensors, write_tensors

# 2: task, inputs and answers beside the architecture. 1, of classifiers of pictures only, is read as well.
FORMAT = 2
READABLE = (1, 2)
_NOT_FROM_FILES = {"weights", "freeze"}  # of create_model: a model file names no other file to be read
OPTIMISER = "__optimiser__/"  # in a checkpoint, the names of the optimiser's tensors begin so


def save(model: nn.Module, path: str | Path, input_shape: Sequence[Any] | None = None, **more: Any) -> Path:
    """Write ``model`` with its description to ``path`` (safetensors) and return the path.

    A user's own module is described by its layers; it needs ``input_shape`` (channels, height, width) unless it was
    trained by ``fit``. ``more`` are JSON values to keep beside it, e.g. ``metrics``. The file is whole or not there at
    all. Raises CheckpointError when it cannot be written, ArgumentError for a model that cannot be described.
    """
    path = Path(path)
    described = current_spec(model, input_shape)
    write_model(model, path, described, **more)
    return path


def write_model(model: nn.Module, path: Path, described: spec.ModelSpec | None, **more: Any) -> None:
    """``save`` with the description given; without one the file can only be read by ``load_weights``."""
    saved = None if described is None else described.to_json()
    write_tensors(path, model.state_dict(), {"format": FORMAT, "kind": "model", "model": saved, **more})


def current_spec(model: nn.Module, input_shape: Sequence[Any] | None = None) -> spec.ModelSpec:
    """The description of ``model`` as it is now: its layers are described anew where they were changed since it was
    built (a head replaced, say). Raises ArgumentError for a module that cannot be described."""
    described = spec.spec_of(model)
    if described is None:
        if input_shape is None:
            raise ArgumentError("input_shape", None, "the (channels, height, width) of the model's input")
        return portable.describe_spec(model, tuple(input_shape))
    if _fits(model, described):
        return described
    inputs = None if input_shape is None else example_inputs(model, input_shape)
    return described.replace(architecture="graph", options=portable.describe(model, inputs), ranks={})


def _fits(model: nn.Module, described: spec.ModelSpec) -> bool:
    """Whether a model built from ``described`` has this model's layers, with their options, and weights by name and
    shape; built without memory."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                rebuilt = portable.rebuild(described)
        except (RuntimeError, NotImplementedError):  # a builder that looks at its own numbers
            rebuilt = portable.rebuild(described)
    own = model.state_dict()
    if {name: each.shape for name, each in own.items()} != {n: each.shape for n, each in rebuilt.state_dict().items()}:
        return False
    pairs = zip(model.named_modules(), rebuilt.named_modules(), strict=False)
    return len(list(model.modules())) == len(list(rebuilt.modules())) and all(
        path == other_path and type(one) is type(other) and _options(one) == _options(other)
        for (path, one), (other_path, other) in pairs
    )


def _options(module: nn.Module) -> dict[str, Any]:
    """What a module is set to, weights left aside; a method put in place of its class's own counts."""
    kinds = (bool, int, float, str, tuple, type(None))
    return {
        name: value
        for name, value in vars(module).items()
        if name not in ("training", "convscope_spec", "convscope_compression") and not name.startswith("_")
        if type(value) in kinds or callable(value)
    }


def load(path: str | Path) -> nn.Module:
    """The model in ``path``, a file of ``save`` or a checkpoint, on the CPU and in evaluation mode.

    Raises CheckpointError for a file that is damaged, of another program or version, or of an unknown architecture.
    """
    path = Path(path)
    tensors, description = read_tensors(path)
    described = read_spec(path, description)
    if described is None:
        raise CheckpointError(
            path,
            "its model is the user's own module, which the file does not describe",
            "Build that module and put the weights into it with convscope.models.modelfile.load_weights",
        )
    weights = {name: each for name, each in tensors.items() if not name.startswith(OPTIMISER)}
    model = rebuild(path, described, weights)
    put_weights(path, model, weights)
    return spec.attach(model, described).eval()


def load_weights(model: nn.Module, path: str | Path) -> nn.Module:
    """Put the weights in ``path`` (a file of ``save`` or a checkpoint) into ``model``, which must fit; return it."""
    path = Path(path)
    tensors, description = read_tensors(path)
    check_format(path, description)
    put_weights(path, model, {name: each for name, each in tensors.items() if not name.startswith(OPTIMISER)})
    return model


def describe(path: str | Path) -> dict[str, Any]:
    """What ``path`` says of its model: architecture, options, classes, preprocessing, metrics, configuration."""
    path = Path(path)
    description = read_description(path)
    check_format(path, description)
    return description


def put_weights(path: Path, model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """``model.load_state_dict`` in place, with an error that names what does not fit."""
    check_weights(path, model.state_dict(), weights)
    model.load_state_dict(dict(weights))


def check_weights(path: Path, own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    """CheckpointError naming the first of the ``weights`` that has no place among ``own``, or another shape there."""
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unknown:
        found = [f"lacks {missing[0]!r}"] if missing else []
        found += [f"has {unknown[0]!r}, which the model lacks"] if unknown else []
        raise CheckpointError(path, f"weights of another architecture: it {' and '.join(found)}")
    for name, tensor in own.items():
        if tensor.shape != weights[name].shape:
            shapes = f"{tuple(weights[name].shape)}, the model's is {tuple(tensor.shape)}"
            raise CheckpointError(path, f"weights of another architecture: {name!r} has the shape {shapes}")
        if tensor.is_floating_point() != weights[name].is_floating_point():
            kinds = f"{weights[name].dtype}, the model's is {tensor.dtype}".replace("torch.", "")
            raise CheckpointError(path, f"weights of another kind of number: {name!r} is {kinds}")


def read_spec(path: Path, description: Mapping[str, Any]) -> spec.ModelSpec | None:
    """The description's model; CheckpointError for another format version."""
    check_format(path, description)
    saved = description.get("model")
    return None if saved is None else spec_from_json(path, saved)


def spec_from_json(path: Path, saved: Mapping[str, Any]) -> spec.ModelSpec:
    """``ModelSpec.from_json``; CheckpointError, naming the file it was in, for a damaged one."""
    try:
        return spec.ModelSpec.from_json(saved)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as problem:
        raise CheckpointError(path, f"its description of the model is damaged ({problem!r})") from problem


def check_format(path: Path, description: Mapping[str, Any]) -> None:
    version = description.get("format")
    if version not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise CheckpointError(
            path, f"of format version {version}; this convscope reads versions {known}", "Use the version that wrote it"
        )
    for name in ("model", "config", "data", "metrics"):
        if not isinstance(description.get(name), dict | None):
            raise CheckpointError(path, f"its description is damaged ({name}: {type(description[name]).__name__})")


def rebuild(path: Path, described: spec.ModelSpec, weights: Mapping[str, torch.Tensor] | None = None) -> nn.Module:
    """A model with fresh weights from its description; CheckpointError when this convscope cannot build it.

    A file is data from elsewhere: what it describes is built without memory first, and has to have the shapes of
    ``weights``, or without those to fit into this computer's memory.
    """
    with torch.random.fork_rng(devices=[]):  # the fresh random weights, replaced at once, take nobody's numbers
        try:
            if described.architecture != "graph" and described.architecture not in MODELS:
                raise UnknownNameError("architecture", described.architecture, MODELS)
            if described.architecture != "graph" and described.options.keys() & _NOT_FROM_FILES:
                raise ArgumentError("options", described.options, "options of the architecture alone")
            _check_shapes(path, described, weights)
            return portable.rebuild(described)
        except CheckpointError:
            raise
        except Exception as problem:  # a description that was made up can go wrong anywhere in a builder
            remedy = "It may come from another version of convscope"
            told = str(problem) if isinstance(problem, ArgumentError) else f"{type(problem).__name__}: {problem}"
            raise CheckpointError(path, f"this architecture cannot be built here: {told}", remedy) from problem


def _check_shapes(path: Path, described: spec.ModelSpec, weights: Mapping[str, torch.Tensor] | None) -> None:
    try:
        with torch.device("meta"):
            own = portable.rebuild(described).state_dict()
    except (RuntimeError, NotImplementedError):
        return  # a builder that looks at its own numbers; what else it may be the building itself will tell
    if weights is not None:
        check_weights(path, own, weights)
    needed = sum(each.numel() * each.element_size() for each in own.values())
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise CheckpointError(path, f"its model would take {needed:,} bytes; this computer has {there:,}")
