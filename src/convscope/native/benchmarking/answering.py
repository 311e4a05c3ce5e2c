"""Who answers pictures in a race: the native engine, torch as people use it, and other programs where installed."""

from __future__ import annotations

import dataclasses
import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope.errors import ConvscopeError
from convscope.native.accelerated import accelerate

TOLERANCE = 1e-4  # of the largest logit, in float32
# A number keeps 8 bits in bfloat16, so that each is off by up to 0.4 %, and deep networks add that up.
_TOLERANCE_BFLOAT16 = 0.1
_TOLERANCE_INT8 = 0.3  # steps of 1/255 of a layer's range

Answer = Callable[[torch.Tensor], torch.Tensor]


class NotInstalledError(ConvscopeError):
    """A contestant's package is not here."""


@dataclasses.dataclass(frozen=True)
class Answering:
    """``prepare(model, x)`` makes of a model in evaluation mode what answers float32 pictures like ``x``.

    ``tolerance``: parts of the largest logit by which its answer may differ from torch's in float64. ``own``: this
    engine, so that a wrong answer is an error and no mere remark.
    """

    prepare: Callable[[nn.Module, torch.Tensor], Answer]
    description: str
    tolerance: float = TOLERANCE
    own: bool = False


def native(model: nn.Module, x: torch.Tensor) -> Answer:
    fast = accelerate(model)
    return lambda pictures: fast(pictures)


def native_bfloat16(model: nn.Module, x: torch.Tensor) -> Answer:
    fast = accelerate(model, precision="bf16")
    return lambda pictures: fast(pictures)


def native_int8(model: nn.Module, x: torch.Tensor) -> Answer:
    """Calibrated on the pictures themselves."""
    fast = accelerate(model, precision="int8", calibration=x)
    return lambda pictures: fast(pictures)


def eager(model: nn.Module, x: torch.Tensor) -> Answer:
    return lambda pictures: model(pictures)


def channels_last(model: nn.Module, x: torch.Tensor) -> Answer:
    moved: Any = model
    moved.to(memory_format=torch.channels_last)
    return lambda pictures: model(pictures.contiguous(memory_format=torch.channels_last))


def compiled(model: nn.Module, x: torch.Tensor) -> Answer:
    """For pictures of this number and shape only, as quick as ``torch.compile`` makes it without other options."""
    torch.compiler.reset()
    model.compile(dynamic=False)
    return lambda pictures: model(pictures)


def bfloat16(model: nn.Module, x: torch.Tensor) -> Answer:
    """Channels-last under autocast."""
    answer = channels_last(model, x)

    def answered(pictures: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return answer(pictures).float()

    return answered


def onnx_runtime(model: nn.Module, x: torch.Tensor) -> Answer:
    """Raises NotInstalledError where ``onnxruntime`` or ``onnx`` is not installed."""
    runtime = _package("onnxruntime")
    _package("onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, (x,), path, dynamo=False, input_names=["x"])
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda pictures: torch.from_numpy(session.run(None, {"x": pictures.numpy()})[0])


def openvino(model: nn.Module, x: torch.Tensor) -> Answer:
    """In float32, which it does not keep to by itself on processors that multiply bfloat16. Raises NotInstalledError
    where ``openvino`` is not installed."""
    runtime = _package("openvino")
    converted = runtime.convert_model(model, example_input=x, input=[tuple(x.shape)])
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = runtime.Core().compile_model(converted, "CPU", settings).create_infer_request()
    return lambda pictures: torch.from_numpy(request.infer(pictures.numpy())[0].copy())


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name != name:
            raise
        raise NotInstalledError(f"{name} is not installed") from None


#: By name, in the order of the tables. All compute in float32 but those whose names say otherwise.
CONTESTANTS: dict[str, Answering] = {
    "native": Answering(native, "convscope.accelerate", own=True),
    "native_bf16": Answering(native_bfloat16, "convscope.accelerate in bf16", _TOLERANCE_BFLOAT16),
    "native_int8": Answering(native_int8, "convscope.accelerate in int8", _TOLERANCE_INT8),
    "eager": Answering(eager, "torch eager, as people use it"),
    "channels_last": Answering(channels_last, "torch eager, channels-last"),
    "compile": Answering(compiled, "torch.compile"),
    "bfloat16": Answering(bfloat16, "torch eager, bf16 autocast, channels-last", _TOLERANCE_BFLOAT16),
    "onnxruntime": Answering(onnx_runtime, "ONNX Runtime"),
    "openvino": Answering(openvino, "OpenVINO"),
}
