"""Connectionist temporal classification: the loss of a text whose characters' places in a line nobody marked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved, rule_for_function, rule_for_module

_NEVER = -math.inf


@dataclasses.dataclass(frozen=True)
class CTCLoss(Rule):
    """J = −ln Σ_π Π_t e^(y_t(π_t))   over all paths π that spell the text once repeats and then blanks are taken out

        l′ = the text with a blank before, between and behind its characters;   all in logarithms, ⊕ adds their numbers
        α_t(s) = y_t(l′_s) + [α_(t−1)(s) ⊕ α_(t−1)(s−1) ⊕ α_(t−1)(s−2)]
            the last only where l′_s is no blank and not l′_(s−2)
        β_t(s) = (β_(t+1)(s) + y_(t+1)(l′_s)) ⊕ (the same of s+1) ⊕ (the same of s+2, under the same condition)
        γ_t(k) = Σ_(s: l′_s = k) e^(α_t(s) + β_t(s) + J),   the probability that k is read at t
        δ_t(k) = e^(y_t(k)) − γ_t(k),   which is ∂J/∂u where y = ln softmax(u)

    Graves et al. 2006, eq. (6) to (16). y (t, n, characters) or (t, characters) are logarithms of probabilities, as
    ``log_softmax`` makes them; texts (n, longest) padded with anything, or one after another. Of example i the first
    ``input_lengths[i]`` steps count; δ behind them is 0. As in torch, δ is taken along distributions that sum to 1, and
    the "mean" is that of each J over its text's length. A text too long for its line (its repeats need a blank between)
    has J = ∞, or 0 with ``zero_infinity``; its δ is 0 either way, never nan.
    """

    kind = "loss"
    needs = ("y", "gamma", "weight", "lengths", "lone")
    blank: int = 0
    reduction: str = "mean"
    zero_infinity: bool = False

    def __post_init__(self) -> None:
        if self.reduction not in ("none", "mean", "sum"):
            raise ArgumentError("reduction", self.reduction, 'one of "none", "mean", "sum"')

    def forward(
        self, y: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor
    ) -> tuple[Tensor, Saved]:
        lone = y.ndim == 2
        y = y.unsqueeze(1) if lone else y  # (t, n, c)
        lengths, text_lengths = (_whole(each, y.device).reshape(-1) for each in (input_lengths, target_lengths))
        texts = _texts(targets, text_lengths, lone)  # (n, longest)
        self._check(y, texts, lengths, text_lengths)
        labels = torch.full((len(texts), 2 * texts.shape[1] + 1), self.blank, device=y.device)
        labels[:, 1::2] = texts  # l′
        inside = torch.arange(labels.shape[1], device=y.device) <= 2 * text_lengths[:, None]
        labels = labels.masked_fill(~inside, self.blank)
        steps = y.gather(2, labels.expand(len(y), *labels.shape)).masked_fill(~inside, _NEVER)  # y_t(l′_s): (t, n, s)
        jumps = torch.zeros_like(inside)
        jumps[:, 2:] = (labels[:, 2:] != self.blank) & (labels[:, 2:] != labels[:, :-2])
        alpha = _alpha(steps, jumps)
        beta = _beta(steps, jumps, lengths, text_lengths)
        ends = (lengths - 1).clamp(min=0).expand(labels.shape[1], -1).T[None]
        last = alpha.gather(0, ends)[0]  # α where each line ends: (n, s)
        reached = (2 * text_lengths)[:, None]
        total = torch.logaddexp(
            last.gather(1, reached)[:, 0],
            last.gather(1, (reached - 1).clamp(min=0))[:, 0].masked_fill(text_lengths == 0, _NEVER),
        )
        possible = (total > _NEVER) & (lengths > 0)
        total = torch.where((lengths == 0) & (text_lengths == 0), torch.zeros_like(total), total)
        total = total.masked_fill((lengths == 0) & (text_lengths > 0), _NEVER)
        each = torch.exp(alpha + beta - torch.where(possible, total, torch.zeros_like(total))[:, None])
        each = each * possible[:, None]
        gamma = torch.zeros_like(y).scatter_add_(2, labels.expand_as(each), each)
        value = -total
        value = torch.where(torch.isinf(value), torch.zeros_like(value), value) if self.zero_infinity else value
        weight = self._weights(text_lengths, y) * possible
        saved = {"y": y, "gamma": gamma, "weight": weight, "lengths": lengths, "lone": lone}
        if self.reduction == "none":
            return (value[0] if lone else value), saved
        if self.reduction == "mean":
            return (value / text_lengths.clamp(min=1)).mean(), saved
        return value.sum(), saved

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        y = saved["y"]
        counts = torch.arange(len(y), device=y.device)[:, None] < saved["lengths"]  # (t, n)
        to_y = (torch.exp(y) - saved["gamma"]) * (counts * saved["weight"] * delta).unsqueeze(-1)
        return (to_y.squeeze(1) if saved["lone"] else to_y, None, None, None), {}

    def _weights(self, text_lengths: Tensor, y: Tensor) -> Tensor:
        """∂J/∂J_i for each example."""
        ones = torch.ones(len(text_lengths), dtype=y.dtype, device=y.device)
        return ones / text_lengths.clamp(min=1) / len(text_lengths) if self.reduction == "mean" else ones

    def _check(self, y: Tensor, texts: Tensor, lengths: Tensor, text_lengths: Tensor) -> None:
        time, count, characters = y.shape
        for name, each in (("input_lengths", lengths), ("target_lengths", text_lengths)):
            if len(each) != count:
                raise ArgumentError(name, len(each), f"one for each of the {count} lines")
        if int(lengths.min()) < 0 or int(lengths.max()) > time:
            raise ArgumentError("input_lengths", lengths.tolist()[:8], f"numbers of steps from 0 to {time}")
        if not 0 <= self.blank < characters:
            raise ArgumentError("blank", self.blank, f"a character's number, 0 to {characters - 1}")
        real = texts[torch.arange(texts.shape[1], device=y.device) < text_lengths[:, None]]
        wrong = real[(real < 0) | (real >= characters) | (real == self.blank)]
        if len(wrong):
            raise ArgumentError("targets", int(wrong[0]), f"characters 0 to {characters - 1} without the blank")


def _whole(lengths: Tensor | Sequence[int], device: torch.device) -> Tensor:
    return torch.as_tensor(lengths, device=device).to(torch.int64)


def _texts(targets: Tensor, lengths: Tensor, lone: bool) -> Tensor:
    """(n, longest), whether they came so or one after another."""
    if targets.ndim == 2:
        if targets.shape[1] < int(lengths.max()):
            raise ArgumentError("targets", tuple(targets.shape), f"texts as long as {int(lengths.max())}")
        return targets.to(lengths.device, torch.int64)[:, : int(lengths.max())]
    if not lone and len(targets) != int(lengths.sum()):
        raise ArgumentError("targets", len(targets), f"{int(lengths.sum())} characters, the sum of target_lengths")
    texts = torch.zeros(len(lengths), int(lengths.max()), dtype=torch.int64, device=lengths.device)
    inside = torch.arange(texts.shape[1], device=lengths.device) < lengths[:, None]
    texts[inside] = targets[: int(lengths.sum())].to(texts)
    return texts


def _three(same: Tensor, next_one: Tensor, after: Tensor) -> Tensor:
    return torch.logsumexp(torch.stack((same, next_one, after)), 0)


def _alpha(steps: Tensor, jumps: Tensor) -> Tensor:
    """α (t, n, s) forward in time."""
    first = torch.full_like(steps[0], _NEVER)
    first[:, :2] = steps[0, :, :2]
    found = [first]
    for now in steps[1:]:
        before = found[-1]
        one, two = F.pad(before, (1, 0), value=_NEVER)[:, :-1], F.pad(before, (2, 0), value=_NEVER)[:, :-2]
        found.append(now + _three(before, one, two.masked_fill(~jumps, _NEVER)))
    return torch.stack(found)


def _beta(steps: Tensor, jumps: Tensor, lengths: Tensor, text_lengths: Tensor) -> Tensor:
    """β (t, n, s) backward in time, each line from its own end on."""
    places = torch.arange(steps.shape[2], device=steps.device)
    end = (places == 2 * text_lengths[:, None]) | (places == 2 * text_lengths[:, None] - 1)
    start = torch.where(end, 0.0, _NEVER).to(steps.dtype)
    jumps_ahead = F.pad(jumps, (0, 2))[:, 2:]
    now = torch.full_like(steps[0], _NEVER)
    found = []
    for time in reversed(range(len(steps))):
        if time + 1 < len(steps):
            ahead = now + steps[time + 1]
            one, two = F.pad(ahead, (0, 1), value=_NEVER)[:, 1:], F.pad(ahead, (0, 2), value=_NEVER)[:, 2:]
            now = _three(ahead, one, two.masked_fill(~jumps_ahead, _NEVER))
        now = torch.where((lengths == time + 1)[:, None], start, now)
        found.append(now)
    return torch.stack(found[::-1])


@rule_for_module(nn.CTCLoss)
def _(module: nn.CTCLoss, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> Applied:
    rule = CTCLoss(module.blank, module.reduction, module.zero_infinity)
    return Applied(rule, (log_probs, targets, input_lengths, target_lengths))


@rule_for_function(F.ctc_loss)
def _(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Applied:
    return Applied(CTCLoss(blank, reduction, zero_infinity), (log_probs, targets, input_lengths, target_lengths))
