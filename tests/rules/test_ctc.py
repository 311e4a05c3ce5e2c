"""Connectionist temporal classification."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from tests.oracles import check_model, slope, worst
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.rules.ctc import CTCLoss

LENGTHS = torch.tensor([9, 5, 9, 1, 7, 6])
TEXTS = [[1, 2, 2, 3], [1, 1, 1], [], [2], [3, 2, 1, 2, 3, 1, 2], [2, 2, 2]]
TEXT_LENGTHS = torch.tensor([len(text) for text in TEXTS])
PADDED = torch.tensor([text + [99] * (7 - len(text)) for text in TEXTS])


def logits(time: int = 9, count: int = 6, characters: int = 4) -> Tensor:
    torch.manual_seed(5)
    return torch.randn(time, count, characters, dtype=torch.float64) * 2


def collapsed(path: tuple[int, ...]) -> list[int]:
    """Repeats taken out, then blanks."""
    return [each for each, _ in itertools.groupby(path) if each != 0]


@pytest.mark.parametrize("text", [[], [1], [2, 1], [1, 1], [2, 2, 1], [1, 2, 1]])
@pytest.mark.parametrize("time", [1, 2, 5])
def test_its_probability_is_the_sum_over_all_paths(text: list[int], time: int) -> None:
    y = torch.log_softmax(logits(time, 1, 3)[:, 0], -1)
    total = 0.0
    reads = torch.zeros_like(y)
    for path in itertools.product(range(3), repeat=time):
        if collapsed(path) == text:
            chance = math.exp(sum(float(y[step, each]) for step, each in enumerate(path)))
            total += chance
            for step, each in enumerate(path):
                reads[step, each] += chance
    value, saved = CTCLoss(reduction="none").forward(
        y, torch.tensor(text, dtype=torch.int64), torch.tensor(time), torch.tensor(len(text))
    )
    assert math.exp(-float(value)) == pytest.approx(total, rel=1e-12, abs=1e-300)
    expected = reads / total if total else reads
    assert worst(saved["gamma"][:, 0], expected) < 1e-12


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("form", ["padded", "one after another"])
def test_as_torch_goes(reduction: str, form: str) -> None:
    """Of texts that fit into their lines; one is empty, one line has a single step."""
    fitting = torch.tensor([0, 2, 3, 4, 5])
    texts = (
        PADDED[fitting]
        if form == "padded"
        else torch.tensor([each for place in fitting.tolist() for each in TEXTS[place]])
    )
    lengths = (LENGTHS[fitting], TEXT_LENGTHS[fitting])

    known = texts.clamp(max=3)  # beforehand, or it would be a step of the model

    class Direct(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return F.ctc_loss(F.log_softmax(x, -1), known, *lengths, reduction=reduction)

    check_model(Direct(), logits()[:, fitting], expected_rules=2)
    y = torch.log_softmax(logits()[:, fitting], -1)
    leaf = y.clone().requires_grad_()
    expected = nn.CTCLoss(reduction=reduction)(leaf, known, *lengths)
    delta = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad(expected, leaf, delta)
    value, saved = CTCLoss(reduction=reduction).forward(y, texts, *lengths)
    assert set(saved) == set(CTCLoss.needs)
    (found, *_), _ = CTCLoss(reduction=reduction).backward(saved, delta)
    assert found is not None
    assert worst(value, expected.detach()) < 1e-12
    assert worst(found, wanted) < 1e-9


def test_against_finite_differences() -> None:
    u, direction = logits(), torch.randn(9, 6, 4, dtype=torch.float64)
    rule = CTCLoss(zero_infinity=True)
    y = torch.log_softmax(u, -1)
    value, saved = rule.forward(y, PADDED, LENGTHS, TEXT_LENGTHS)
    (found, *_), _ = rule.backward(saved, torch.ones_like(value))
    assert found is not None

    def loss(moved: Tensor) -> Tensor:
        return rule.forward(torch.log_softmax(moved, -1), PADDED, LENGTHS, TEXT_LENGTHS)[0]

    assert slope(loss, u, direction, 1e-4) == pytest.approx(float((found * direction).sum()), rel=1e-7)


def test_a_text_too_long_for_its_line() -> None:
    """ "111" needs five steps and has four; "2222" needs seven and has six."""
    y = torch.log_softmax(logits(), -1)
    lengths = torch.tensor([9, 4, 0, 0, 9, 6])
    texts = PADDED.clone()
    texts[5, :4] = 2
    text_lengths = torch.tensor([4, 3, 0, 1, 7, 4])
    value, saved = CTCLoss(reduction="none").forward(y, texts, lengths, text_lengths)
    assert torch.isinf(value).tolist() == [False, True, False, True, False, True]
    assert float(value[2]) == 0, "nothing in an empty line is certain"
    (found, *_), _ = CTCLoss(reduction="none").backward(saved, torch.ones_like(value))
    assert found is not None
    assert torch.isfinite(found).all()
    assert not found[:, [1, 2, 3, 5]].any()
    zeroed, _ = CTCLoss(reduction="sum", zero_infinity=True).forward(y, texts, lengths, text_lengths)
    assert float(zeroed) == pytest.approx(float(value[[0, 4]].sum()))


def test_it_does_not_depend_on_the_batch() -> None:
    y = torch.log_softmax(logits(), -1)
    whole, saved = CTCLoss(reduction="none").forward(y, PADDED, LENGTHS, TEXT_LENGTHS)
    for place, (length, text) in enumerate(zip(LENGTHS.tolist(), TEXTS, strict=True)):
        alone, own = CTCLoss(reduction="none").forward(
            y[:length, place], torch.tensor(text, dtype=torch.int64), torch.tensor(length), torch.tensor(len(text))
        )
        assert float(alone) == pytest.approx(float(whole[place]), rel=1e-12)
        assert worst(saved["gamma"][:length, place], own["gamma"][:, 0]) < 1e-12


def test_long_lines_do_not_underflow() -> None:
    y = torch.log_softmax(torch.zeros(2000, 1, 80, dtype=torch.float64), -1)
    value, saved = CTCLoss(reduction="sum").forward(
        y, torch.arange(1, 41)[None], torch.tensor([2000]), torch.tensor([40])
    )
    assert 8000 < float(value) < 9000
    assert torch.allclose(saved["gamma"].sum(2), torch.ones(2000, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"input_lengths": [10] + [1] * 5},
            r"input_lengths: got \[10, 1, 1, 1, 1, 1\], wanted numbers of steps from 0 to 9",
        ),
        ({"input_lengths": [1]}, "input_lengths: got 1, wanted one for each of the 6 lines"),
        ({"target_lengths": [8, 0, 0, 0, 0, 0]}, r"targets: got \(6, 7\), wanted texts as long as 8"),
        ({"targets": [1, 2]}, "targets: got 2, wanted 18 characters, the sum of target_lengths"),
        ({"targets": [4] * 18}, "targets: got 4, wanted characters 0 to 3 without the blank"),
        ({"targets": [0] * 18}, "targets: got 0, wanted characters 0 to 3 without the blank"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"targets": PADDED, "input_lengths": LENGTHS, "target_lengths": TEXT_LENGTHS}
    given |= {name: torch.tensor(value) for name, value in changes.items()}
    with pytest.raises(ArgumentError, match=said):
        CTCLoss().forward(logits(), **given)


def test_options_are_checked() -> None:
    with pytest.raises(ArgumentError, match='reduction: got .median., wanted one of "none", "mean", "sum"'):
        CTCLoss(reduction="median")
    with pytest.raises(ArgumentError, match="blank: got 4, wanted a character's number, 0 to 3"):
        CTCLoss(blank=4).forward(logits(), PADDED, LENGTHS, TEXT_LENGTHS)
