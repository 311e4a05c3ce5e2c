"""The protocol by hand and beside scikit-learn; joint Bayesian beside densities written out and a known truth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from tests.oracles import worst

from convscope.errors import ArgumentError
from convscope.rules.pair_loss import pair_loss
from convscope.tasks.verification.joint_bayesian import fit_joint_bayesian
from convscope.tasks.verification.protocol import best_threshold, roc_points, verify


def drawn(count: int = 200, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    same = torch.rand(count, generator=chance) < 0.5
    return torch.randn(count, generator=chance, dtype=torch.float64) + 1.2 * same, same


def test_by_hand() -> None:
    """Scores 4 3 2 1, the same: 4 and 2. Best at 3.5 or 1.5; of the two the upper one."""
    scores, same = torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([True, False, True, False])
    assert best_threshold(scores.double(), same) == 3.5
    assert roc_points(scores, same).tolist() == [[0, 0], [0, 0.5], [0.5, 0.5], [0.5, 1], [1, 1]]
    found = verify(scores, same)
    assert (found.accuracy, found.auc) == (0.5, 0.75)
    assert found.equal_error == 0.5
    folds = torch.tensor([0, 0, 1, 1])
    # fold 0 is decided at 1.5, chosen on fold 1: one wrong; fold 1 at 3.5: the same person at 2 is missed
    split = verify(scores, same, folds)
    assert split.folds == (0.5, 0.5)
    assert split.threshold == 2.5
    assert split.standard_error == 0
    spread = verify(torch.tensor([4.0, 3, 4, 1]), same, folds)
    assert spread.folds == (0.5, 1.0)
    assert spread.standard_error == pytest.approx((2 * 0.25**2 / 1 / 2) ** 0.5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_area_is_scikit_learns_and_ties_go_together(seed: int) -> None:
    scores, same = drawn(seed=seed)
    for each in (scores, scores.round(), torch.zeros_like(scores)):
        found = verify(each, same)
        assert found.auc == pytest.approx(roc_auc_score(same.numpy(), each.numpy()), abs=1e-12)
        accepted = [float(((each >= cut) == same).double().mean()) for cut in [*torch.unique(each), each.max() + 1]]
        cut = best_threshold(each, same)
        assert float(((each >= cut) == same).double().mean()) == pytest.approx(max(accepted))
        points = roc_points(each, same)
        gaps = (1 - points[:, 1] - points[:, 0]).abs()
        assert abs(found.equal_error - float(points[gaps.argmin(), 0])) <= float(gaps.min()) + 1e-12


def test_a_threshold_never_sees_its_own_fold() -> None:
    """Fold 0 turned upside down: its accuracy falls to what the others' threshold makes of it."""
    scores, same = drawn(300)
    folds = torch.arange(300) % 3
    turned = torch.where(folds == 0, ~same, same)
    found = verify(scores, turned, folds)
    cut = best_threshold(scores[folds != 0], turned[folds != 0])
    own = folds == 0
    assert found.folds[0] == pytest.approx(float(((scores[own] >= cut) == turned[own]).double().mean()))
    assert found.folds[0] < 0.5


def test_what_cannot_be_measured_is_refused() -> None:
    scores, same = drawn(20)
    with pytest.raises(ArgumentError, match="pairs: got 'none of one person'"):
        verify(scores, torch.zeros(20, dtype=torch.bool))
    with pytest.raises(ArgumentError, match="pairs: got 'none of two people'"):
        verify(scores, torch.ones(20, dtype=torch.bool))
    with pytest.raises(ArgumentError, match="scores: got 'some that are no numbers'"):
        verify(torch.where(same, scores, torch.nan), same)
    with pytest.raises(ArgumentError, match="folds: got .*, wanted at least two folds"):
        verify(scores, same, torch.zeros(20, dtype=torch.int64))
    with pytest.raises(ArgumentError, match="scores: got"):
        verify(scores[:3], same)


