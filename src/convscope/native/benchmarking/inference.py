"""Evaluation of pictures by the native engine, by torch as people use it, and by ONNX Runtime and OpenVINO where they
are installed (``answering`` has them).

Every contestant answers float32 pictures (n, c, h, w) with the model's logits; its answer is compared with torch's in
float64 before anything is timed. All take turns in one process.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope.errors import ConvscopeError, LoweringError, UnknownNameError
from convscope.lowering.lower import lower
from convscope.native.accelerated import accelerate
from convscope.native.benchmarking.answering import CONTESTANTS, Answer
from convscope.native.network import NativeNetwork

TURN = 0.06  # seconds that one contestant computes before the next has its turn
UNDISTURBED = 0.25  # processors that other programs may take in a turn; the system counts in hundredths of a second


class WrongAnswerError(ConvscopeError):
    """The native answer is wrong, so its speed means nothing."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Of one contestant: the median of a call over all turns, its quartiles and the quickest call, in milliseconds.

    ``start``: seconds from the model to its first answer, with whatever the contestant converts, compiles, compares and
    measures first. ``difference`` is that of its answer from torch's in float64, in parts of the largest logit;
    ``others`` the processors that other programs took meanwhile (nan where the system does not tell); ``failure`` says
    why there are no figures (they are nan then).
    """

    model: str
    pictures: int
    threads: int
    contestant: str
    milliseconds: float = math.nan
    low: float = math.nan
    high: float = math.nan
    best: float = math.nan
    start: float = math.nan
    difference: float = math.nan
    others: float = math.nan
    failure: str | None = None

    @property
    def spread(self) -> float:
        """The distance of the quartiles over the median."""
        return (self.high - self.low) / self.milliseconds

    def to_json(self) -> dict[str, Any]:
        """Numbers that JSON can hold."""
        told = dataclasses.asdict(self)
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in told.items()}


@dataclasses.dataclass(frozen=True)
class Startup:
    """What the native engine does before it answers at full speed, in seconds: reading the model (``lowering``), making
    the network (``building``), its first answer (``first``: memory is touched, layouts are timed where the model of
    cycles is not sure), and, in ``accelerate`` alone, the comparison with torch (``comparing``). Weights are turned
    into panels at every call, so that this is part of every answer and of none of these."""

    lowering: float
    building: float
    first: float
    comparing: float


def startup(model: nn.Module, input_shape: Sequence[int], pictures: int, *, threads: int | None = None) -> Startup:
    """Of ``model`` in evaluation mode on so many pictures. Raises LoweringError where the engine lacks a layer."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        x = torch.randn(pictures, *input_shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            copied = copy.deepcopy(model).eval()
            times = [time.perf_counter()]
            lower(copied, input_shape)
            times.append(time.perf_counter())
            network = NativeNetwork(copied, input_shape)
            times.append(time.perf_counter())
            network.forward(x)
            times.append(time.perf_counter())
            fast = accelerate(copied, check=True)
            fast(x)
            compared = sum(verdict.seconds for verdict in fast.verdicts())
    finally:
        torch.set_num_threads(before)
    lowering, built, first = (times[i + 1] - times[i] for i in range(3))
    return Startup(lowering, max(built - lowering, 0.0), first, compared)


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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch.compile's and exporters' remarks
                copied = copy.deepcopy(model)
                begun = time.perf_counter()
                answer = CONTESTANTS[each].prepare(copied, x)
                first = answer(x)
                start = time.perf_counter() - begun
            difference = float((first.double() - exact).abs().max() / exact.abs().max())
        except Exception as problem:
            if CONTESTANTS[each].own and not isinstance(problem, LoweringError | MemoryError):
                raise
            told = str(problem).strip().split("\n")[0] or type(problem).__name__
            rows[each] = dataclasses.replace(rows[each], failure=told)
            continue
        wrong = not difference <= CONTESTANTS[each].tolerance
        if wrong and CONTESTANTS[each].own:
            raise WrongAnswerError(f"{name}, {len(x)} pictures: the logits differ by {difference:.2e}")
        failure = f"its logits differ by {difference:.2e}" if wrong else None
        rows[each] = dataclasses.replace(rows[each], start=start, difference=difference, failure=failure)
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
