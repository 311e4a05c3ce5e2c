"""Evaluation of pictures by the native engine, by torch as people use it, and by ONNX Runtime where it is installed.

Every contestant answers float32 pictures (n, c, h, w) with the model's logits; its answer is compared with torch's in
float64 before anything is timed. All take turns in one process.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope.errors import ConvscopeError, UnknownNameError
from convscope.native.accelerated import accelerate

TOLERANCE = 1e-4  # of the largest logit
TURN = 0.06  # seconds that one contestant computes before the next has its turn
UNDISTURBED = 0.25  # processors that other programs may take in a turn; the system counts in hundredths of a second

Answer = Callable[[torch.Tensor], torch.Tensor]


class WrongAnswerError(ConvscopeError):
    """The native answer is wrong, so its speed means nothing."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Of one contestant: the median of a call over all turns, its quartiles and the quickest call, in milliseconds.

    ``difference`` is that of its answer from torch's in float64, in parts of the largest logit; ``others`` the
    processors that other programs took meanwhile (nan where the system does not tell); ``failure`` says why there are
    no figures (they are nan then).
    """

    model: str
    pictures: int
    threads: int
    contestant: str
    milliseconds: float = math.nan
    low: float = math.nan
    high: float = math.nan
    best: float = math.nan
    difference: float = math.nan
    others: float = math.nan
    failure: str | None = None

    @property
    def spread(self) -> float:
        """The distance of the quartiles over the median."""
        return (self.high - self.low) / self.milliseconds


def native(model: nn.Module, x: torch.Tensor) -> Answer:
    fast = accelerate(model)
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


def onnx_runtime(model: nn.Module, x: torch.Tensor) -> Answer:
    """Raises ImportError where ``onnxruntime`` or ``onnx`` is not installed."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's remarks on its successor, which wants one more package
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, (x,), path, dynamo=False, input_names=["x"])
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda pictures: torch.from_numpy(session.run(None, {"x": pictures.numpy()})[0])


#: By name, in the order of the tables.
CONTESTANTS: dict[str, Callable[[nn.Module, torch.Tensor], Answer]] = {
    "native": native,
    "eager": eager,
    "channels_last": channels_last,
    "compile": compiled,
    "onnxruntime": onnx_runtime,
}


def race(
    name: str,
    model: nn.Module,
    input_shape: Sequence[int],
    pictures: int,
    contestants: Sequence[str] = tuple(CONTESTANTS),
    *,
    threads: int | None = None,
    rounds: int = 9,
    rest: float = 0.0,
) -> list[Timing]:
    """Time one call of every contestant on ``pictures`` random pictures of ``input_shape`` (channels, height, width).

    ``model`` is put in evaluation mode; ``threads`` as torch is set. ``rest``: seconds that everybody sleeps before a
    turn, so that other libraries' threads no longer spin; a user's calls have no such rest. Raises WrongAnswerError
    where the native answer is wrong and UnknownNameError for a contestant that is none; another contestant's failure is
    told by its row.
    """
    for each in contestants:
        if each not in CONTESTANTS:
            raise UnknownNameError("contestant", each, CONTESTANTS)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        x = torch.randn(pictures, *input_shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return _raced(name, model.eval(), x, contestants, rounds, rest)
    finally:
        torch.set_num_threads(before)


def _raced(
    name: str, model: nn.Module, x: torch.Tensor, contestants: Sequence[str], rounds: int, rest: float
) -> list[Timing]:
    exact = copy.deepcopy(model).double()(x.double())
    running: dict[str, Answer] = {}
    rows = {each: Timing(name, len(x), torch.get_num_threads(), each) for each in contestants}
    for each in contestants:
        try:
            answer = CONTESTANTS[each](copy.deepcopy(model), x)
            difference = float((answer(x).double() - exact).abs().max() / exact.abs().max())
        except Exception as problem:
            if each == "native":
                raise
            told = str(problem).strip().split("\n")[0] or type(problem).__name__
            rows[each] = dataclasses.replace(rows[each], failure=told)
            continue
        wrong = not difference <= TOLERANCE
        if wrong and each == "native":
            raise WrongAnswerError(f"{name}, {len(x)} pictures: the logits differ by {difference:.2e}")
        failure = f"its logits differ by {difference:.2e}" if wrong else None
        rows[each] = dataclasses.replace(rows[each], difference=difference, failure=failure)
        if not wrong:
            running[each] = answer
    for each, turns in _turns(running, x, rounds, rest).items():
        kept = _undisturbed(turns)
        seconds = [value for turn in kept for value in turn.seconds]
        low, median, high = (1e3 * value for value in statistics.quantiles(seconds, n=4))
        others, best = statistics.mean(turn.others for turn in kept), 1e3 * min(seconds)
        rows[each] = dataclasses.replace(rows[each], milliseconds=median, low=low, high=high, best=best, others=others)
    return list(rows.values())


@dataclasses.dataclass(frozen=True)
class _Turn:
    seconds: list[float]  # of each call
    others: float


def _turns(running: dict[str, Answer], x: torch.Tensor, rounds: int, rest: float) -> dict[str, list[_Turn]]:
    """Who begins changes from round to round; a turn's first call, with a cold cache, is not counted."""
    turns: dict[str, list[_Turn]] = {name: [] for name in running}
    names = list(running)
    for number in range(rounds):
        first = number % max(len(names), 1)
        for name in (*names[first:], *names[:first]):
            answer, seconds = running[name], list[float]()
            time.sleep(rest)
            answer(x)
            busy, own = _busy_seconds(), time.process_time()
            begun = last = time.perf_counter()
            while last - begun < TURN or len(seconds) < 2:
                answer(x)
                now = time.perf_counter()
                seconds.append(now - last)
                last = now
            others = (_busy_seconds() - busy - (time.process_time() - own)) / (last - begun)
            turns[name].append(_Turn(seconds, others))
    return turns


def _undisturbed(turns: list[_Turn]) -> list[_Turn]:
    """The turns in which other programs took next to nothing; where these are fewer than a third, the third in which
    they took least."""
    least = sorted(turns, key=lambda turn: turn.others)
    kept = sum(turn.others <= UNDISTURBED for turn in turns)
    return least[: max(kept, (len(turns) + 2) // 3)]


def _busy_seconds() -> float:
    """What all programs have had of all processors since the start; nan where the system does not tell."""
    try:
        user, nice, system, _, _, interrupts, soft, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    except (OSError, ValueError):
        return math.nan
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


def ratio(rows: Sequence[Timing], rivals: Sequence[str]) -> float:
    """How many times the native engine is as fast as the fastest of the rivals, by the medians; nan where one side is
    missing."""
    found = {row.contestant: row.milliseconds for row in rows if row.failure is None}
    times = [found[rival] for rival in rivals if rival in found]
    return min(times) / found["native"] if times and "native" in found else math.nan