def test_the_pair_loss_written_out() -> None:
    D = torch.tensor([0.5, -1.0, 30.0, -40.0], dtype=torch.float64, requires_grad=True)
    same = torch.tensor([1, 0, 1, 0])
    value, delta = pair_loss(D.detach(), same)
    sign = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64)
    written = torch.log1p(torch.exp(sign * D)).mean()
    (expected,) = torch.autograd.grad(written, D)
    assert float(value) == pytest.approx(written.item(), rel=1e-12)
    assert worst(delta, expected) < 1e-12
    moved = D.detach() + torch.tensor([1e-6, 0, 0, 0], dtype=torch.float64)
    assert float(delta[0]) == pytest.approx(float(pair_loss(moved, same)[0] - value) / 1e-6, rel=1e-5)
    with pytest.raises(ArgumentError, match=r"same: got \(3,\)"):
        pair_loss(D.detach(), same[:3])


def people(count: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of ``count`` people with 2 to 5 pictures, from known S_μ and S_ε."""
    chance = torch.Generator().manual_seed(seed)

    def covariance(scale: float) -> torch.Tensor:
        root = torch.randn(3, 3, generator=chance, dtype=torch.float64)
        return scale * (root @ root.t() + 0.3 * torch.eye(3))

    between, within = covariance(1.0), covariance(0.4)
    sizes = torch.randint(2, 6, (count,), generator=chance)
    numbers = torch.repeat_interleave(torch.arange(count), sizes)
    centres = torch.randn(count, 3, generator=chance, dtype=torch.float64) @ torch.linalg.cholesky(between).t()
    noise = torch.randn(len(numbers), 3, generator=chance, dtype=torch.float64) @ torch.linalg.cholesky(within).t()
    return centres[numbers] + noise + 5.0, numbers, between, within


def test_em_finds_the_covariances_and_never_falls() -> None:
    x, numbers, between, within = people(3000)
    found = fit_joint_bayesian(x, numbers)
    assert worst(found.between, between) < 0.1
    assert worst(found.within, within) < 0.1
    assert all(after >= before - 1e-9 for before, after in zip(found.likelihoods, found.likelihoods[1:], strict=False))
    assert found.likelihoods[-1] > found.likelihoods[0]


def density(covariance: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """ln N(x; 0, covariance), by torch's own."""
    normal: Any = torch.distributions.MultivariateNormal(torch.zeros(len(covariance)).double(), covariance)
    found: torch.Tensor = normal.log_prob(x)
    return found


def test_the_likelihood_and_the_ratio_are_densities_written_out() -> None:
    x, numbers, _, _ = people(40, seed=2)
    found = fit_joint_bayesian(x, numbers, rounds=3)
    total = 0.0
    for person in range(40):
        own = (x[numbers == person] - found.mean).flatten()
        m = len(own) // 3
        whole = torch.kron(torch.ones(m, m, dtype=torch.float64), found.between)
        whole += torch.kron(torch.eye(m, dtype=torch.float64), found.within)
        total += float(density(whole, own))
    assert found.likelihoods[-1] == pytest.approx(total / len(x), rel=1e-4)
    both = found.between + found.within
    zero = torch.zeros_like(found.between)
    alike = torch.cat((torch.cat((both, found.between), 1), torch.cat((found.between, both), 1)))
    unlike = torch.cat((torch.cat((both, zero), 1), torch.cat((zero, both), 1)))
    pairs = torch.cat((x[:9], x[9:18]), 1) - found.mean.repeat(2)
    one, two = (density(each, pairs) for each in (alike, unlike))
    scores = found.scores(x[:9], x[9:18])
    constant = torch.logdet(unlike) - torch.logdet(alike)
    assert worst(scores + constant, 2 * (one - two)) < 1e-9


def test_too_few_are_refused() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(ArgumentError, match="people: got 1, wanted at least two people"):
        fit_joint_bayesian(x, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ArgumentError, match="people: got 'nobody with two pictures'"):
        fit_joint_bayesian(x, torch.arange(4))
