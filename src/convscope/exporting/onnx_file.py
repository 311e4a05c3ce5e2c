"""``export_onnx``: a model as an ONNX file, checked by the runtime where that is installed."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from convscope import spec
from convscope.errors import ArgumentError, ExportError
from convscope.exporting import checking, detector_file, detectors
from convscope.exporting.extents import Sized
from convscope.exporting.graphs import OPSET as OPSET
from convscope.exporting.graphs import (
    as_model,
    examples_of,
    info,
    names_of,
    recorded,
    recording_batch,
    scaled,
    sentence_length,
)
from convscope.exporting.recording import Recording
from convscope.exporting.writer import Writer
from convscope.files import replacing
from convscope.graph.training_modes import looking

_MOST_BYTES = 2**31 - 1  # of one file of Protocol Buffers


@dataclasses.dataclass(frozen=True)
class Exported:
    """``difference`` is the largest between the runtime's answers and the model's own, relative to the largest answer;
    None where nothing was compared, and ``unchecked`` says why."""

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: int
    difference: float | None
    unchecked: str = ""


def export_onnx(
    model: nn.Module,
    path: str | Path,
    input_shape: Sequence[Any] | None = None,
    *,
    inputs: Sequence[Tensor] | None = None,
    dynamic_batch: bool = True,
    preprocessing: bool = False,
    check: bool = True,
) -> Exported:
    """Write ``model``, as it answers in evaluation mode, to ``path`` as ONNX (operators of set 20).

    ``input_shape`` is that of one example, (channels, height, width), as ``count`` takes it; by default the one in the
    model's description. ``inputs`` are examples instead, for models that no shape describes: a tensor an argument of
    ``forward``, the batch first. With ``dynamic_batch`` the file takes batches of any size: the model is recorded at
    two sizes, and what differs is the batch. Sentences, whole numbers (n, t), may then be of any length t too, where
    the model's can. ``preprocessing=True`` puts the description's scaling into the graph, which then takes uint8
    pictures (n, channels, height, width) of the model's size. The file's metadata hold the description: task, class
    names, preprocessing. What a detector's file takes and answers: ``exporting.detectors``.

    With ``check`` the file is run by ONNX Runtime on batches of one and of five, and of short and long sentences, and
    compared with the model: ExportError where they differ by more than 1e-4 of the largest answer. Needs the package
    ``onnx`` (extra ``onnx``).

    Raises ArgumentError for arguments that cannot be, ExportError, naming the layer, for what ONNX cannot express or
    would compute otherwise: chance, branches on numbers, batch statistics.
    """
    _onnx()
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ArgumentError("path", str(path), "a file in a folder that is there")
    described = spec.spec_of(model)
    if isinstance(model, detectors.Detector):
        scaling = _scaling(described, 2) if preprocessing else None
        return _detector(model, path, detectors.pictures_of(model, input_shape, inputs), dynamic_batch, scaling, check)
    scaling = _scaling(described, 1) if preprocessing else None
    given = (input_shape, inputs)
    with looking(model):
        length = sentence_length(model, *given) if dynamic_batch else None
        if length is not None:
            # A table of positions that ends, or steps that count by the length, and the file takes one length only.
            with contextlib.suppress(ExportError):
                return _exported(model, path, given, dynamic_batch, length, scaling, check)
        return _exported(model, path, given, dynamic_batch, None, scaling, check)


def _exported(
    model: nn.Module, path: Path, given: tuple[Any, Any], any_batch: bool, length: int | None,
    scaling: spec.Preprocessing | None, check: bool,
) -> Exported:  # fmt: skip
    onnx = _onnx()
    recording = recorded(model, *given, any_batch, length)
    written, (taken, answered) = _written(onnx, model, recording, scaling)
    _describe(onnx, written, spec.spec_of(model), scaling is not None)
    content = _checked_bytes(onnx, written)
    difference, unchecked = None, "" if check else "it was not asked for"
    if check:
        batches = (1, 5) if any_batch else (recording_batch(recording),)
        examples = [examples_of(model, batch, *given) for batch in batches]
        if length is not None:
            examples += [examples_of(model, 2, (each,)) for each in (1, 7, 3 * length + 1)]
        difference, unchecked = checking.compare(model, content, examples, scaling)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Exported(path, taken, answered, len(written.graph.node), difference, unchecked)


def _detector(
    model: detectors.Detector, path: Path, pictures: Tensor, any_batch: bool, scaling: spec.Preprocessing | None,
    check: bool,
) -> Exported:  # fmt: skip
    onnx = _onnx()
    with looking(model):
        written, (taken, given) = detector_file.written(onnx, model, pictures, any_batch, scaling)
        more = {"deviations": list(model.deviations), "margins": bool(getattr(model, "margins", False))}
        _describe(onnx, written, spec.spec_of(model), scaling is not None, more)
        content = _checked_bytes(onnx, written)
        difference, unchecked = None, "" if check else "it was not asked for"
        if check:
            batches = (1, 5) if any_batch else (len(pictures),)
            difference, unchecked = detector_file.compare(model, content, pictures, batches, scaling)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Exported(path, taken, given, len(written.graph.node), difference, unchecked)


def _onnx() -> Any:
    try:
        found = importlib.import_module("onnx")
    except ImportError:
        hint = "pip install 'convscope[onnx]'"
        raise ArgumentError("export", "no package 'onnx'", "the optional extra 'onnx' to be installed", hint) from None
    importlib.import_module("onnx.numpy_helper")
    return found


def _scaling(described: spec.ModelSpec | None, inputs: int) -> spec.Preprocessing:
    found = None if described is None or len(described.inputs) != inputs else described.preprocessing
    if found is None:
        raise ArgumentError("preprocessing", True, "a model with a description of one picture's preprocessing")
    if found.width is not None:
        raise ExportError(
            "", "a preprocessing that scales figures to a width cannot be written; leave it out of the graph"
        )
    return found


def _written(onnx: Any, model: nn.Module, recording: Recording, scaling: spec.Preprocessing | None) -> Any:
    """The ModelProto, and the names of its inputs and outputs."""
    arguments = ["input", *(f"input_{index}" for index in range(2, len(recording.inputs) + 1))]
    given = ["pixels"] if scaling is not None else arguments
    write = Writer(onnx, names_of(model), given[0])
    for name in given:
        write.fresh(name)
    for ref, name in zip(recording.inputs, given, strict=True):
        write.bind(ref, name)
    if scaling is not None:
        write.layer = "preprocessing"
        write.bind(recording.inputs[0], scaled(write, given[0], scaling))
    for step in recording.steps:
        write.write(step)
    inputs = [info(write, name, ref, scaling is not None) for name, ref in zip(given, recording.inputs, strict=True)]
    write.layer = ""
    outputs = [_output(write, name, value) for name, value in _named(recording.outputs)]
    written = as_model(onnx, write, type(model).__name__, inputs, outputs)
    return written, (tuple(each.name for each in inputs), tuple(each.name for each in outputs))


def _named(outputs: Any) -> Iterator[tuple[str, Any]]:
    """The tensors that a model returns, by names: those of a mapping or named tuple, else output, output_2, …"""
    if isinstance(outputs, Mapping):
        yield from ((str(key), value) for key, value in outputs.items() if isinstance(value, Sized | Tensor))
        return
    found = [each for each in tree_flatten(outputs)[0] if isinstance(each, Sized | Tensor)]
    if hasattr(outputs, "_fields") and len(found) == len(outputs._fields):
        yield from zip(outputs._fields, found, strict=True)
        return
    if not found:
        raise ExportError("", f"it returns no tensor ({type(outputs).__name__})")
    yield from ((f"output_{index}" if index > 1 else "output", each) for index, each in enumerate(found, 1))


def _output(write: Writer, name: str, value: Any) -> Any:
    own = write.fresh(name)
    write.nodes.append(
        write.onnx.helper.make_node("Identity", [write.value(value)], [own], name=write.fresh(f"{own}/Identity"))
    )
    return info(write, own, value)


def _describe(
    onnx: Any, written: Any, described: spec.ModelSpec | None, scaled: bool, more: Mapping[str, Any] | None = None
) -> None:
    """Metadata: ``convscope`` holds the whole description, the others what another program asks for first."""
    if described is None:
        return
    content = {"convscope": described.to_json(), "task": described.task, "scaling_in_graph": scaled, **(more or {})}
    if described.classes:
        content["classes"] = list(described.classes)
    if described.preprocessing is not None:
        content["preprocessing"] = dataclasses.asdict(described.preprocessing)
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in content.items()
    }
    onnx.helper.set_model_props(written, texts)


def _checked_bytes(onnx: Any, written: Any) -> bytes:
    if written.ByteSize() > _MOST_BYTES:
        raise ExportError("", f"{written.ByteSize():,} bytes, more than one ONNX file can hold ({_MOST_BYTES:,})")
    try:
        onnx.checker.check_model(written, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as problem:
        raise ExportError("", f"what was written is no valid ONNX: {str(problem).splitlines()[0]}") from problem
    return bytes(written.SerializeToString())
