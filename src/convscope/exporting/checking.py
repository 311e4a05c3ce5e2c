"""What was written, run by ONNX Runtime and compared with the model itself."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from convscope.errors import ExportError
from convscope.spec import Preprocessing

TOLERANCE = 1e-4


class Session:
    """An ONNX file, opened by ONNX Runtime. Raises ExportError where the runtime fails."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened
        self.names = [each.name for each in opened.get_outputs()]

    @classmethod
    def of(cls, content: bytes) -> Session | str:
        """That of the file's ``content``; in words why there is none, where ONNX Runtime is not installed."""
        try:
            runtime: Any = importlib.import_module("onnxruntime")
        except ImportError:
            return "onnxruntime is not installed (pip install 'convscope[onnx]')"
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = max(1, torch.get_num_threads())
        try:
            return cls(runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"]))
        except Exception as problem:  # the runtime's own kinds, without a common base of their own
            raise ExportError("", f"ONNX Runtime does not take what was written: {_first(problem)}") from problem

    def run(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """The outputs by their names."""
        given = zip(self._opened.get_inputs(), inputs, strict=True)
        feeds = {each.name: x.detach().cpu().numpy() for each, x in given}
        try:
            found = self._opened.run(None, feeds)
        except Exception as problem:
            raise ExportError("", f"ONNX Runtime fails on {len(inputs[0])} examples: {_first(problem)}") from problem
        return {name: torch.from_numpy(each) for name, each in zip(self.names, found, strict=True)}


def compare(
    model: nn.Module, content: bytes, examples: Sequence[tuple[Tensor, ...]], scaling: Preprocessing | None
) -> tuple[float | None, str]:
    """The largest difference over the batches of ``examples``, relative to the largest answer; or None and why nothing
    was compared. Raises ExportError above ``TOLERANCE`` and where the runtime fails."""
    session = Session.of(content)
    if isinstance(session, str):
        return None, session
    worst = 0.0
    for example in examples:
        given = fed = example
        if scaling is not None:
            generator = torch.Generator().manual_seed(len(given[0]))
            pixels = torch.randint(0, 256, given[0].shape, generator=generator, dtype=torch.uint8)
            given, fed = (scaling.normalise(pixels).to(given[0]),), (pixels,)
        worst = max(worst, _difference(model, session, given, fed))
    if not worst <= TOLERANCE:
        raise ExportError("", f"ONNX Runtime's answers differ from the model's by {worst:.2g}, wanted ≤ {TOLERANCE:g}")
    return worst, ""


def _difference(model: nn.Module, session: Session, given: Sequence[Tensor], fed: Sequence[Tensor]) -> float:
    with torch.no_grad():
        answers = [each for each in tree_flatten(model(*given))[0] if isinstance(each, Tensor)]
    return max(relative(own, answer) for own, answer in zip(session.run(fed).values(), answers, strict=True))


def relative(own: Tensor, answer: Tensor) -> float:
    """The largest difference of ``own`` from ``answer``, by the largest answer; infinite where shapes differ."""
    own, answer = own.double(), answer.detach().cpu().double()
    if own.shape != answer.shape:
        return float("inf")
    if not answer.numel():
        return 0.0
    same = (own == answer) | (own.isnan() & answer.isnan())  # infinite ones, and numbers that are none
    apart = torch.where(same, 0.0, (own - answer).abs())
    finite = answer[answer.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0  # fresh networks answer with numbers as small as 1e-25
    return float(torch.nan_to_num(apart, nan=float("inf")).max()) / (scale or 1.0)


def _first(problem: Exception) -> str:
    return str(problem).strip().splitlines()[0][:300] if str(problem).strip() else type(problem).__name__
