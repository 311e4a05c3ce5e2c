"""The learning rate over time: pure functions of the step, so that a resumed run needs no state to go on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from convscope.errors import ArgumentError, UnknownNameError
from convscope.registry import Registry


@dataclasses.dataclass(frozen=True)
class Clock:
    """Where a run stands: ``step`` descent steps done of ``steps``, ``steps_per_epoch`` of them an epoch."""

    step: int
    steps: int
    steps_per_epoch: int

    @property
    def epochs(self) -> float:
        return self.step / self.steps_per_epoch

    @property
    def progress(self) -> float:
        """0 at the first step, 1 after the last."""
        return self.step / self.steps if self.steps else 0.0


@dataclasses.dataclass(frozen=True)
class Schedule:
    """``factor(clock, **options)`` multiplies the learning rate; ``defaults`` are its options' usual values."""

    factor: Callable[..., float]
    defaults: dict[str, float]
    summary: str


SCHEDULES: Registry[Schedule] = Registry("schedule")


def _schedule(name: str, **defaults: float) -> Callable[[Callable[..., float]], Callable[..., float]]:
    def enrol(factor: Callable[..., float]) -> Callable[..., float]:
        SCHEDULES.add(name, Schedule(factor, defaults, (factor.__doc__ or "").split("\n")[0]))
        return factor

    return enrol


@_schedule("constant")
def constant(clock: Clock) -> float:
    """The same rate throughout."""
    return 1.0


@_schedule("step", epochs=10, factor=0.1)
def step(clock: Clock, epochs: float, factor: float) -> float:
    """Times ``factor`` after every ``epochs`` epochs."""
    return float(factor ** math.floor(clock.epochs / epochs))


@_schedule("exponential", factor=0.95)
def exponential(clock: Clock, factor: float) -> float:
    """Times ``factor`` an epoch, falling a little with every step."""
    return float(factor**clock.epochs)


@_schedule("decaying", factor=0.993, least=0.03)
def decaying(clock: Clock, factor: float, least: float) -> float:
    """Times ``factor`` after every whole epoch, never below ``least`` of the first rate.

    The way of MCDNN (Cireşan et al. 2012): from 0.001, times 0.993 an epoch, down to 0.00003.
    """
    return max(float(factor ** math.floor(clock.epochs)), least)


@_schedule("cosine", least=0.0)
def cosine(clock: Clock, least: float) -> float:
    """Half a cosine wave from 1 down to ``least``, flat at both ends (Loshchilov and Hutter 2017)."""
    return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * min(clock.progress, 1.0)))


@_schedule("one_cycle", start=0.04, rise=0.3, least=1e-4)
def one_cycle(clock: Clock, start: float, rise: float, least: float) -> float:
    """From ``start`` up to 1 in the share ``rise`` of the run, then down to ``least``, in cosines (Smith 2018)."""
    progress = min(clock.progress, 1.0)
    if progress < rise:
        return 1 + (start - 1) * 0.5 * (1 + math.cos(math.pi * progress / rise))
    return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * (progress - rise) / max(1 - rise, 1e-12)))


@_schedule("inverse_square_root", steps=400)
def inverse_square_root(clock: Clock, steps: float) -> float:
    """Up in a straight line over the first ``steps`` steps, then down as 1/√step (Vaswani et al. 2017, eq. 3)."""
    done = clock.step + 1
    return min(done / steps, math.sqrt(steps / done))


def rate_at(
    clock: Clock, learning_rate: float, schedule: str, options: dict[str, float] | None = None, warmup: float = 0.0
) -> float:
    """The learning rate of the step that ``clock`` shows.

    ``warmup`` epochs long it rises in a straight line, reaching the schedule's own value at their end. Raises
    UnknownNameError for an unknown schedule or option.
    """
    entry = SCHEDULES[schedule]
    factor = entry.factor(clock, **check_options(schedule, options or {}))
    if clock.epochs < warmup:
        factor *= (clock.step + 1) / (warmup * clock.steps_per_epoch + 1)
    return learning_rate * factor


def check_options(schedule: str, options: dict[str, float]) -> dict[str, float]:
    """The schedule's options with its defaults filled in; UnknownNameError or ArgumentError for what cannot work."""
    entry = SCHEDULES[schedule]
    for name, value in options.items():
        if name not in entry.defaults:
            raise UnknownNameError(f"option of schedule {schedule!r}", name, entry.defaults)
        if name in ("epochs", "steps") and value <= 0:
            raise ArgumentError(f"schedule_options[{name!r}]", value, "a number > 0")
        if name in ("rise", "least", "start") and value > 1:
            raise ArgumentError(f"schedule_options[{name!r}]", value, "a share between 0 and 1")
    return {**entry.defaults, **options}
