"""Schedules against hand-worked values, and their general properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convscope.errors import ArgumentError, UnknownNameError
from convscope.training.schedules import SCHEDULES, Clock, check_options, rate_at


def at(step: int, schedule: str, **options: float) -> float:
    """The rate at ``step`` of 100, ten steps an epoch, base rate 2."""
    return rate_at(Clock(step, 100, 10), 2.0, schedule, options)


@pytest.mark.parametrize(
    ("step", "schedule", "options", "expected"),
    [
        (73, "constant", {}, 2.0),
        (29, "step", {"epochs": 3, "factor": 0.5}, 2.0),
        (30, "step", {"epochs": 3, "factor": 0.5}, 1.0),
        (99, "step", {"epochs": 3, "factor": 0.5}, 0.25),
        (0, "exponential", {"factor": 0.9}, 2.0),
        (20, "exponential", {"factor": 0.9}, 2 * 0.81),
        (5, "exponential", {"factor": 0.81}, 2 * 0.9),
        (19, "decaying", {"factor": 0.9, "least": 0.5}, 1.8),
        (90, "decaying", {"factor": 0.9, "least": 0.5}, 1.0),
        (0, "cosine", {}, 2.0),
        (50, "cosine", {}, 1.0),
        (100, "cosine", {}, 0.0),
        (25, "cosine", {"least": 0.5}, 1 + 0.5 * (1 + math.sqrt(0.5))),
        (0, "one_cycle", {"start": 0.1}, 0.2),
        (30, "one_cycle", {"rise": 0.3}, 2.0),
        (15, "one_cycle", {"rise": 0.3, "start": 0.5}, 1.5),
        (65, "one_cycle", {"rise": 0.3, "least": 0.0}, 1.0),
        (100, "one_cycle", {"least": 0.25}, 0.5),
        (0, "inverse_square_root", {"steps": 10}, 0.2),
        (9, "inverse_square_root", {"steps": 10}, 2.0),
        (39, "inverse_square_root", {"steps": 10}, 1.0),
    ],
)
def test_hand_worked_values(step: int, schedule: str, options: dict[str, float], expected: float) -> None:
    assert at(step, schedule, **options) == pytest.approx(expected, rel=1e-12)


def test_mcdnn_decays_from_a_thousandth_to_three_hundred_thousandths() -> None:
    rates = [rate_at(Clock(epoch, 800, 1), 0.001, "decaying") for epoch in range(800)]
    assert rates[1] == pytest.approx(0.000993)
    assert rates[-1] == pytest.approx(0.00003)


def test_warm_up_rises_in_a_straight_line_and_joins_the_schedule() -> None:
    rates = [rate_at(Clock(step, 100, 10), 1.0, "constant", {}, warmup=1.0) for step in range(15)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10:] == [1.0] * 5


@given(st.sampled_from(SCHEDULES.names()), st.integers(0, 999), st.floats(0, 5))
def test_every_schedule_stays_between_nothing_and_the_rate(name: str, step: int, warmup: float) -> None:
    rate = rate_at(Clock(step, 1000, 50), 0.3, name, {}, warmup)
    assert 0 <= rate <= 0.3 * (1 + 1e-12)


def test_bad_names_and_options_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="schedule: got 'cosin'.*Did you mean 'cosine'"):
        at(0, "cosin")
    with pytest.raises(UnknownNameError, match="option of schedule 'step': got 'epoch'.*Did you mean 'epochs'"):
        at(0, "step", epoch=3)
    with pytest.raises(ArgumentError, match=r"schedule_options\['epochs'\]: got 0, wanted a number > 0"):
        check_options("step", {"epochs": 0})
    with pytest.raises(ArgumentError, match=r"schedule_options\['steps'\]: got 0, wanted a number > 0"):
        check_options("inverse_square_root", {"steps": 0})
    with pytest.raises(ArgumentError, match=r"schedule_options\['rise'\]: got 2, wanted a share"):
        check_options("one_cycle", {"rise": 2})
