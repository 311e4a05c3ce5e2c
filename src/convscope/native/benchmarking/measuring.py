"""Verify first, then time: contestants take turns in one run, so that what else the machine does falls on all."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence

import torch

from convscope.errors import ConvscopeError, LoweringError, UnknownNameError
from convscope.layers import AuxiliaryOutputs, loss_for
from convscope.lowering.lower import lower
from convscope.native.benchmarking import memory
from convscope.native.benchmarking.contestants import CONTESTANTS, Contestant, Subject
from convscope.native.benchmarking.report import Report, Row, machine
from convscope.native.cost import training_operations
from convscope.native.network import NativeNetwork

TOLERANCE = 1e-4  # of the largest number in each gradient
# A whole network rounds some times as much as one rounding of every parameter moves it: torch's own float32 gradients
# are up to 3 times as far off, the engine's up to 7 times (Inception-v4, 5 images).
_ROUNDINGS = 16
_BATCHES = 8  # a quarter of those of slides_stl10 jump somewhere
_TURN = 0.06  # seconds that one contestant computes before the next has its turn

Progress = Callable[[str], None]


class WrongGradientsError(ConvscopeError):
    """The native gradients are wrong, so their speed means nothing."""


def verify(subject: Subject, batch_sizes: Sequence[int] = (17,)) -> float:
    """Compare loss, outputs and gradients with torch's in float64; the largest relative difference.

    Dropout is off, since its random numbers differ. Allowed is ``TOLERANCE`` or, for networks that make more of
    rounding, ``_ROUNDINGS`` times what they make of one rounding of every parameter. Where a ReLU's input or the
    difference of two candidates of a maximum is within rounding of 0, either side is right, but the gradients jump: so
    of ``_BATCHES`` batches one has to agree. A wrong kernel is wrong on all of them.
    Raises WrongGradientsError where none agrees.
    """
    largest = 0.0
    for count in batch_sizes:
        for seed in range(_BATCHES):
            what, value, agrees = _compared(subject, count, seed)
            if agrees:
                break
        else:
            raise WrongGradientsError(
                f"{subject.name}, {count} images: {what} differs by {value:.2e}, so nothing is timed"
            )
        largest = max(largest, value)
    return largest


def _images_verified(subject: Subject) -> int:
    """A whole block and one more; of large networks fewer, since of their many values some are always nearly 0."""
    plan = lower(subject.model.train(), subject.input_shape, subject.loss)
    return 17 if training_operations(plan) < 2e8 else 2


def _compared(subject: Subject, count: int, seed: int) -> tuple[str, float, bool]:
    """What differs most from torch's float64, by how much, and whether rounding alone may have done it."""
    images, targets = subject.batch(count, seed)
    model = _without_dropout(copy.deepcopy(subject.model).train())
    double = copy.deepcopy(model).double()
    exact = _by_torch(copy.deepcopy(double), subject, images, targets)
    network = NativeNetwork(model, subject.input_shape, subject.loss, preprocessing=subject.preprocessing)
    loss, outputs = network.loss_and_grad(images, targets)
    got = {"the loss": torch.tensor(loss), "the outputs": outputs[0]}
    got |= {f"the gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    what, value = _furthest(got, exact)
    if value <= TOLERANCE or not math.isfinite(value):
        return what, value, value <= TOLERANCE
    moved = []
    for draw in range(2):  # the smaller of two, since a jump at a kink is not to be allowed for
        other = copy.deepcopy(double)
        _round_anew(other, draw)
        moved.append(_furthest(_by_torch(other, subject, images, targets), exact)[1])
    return what, value, value <= _ROUNDINGS * min(moved)


def _furthest(got: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> tuple[str, float]:
    """What differs most, in parts of its largest number (not a number counts as most)."""
    # A gradient that cancels out to 0, as a bias's before batch normalisation, is compared with the other ones.
    least = 0.02 * max((float(g.abs().max()) for name, g in exact.items() if "gradient" in name), default=0.0)
    found = {}
    for what, right in exact.items():
        scale = max(float(right.abs().max()), least if "gradient" in what else 0.0, 1e-12)
        found[what] = float((got[what].double() - right).abs().max()) / scale
    return max(found.items(), key=lambda each: each[1] if each[1] == each[1] else math.inf)


def _round_anew(model: torch.nn.Module, seed: int) -> None:
    """Move every parameter by as much as one rounding in float32 does, at random."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in model.parameters():
            each.mul_(1 + torch.finfo(torch.float32).eps * torch.randn(each.shape, generator=stream).to(each))


def _by_torch(
    model: torch.nn.Module, subject: Subject, images: torch.Tensor, targets: torch.Tensor
) -> dict[str, torch.Tensor]:
    """By torch's autograd in float64, as ``model`` is."""
    outputs = model(subject.preprocessing.normalise(images).double())
    value = loss_for(subject.loss, subject.model).value(outputs, targets)
    value.backward()  # type: ignore[no-untyped-call]
    main = outputs.logits if isinstance(outputs, AuxiliaryOutputs) else outputs
    found = {"the loss": value.detach().double(), "the outputs": main.detach().double()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[f"the gradient of {name}"] = parameter.grad.double()
    return found


def benchmark(
    subjects: Sequence[Subject],
    batch_sizes: Sequence[int],
    contestants: Sequence[str] = tuple(CONTESTANTS),
    *,
    rounds: int = 15,
    threads: int | None = None,
    rest: float = 0.0,
    measure_memory: bool = False,
    progress: Progress = lambda text: None,
) -> Report:
    """Time a training step of every contestant on every subject and batch size.

    ``rest``: seconds that everybody sleeps before a turn. Threads of OpenMP spin for some milliseconds after their last
    work, on the processors that the next contestant needs; a user's steps have no such rest, so none is given unless
    that effect is to be left out. A turn's first step, with a cold cache, is not counted either way.
    A contestant that cannot run, as the native engine where it lacks a layer, has its reason in its row. Raises
    WrongGradientsError where the native gradients are wrong and UnknownNameError for a contestant that is none.
    """
    for name in contestants:
        if name not in CONTESTANTS:
            raise UnknownNameError("contestant", name, CONTESTANTS)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        report = Report(machine(torch.get_num_threads(), matrix_rate()), [], {})
        for subject in subjects:
            if {"native", "accelerated"} & set(contestants):
                progress(f"{subject.name}: comparing gradients")
                with contextlib.suppress(LoweringError):  # which its row will tell
                    report.differences[subject.name] = verify(subject, (_images_verified(subject),))
            for batch_size in batch_sizes:
                progress(f"{subject.name}, batch {batch_size}")
                report.rows += _race(
                    subject, batch_size, contestants, report, progress, _Turns(rounds, rest), measure_memory
                )
        return report
    finally:
        torch.set_num_threads(before)


def matrix_rate(size: int = 2048) -> float:
    """GFLOP/s of torch's float32 matrix product, the best of some: what the machine can do at most."""
    a, b, c = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
    times = []
    for _ in range(8):
        begun = time.perf_counter()
        torch.mm(a, b, out=c)
        times.append(time.perf_counter() - begun)
    return 2 * size**3 / min(times) / 1e9


@dataclasses.dataclass(frozen=True)
class _Turns:
    rounds: int
    rest: float  # seconds before each


def _race(
    subject: Subject,
    batch_size: int,
    contestants: Sequence[str],
    report: Report,
    progress: Progress,
    plan: _Turns,
    measure_memory: bool,
) -> list[Row]:
    images, targets = subject.batch(batch_size)
    running, failures = _started(subject, contestants, images, targets)
    times, best = _turns(running, plan, report.machine.threads, images, targets)
    operations = _operations(subject)
    rows = []
    for name in contestants:
        if name in failures:
            nan = math.nan
            rows.append(Row(subject.name, batch_size, name, nan, nan, nan, nan, nan, nan, nan, failure=failures[name]))
            continue
        low, median, high = statistics.quantiles(times[name], n=4)
        gflops = operations * batch_size / median / 1e9
        grown = None
        if measure_memory:
            progress(f"{subject.name}, batch {batch_size}: memory of {name}")
            grown = memory.growth(subject, name, batch_size, report.machine.threads)
        rows.append(
            Row(
                model=subject.name,
                batch_size=batch_size,
                contestant=name,
                milliseconds=median * 1e3,
                low=low * 1e3,
                high=high * 1e3,
                best=best[name] * 1e3,
                images_per_second=batch_size / median,
                gflops=gflops,
                share=gflops / report.machine.matrix_gflops,
                memory=grown,
            )
        )
    return rows


def _started(
    subject: Subject, contestants: Sequence[str], images: torch.Tensor, targets: torch.Tensor
) -> tuple[dict[str, tuple[Contestant, int]], dict[str, str]]:
    """The contestants that can take part, with their steps a turn, and why the others cannot."""
    running: dict[str, tuple[Contestant, int]] = {}
    failures: dict[str, str] = {}
    for name in contestants:
        try:
            contestant = CONTESTANTS[name](subject)
            running[name] = (contestant, _steps_a_turn(contestant, images, targets))
        except Exception as problem:
            if name == "native" and not isinstance(problem, LoweringError | MemoryError):
                raise
            failures[name] = str(problem).strip().split("\n")[0] or type(problem).__name__
    return running, failures


def _turns(
    running: dict[str, tuple[Contestant, int]], plan: _Turns, threads: int, images: torch.Tensor, targets: torch.Tensor
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds a step: the mean of every turn, and the best step of all."""
    times: dict[str, list[float]] = {name: [] for name in running}
    best = dict.fromkeys(running, math.inf)
    for turn in range(plan.rounds):
        first = turn % max(len(running), 1)
        for name in (*list(running)[first:], *list(running)[:first]):  # nobody is always the first
            contestant, steps = running[name]
            torch.set_num_threads(contestant.torch_threads or threads)
            time.sleep(plan.rest)
            contestant.step(images, targets)
            begun = time.perf_counter()
            last = begun
            for _ in range(steps):
                contestant.step(images, targets)
                now = time.perf_counter()
                best[name] = min(best[name], now - last)
                last = now
            times[name].append((last - begun) / steps)
            torch.set_num_threads(threads)
    return times, best


def _operations(subject: Subject) -> float:
    """Arithmetic of a training step per picture; nan for a model that cannot be counted since it cannot be lowered."""
    try:
        return training_operations(lower(subject.model.train(), subject.input_shape, subject.loss))
    except LoweringError:
        return math.nan


def _steps_a_turn(contestant: Contestant, images: torch.Tensor, targets: torch.Tensor) -> int:
    """Warm the contestant up; how many of its steps fill a turn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.compile's remarks on the processor
        contestant.step(images, targets)
    fastest = math.inf
    for _ in range(3):
        begun = time.perf_counter()
        contestant.step(images, targets)
        fastest = min(fastest, time.perf_counter() - begun)
    return max(1, math.ceil(_TURN / fastest))


def _without_dropout(model: torch.nn.Module) -> torch.nn.Module:
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return model
