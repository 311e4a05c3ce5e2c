"""What every ONNX file is made of: recordings, example inputs, the nodes that are needed, the file itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope import spec
from convscope.errors import ArgumentError, ExportError
from convscope.exporting import operators
from convscope.exporting.extents import BATCHES, LENGTHS, Extent, compared, fixed, of_any_length
from convscope.exporting.recording import Recording, record
from convscope.exporting.writer import CONVERTERS, Writer
from convscope.graph.examples import example_inputs, needed_inputs

OPSET = 20
"""Of ONNX's operators (ONNX 1.15; ONNX Runtime 1.17 and later)."""
_IR = 9


def recorded(
    model: nn.Module,
    shape: Sequence[Any] | None,
    inputs: Sequence[Tensor] | None,
    any_batch: bool,
    length: int | None = None,
) -> Recording:
    """The model as it answers, for batches of any size, with a ``length`` for sentences of any length too."""
    operators.discover()
    known = CONVERTERS.__contains__

    def of(shape: Sequence[Any] | None) -> Recording:
        return compared(*(record(model, examples_of(model, batch, shape, inputs), known) for batch in BATCHES))

    if not any_batch:
        given = tuple(inputs) if inputs is not None else examples_of(model, 1, shape)
        return fixed(record(model, given, known))
    if length is None:
        return of(shape)
    try:
        return of_any_length([of((length + more,)) for more in LENGTHS], length)
    except (RuntimeError, IndexError, ValueError) as problem:  # the model's own: a table of positions that ends
        raise ExportError("", f"sentences of {length} and {length + LENGTHS[-1]} words: {problem}") from problem


def sentence_length(
    model: nn.Module, shape: Sequence[Any] | None, inputs: Sequence[Tensor] | None = None
) -> int | None:
    """How long the examples are that the model is recorded with, where it takes one sentence: whole numbers (n, t)."""
    if inputs is not None:
        return None
    made = examples_of(model, 1, shape)
    if len(made) != 1 or made[0].is_floating_point() or made[0].ndim != 2:
        return None
    return made[0].shape[1]


def recording_batch(recording: Recording) -> int:
    """How many examples a recording of fixed size is for."""
    first = recording.inputs[0].shape
    return first[0] if first and isinstance(first[0], int) else 1


def examples_of(
    model: nn.Module, batch: int, shape: Sequence[Any] | None = None, inputs: Sequence[Tensor] | None = None
) -> tuple[Tensor, ...]:
    """``batch`` examples: those given, as often as need be, or made ones; a model whose ``forward`` takes more than its
    description says (a pair of pictures) is given as many alike."""
    if inputs is not None:
        if not inputs or any(not isinstance(each, Tensor) or not each.ndim or not len(each) for each in inputs):
            raise ArgumentError("inputs", inputs, "a tensor an argument of forward, the batch first")
        return tuple(torch.cat([each] * (-(-batch // len(each))))[:batch] for each in inputs)
    made = example_inputs(model, shape, batch)
    while len(made) < len(needed_inputs(model)):
        made = (*made, made[-1].roll(1, -1))
    entries = [each.num_embeddings for each in model.modules() if isinstance(each, nn.Embedding)]
    if entries:
        generator = torch.Generator().manual_seed(batch)
        made = tuple(
            each if each.is_floating_point() else torch.randint(0, min(entries), each.shape, generator=generator)
            for each in made
        )
    return made


def scaled(write: Writer, pixels: str, scaling: spec.Preprocessing) -> str:
    """(pixel − mean) / std, in grey values, as ``Preprocessing.normalise`` has it."""
    shape = (1, scaling.channels, 1, 1)
    mean, std = (torch.tensor(each).reshape(shape) * 255 for each in (scaling.mean, scaling.std))
    numbers = write.node("Cast", pixels, to=write.kind(torch.float32))
    return str(write.node("Div", write.node("Sub", numbers, mean), std))


def info(write: Writer, name: str, ref: Any, pixels: bool = False) -> Any:
    dtype = torch.uint8 if pixels else ref.dtype
    return write.onnx.helper.make_tensor_value_info(name, write.kind(dtype), [side(each) for each in ref.shape])


def side(size: int | Extent) -> int | str:
    if isinstance(size, int):
        return size
    parts = ((size.factor, "batch"), (size.steps, "length"))
    told = "+".join(name if times == 1 else f"{times}*{name}" for times, name in parts if times)
    return told + (f"{size.more:+d}" if size.more else "")


def needed(nodes: Sequence[Any], wanted: set[str]) -> list[Any]:
    """The nodes that an output depends on, in their order."""
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def as_model(onnx: Any, write: Writer, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """The ModelProto of what was written and its outputs need."""
    graph = onnx.helper.make_graph(needed(write.nodes, {each.name for each in outputs}), name, inputs, outputs)
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(array for name, array in write.constants.items() if name in used)
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=_IR, producer_name="convscope"
    )


def names_of(model: nn.Module) -> dict[int, str]:
    """The names of the model's own parameters and buffers, by where they lie."""
    return {each.data_ptr(): name for name, each in [*model.named_buffers(), *model.named_parameters()] if each.numel()}
