"""Joint Bayesian: how much likelier two feature vectors are of one person than of two.

Chen, Cao, Wang, Wen, Sun: Bayesian Face Revisited: A Joint Formulation, ECCV 2012.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from convscope.errors import ArgumentError

_ROUNDS = 50
_RIDGE = 1e-6  # of the mean variance, added to what is inverted


@dataclasses.dataclass(frozen=True, eq=False)
class JointBayesian:
    """x = μ + ε with μ ~ N(0, S_μ) of a person and ε ~ N(0, S_ε) of a picture, after ``mean`` is taken off.

    ``between`` S_μ and ``within`` S_ε are (d, d), ``likelihoods`` the mean logarithm of the likelihood after each round
    of EM.
    """

    mean: Tensor
    between: Tensor
    within: Tensor
    likelihoods: tuple[float, ...]

    def matrices(self) -> tuple[Tensor, Tensor]:
        """A and G of r(x₁, x₂) = x₁ᵀ·A·x₁ + x₂ᵀ·A·x₂ − 2·x₁ᵀ·G·x₂, twice the logarithm of the ratio of the likelihoods,
        up to a constant (eq. (4) to (7))."""
        both = self.between + self.within
        whole = torch.cat((torch.cat((both, self.between), 1), torch.cat((self.between, both), 1)))
        inverse = torch.linalg.inv(whole)
        d = len(both)
        return torch.linalg.inv(both) - inverse[:d, :d], inverse[:d, d:]

    def shrunk(self, share: float) -> JointBayesian:
        """S ↦ (1 − share)·S + share·(tr S/d)·I for both S_μ and S_ε: what few people show of their directions is taken
        for chance by so much. At 1, r of vectors of one length says what their cosine says."""

        def drawn(covariance: Tensor) -> Tensor:
            even = covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
            return (1 - share) * covariance + share * even

        return dataclasses.replace(self, between=drawn(self.between), within=drawn(self.within))

    def scores(self, first: Tensor, second: Tensor) -> Tensor:
        """r (n,) of pairs (n, d)."""
        A, G = self.matrices()
        a, b = (each.to(torch.float64) - self.mean for each in (first, second))
        return ((a @ A) * a).sum(1) + ((b @ A) * b).sum(1) - 2 * ((a @ G) * b).sum(1)


def fit_joint_bayesian(features: Tensor, people: Tensor, rounds: int = _ROUNDS) -> JointBayesian:
    """S_μ and S_ε by expectation-maximisation from ``features`` (n, d) of ``people``, int64 (n,).

    A person with m pictures has μ ~ N(P⁻¹·S_ε⁻¹·Σx, P⁻¹) with P = S_μ⁻¹ + m·S_ε⁻¹; then S_μ = E[μμᵀ] over people and
    S_ε = E[(x − μ)(x − μ)ᵀ] over pictures, each with the uncertainty P⁻¹ of μ. No round makes the likelihood smaller.

    Raises ArgumentError for one person only, or where nobody has two pictures.
    """
    x = features.detach().to("cpu", torch.float64)
    names, numbers, sizes = torch.unique(people, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ArgumentError("people", len(names), "at least two people")
    if int(sizes.max()) < 2:
        raise ArgumentError("people", "nobody with two pictures", "at least two pictures of some person")
    mean = x.mean(0)
    x = x - mean
    sums = torch.zeros(len(names), x.shape[1], dtype=torch.float64).index_add_(0, numbers, x)
    centres = sums / sizes[:, None]
    inside = x - centres[numbers]
    ridge = _RIDGE * float(x.square().mean()) * torch.eye(x.shape[1], dtype=torch.float64)
    between, within = centres.t() @ centres / len(names) + ridge, inside.t() @ inside / len(x) + ridge
    told = []
    for _ in range(rounds):
        told.append(_likelihood(x, sums, sizes, between, within))
        between, within = _round(x, sums, sizes, numbers, between, within, ridge)
    told.append(_likelihood(x, sums, sizes, between, within))
    return JointBayesian(mean, between, within, tuple(told))


def _round(
    x: Tensor, sums: Tensor, sizes: Tensor, numbers: Tensor, between: Tensor, within: Tensor, ridge: Tensor
) -> tuple[Tensor, Tensor]:
    """One round of EM: (S_μ, S_ε)."""
    one, other = torch.linalg.inv(between), torch.linalg.inv(within)
    means = torch.empty_like(sums)
    spread_people, spread_pictures = torch.zeros_like(between), torch.zeros_like(between)
    for size in torch.unique(sizes).tolist():
        own = sizes == size
        uncertain = torch.linalg.inv(one + size * other)
        means[own] = sums[own] @ other @ uncertain
        spread_people += int(own.sum()) * uncertain
        spread_pictures += int(own.sum()) * size * uncertain
    left = x - means[numbers]
    between = (means.t() @ means + spread_people) / len(sums)
    within = (left.t() @ left + spread_pictures) / len(x)
    floor = 1e-3 * ridge
    return (between + between.t()) / 2 + floor, (within + within.t()) / 2 + floor


def _likelihood(x: Tensor, sums: Tensor, sizes: Tensor, between: Tensor, within: Tensor) -> float:
    """The mean over pictures of ln p, by Woodbury's formula for each size of a person's set."""
    one, other = torch.linalg.inv(between), torch.linalg.inv(within)
    total = -0.5 * float(((x @ other) * x).sum())
    logarithm = float(torch.linalg.slogdet(within)[1])
    for size in torch.unique(sizes).tolist():
        own = sums[sizes == size] @ other
        precision = one + size * other
        total += 0.5 * float(((own @ torch.linalg.inv(precision)) * own).sum())
        determinant = size * logarithm + float(torch.linalg.slogdet(between)[1] + torch.linalg.slogdet(precision)[1])
        total -= 0.5 * len(own) * determinant
    constant = 0.5 * x.numel() * float(torch.log(torch.tensor(2 * torch.pi)))
    return (total - constant) / len(x)
