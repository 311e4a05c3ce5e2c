"""Attention: additive, scaled dot-product, and of several heads."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved, rule_for_function, rule_for_module
from convscope.rules.combine import unbroadcast
from convscope.rules.dropout import Dropout


def weights_of(scores: Tensor) -> Tensor:
    """softmax over the last dimension; where everything is masked (−∞), 0 instead of 0/0."""
    highest = scores.amax(-1, keepdim=True)
    e = torch.exp(scores - highest.masked_fill(highest == -math.inf, 0))
    total = e.sum(-1, keepdim=True)
    return e / total.masked_fill(total == 0, 1)


def weights_back(weights: Tensor, delta: Tensor) -> Tensor:
    """δ of the scores from that of their softmax: A·(δ_A − Σ_j δ_A·A)."""
    return weights * (delta - (delta * weights).sum(-1, keepdim=True))


@dataclasses.dataclass(frozen=True)
class DotProductAttention(Rule):
    """Y = A·V,   A = softmax_j(S),   S = s·Q·Kᵀ + M,   s = 1/√(size of a key)

        δ_V = Aᵀ·δ,   δ_A = δ·Vᵀ,   δ_S = A·(δ_A − Σ_j δ_A·A)   element by element
        δ_Q = s·δ_S·K,   δ_K = s·δ_Sᵀ·Q,   δ_M = δ_S summed over broadcast dimensions

    Vaswani et al. 2017, eq. (1). Q (…, m, e), K (…, n, e), V (…, n, v); Y (…, m, v). The mask M is added; a mask of
    truth values is −∞ where it is False, and ``causal`` lets query i see keys up to i. A query that sees no key answers
    0. ``p``: dropout on A, drawn as torch does. ``scale`` None: s as above.
    """

    kind = "attention"
    needs = ("q", "k", "v", "weights", "dropped", "dropout", "mask_shape")
    p: float = 0.0
    causal: bool = False
    scale: float | None = None

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Saved]:
        if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
            shapes = f"queries {tuple(q.shape)}, keys {tuple(k.shape)}, values {tuple(v.shape)}"
            raise ArgumentError("q", shapes, "keys as long as queries, and as many values as keys")
        scores = q @ k.transpose(-1, -2) * self._scale(q)
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        if self.causal:
            seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
            scores = scores.masked_fill(~seen, -math.inf)
        weights = weights_of(scores)  # (…, m, n)
        dropped, dropout = Dropout(self.p, self.p > 0).forward(weights)
        added = mask is not None and mask.is_floating_point()
        return dropped @ v, {
            "q": q,
            "k": k,
            "v": v,
            "weights": weights,
            "dropped": dropped,
            "dropout": dropout,
            "mask_shape": mask.shape if added and mask is not None else None,
        }

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        q, k, v = saved["q"], saved["k"], saved["v"]
        to_v = saved["dropped"].transpose(-1, -2) @ delta
        to_weights = _undropped(self.p, saved["dropout"], delta @ v.transpose(-1, -2))
        to_scores = weights_back(saved["weights"], to_weights)
        scaled = to_scores * self._scale(q)
        deltas: tuple[Tensor | None, ...] = (
            unbroadcast(scaled @ k, q.shape),
            unbroadcast(scaled.transpose(-1, -2) @ q, k.shape),
            unbroadcast(to_v, v.shape),
        )
        shape = saved["mask_shape"]
        return (*deltas, None if shape is None else unbroadcast(to_scores, shape)), {}

    def _scale(self, q: Tensor) -> float:
        return 1 / math.sqrt(q.shape[-1]) if self.scale is None else self.scale


@dataclasses.dataclass(frozen=True)
class AdditiveAttention(Rule):
    """y_i = Σ_j A_ij·v_j,   A = softmax_j(e),   e_ij = w·t_ij,   t_ij = tanh(W·q_i + U·k_j + b)

        δ_(v_j) = Σ_i A_ij·δ_i,   δ_(A_ij) = δ_i·v_j,   δ_e = A·(δ_A − Σ_j δ_A·A)
        δ_(u_ij) = δ_(e_ij)·w·(1 − t_ij²),   δ_(q_i) = Wᵀ·Σ_j δ_(u_ij),   δ_(k_j) = Uᵀ·Σ_i δ_(u_ij)
        ∂J/∂w = Σ δ_(e_ij)·t_ij,   ∂J/∂W = Σ_i (Σ_j δ_(u_ij))·q_iᵀ,   ∂J/∂U = Σ_j (Σ_i δ_(u_ij))·k_jᵀ
        ∂J/∂b = Σ δ_(u_ij)

    Bahdanau et al. 2015. q (n, m, size), k (n, j, size of keys), v (n, j, size of values), left out: k, and k left out:
    q; ``mask`` (n, j) is False where a key is not to be seen. A query that sees no key answers 0.
    """

    kind = "attention"
    needs = ("q", "k", "v", "shared", "weights", "t", "parameters")
    parameters = ("query_weight", "key_weight", "bias", "score_weight")

    def forward(
        self,
        q: Tensor,
        k: Tensor | None = None,
        v: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        query_weight: Tensor,
        key_weight: Tensor,
        bias: Tensor,
        score_weight: Tensor,
    ) -> tuple[Tensor, Saved]:
        shared = (k is None, v is None)
        k = q if k is None else k
        v = k if v is None else v
        t = torch.tanh((q @ query_weight.T).unsqueeze(2) + (k @ key_weight.T).unsqueeze(1) + bias)  # (n, m, j, hidden)
        scores = t @ score_weight
        scores = scores if mask is None else scores.masked_fill(~mask[:, None], -math.inf)
        weights = weights_of(scores)  # (n, m, j)
        saved = {"q": q, "k": k, "v": v, "shared": shared, "weights": weights, "t": t}
        return weights @ v, {**saved, "parameters": (query_weight, key_weight, score_weight)}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        q, k, v, weights, t = (saved[name] for name in ("q", "k", "v", "weights", "t"))
        query_weight, key_weight, score_weight = saved["parameters"]
        to_e = weights_back(weights, delta @ v.transpose(1, 2))
        to_u = to_e.unsqueeze(-1) * score_weight * (1 - t * t)
        for_q, for_k = to_u.sum(2), to_u.sum(1)  # (n, m, hidden), (n, j, hidden)
        gradients = {
            "query_weight": _outer(for_q, q),
            "key_weight": _outer(for_k, k),
            "bias": to_u.sum((0, 1, 2)),
            "score_weight": (to_e.unsqueeze(-1) * t).sum((0, 1, 2)),
        }
        deltas = [for_q @ query_weight, for_k @ key_weight, weights.transpose(1, 2) @ delta]
        return (*_of_the_given(deltas, saved["shared"]), None), gradients


@dataclasses.dataclass(frozen=True)
class MultiHeadAttention(Rule):
    """y = W_o·[head_1; …; head_h] + b_o,   head = A·V with A = softmax(Q·Kᵀ/√e + M)

        Q = W_q·q + b_q,   K = W_k·k + b_k,   V = W_v·v + b_v,   their rows shared out among the heads, e for each
        δ_head = the head's rows of W_oᵀ·δ, then as for dot-product attention
        δ_q = W_qᵀ·δ_Q,   ∂J/∂W_q = Σ δ_Q·qᵀ,   ∂J/∂b_q = Σ δ_Q,   likewise k and v;   ∂J/∂W_o = Σ δ·headsᵀ

    Vaswani et al. 2017. q (n, m, size), k and v (n, j, …), where not ``batch_first`` (m, n, size); one example without
    its dimension too. v left out: k, and k left out: q. Masks as torch's layer has them: truth values are True where a
    key is *not* to be seen, numbers are added; ``padding`` (n, j), ``mask`` (m, j) or (n·heads, m, j). A query that
    sees no key answers b_o, where torch's layer has nan. With ``needs_weights`` A comes out as well, the heads' mean
    with ``averaged``; its δ counts.
    """

    kind = "attention"
    needs = ("given", "shared", "core", "joined", "parameters", "lone", "extra", "mask_shapes")
    parameters = ("in_proj_weight", "in_proj_bias", "out_weight", "out_bias")
    heads: int = 1
    p: float = 0.0
    batch_first: bool = False
    causal: bool = False
    needs_weights: bool = False
    averaged: bool = True
    zero_key: bool = False
    alone: bool = False
    """Only y comes out, not (y, A)."""

    def forward(
        self,
        q: Tensor,
        k: Tensor | None = None,
        v: Tensor | None = None,
        padding: Tensor | None = None,
        mask: Tensor | None = None,
        **parameters: Any,
    ) -> tuple[Any, Saved]:
        shared = (k is None, v is None)
        k = q if k is None else k
        v = k if v is None else v
        if not q.ndim == k.ndim == v.ndim:
            raise ArgumentError("query", (q.ndim, k.ndim, v.ndim), "as many dimensions as key and value have")
        lone = q.ndim == 2
        given = [self._batched(each, lone) for each in (q, k, v)]  # (n, m, size)
        split = self._projected(given, parameters)  # (n, heads, m, e)
        extra = split[1].shape[2] - given[1].shape[1]
        added = self._mask(split[0], given[1].shape[1], extra, padding, mask)
        rule = DotProductAttention(self.p)
        heads, core = rule.forward(split[0], split[1], split[2], added)
        joined = self._joined(heads)  # (n, m, size)
        out_weight, out_bias = parameters["out_weight"], parameters.get("out_bias")
        # in memory it lies as torch's does, (m, n, size) but for our own layer: dropout behind it draws in that order
        y = joined @ out_weight.T if self.alone else (joined.transpose(0, 1) @ out_weight.T).transpose(0, 1)
        y = y if out_bias is None else y + out_bias
        shapes = [each.shape if each is not None and each.is_floating_point() else None for each in (padding, mask)]
        saved = {
            "given": given,
            "shared": shared,
            "core": core,
            "joined": joined,
            "parameters": parameters,
            "lone": lone,
            "extra": extra,
            "mask_shapes": shapes,
        }
        result = self._unbatched(y, lone)
        if not self.needs_weights:
            return (result if self.alone else (result, None)), saved
        seen = core["dropped"].mean(1) if self.averaged else core["dropped"]
        return (result, seen.squeeze(0) if lone else seen), saved

    def backward(self, saved: Saved, delta: Any) -> tuple[Deltas, Gradients]:
        parameters, core = saved["parameters"], saved["core"]
        lone, joined, given = saved["lone"], saved["joined"], saved["given"]
        to_y, to_weights = (delta, None) if self.alone else delta
        gradients: Gradients = {}
        if to_y is None:
            to_heads = torch.zeros_like(core["q"][..., :1]).expand(*core["q"].shape[:-1], core["v"].shape[-1])
        else:
            to_y = self._batched(to_y, lone)
            gradients["out_weight"] = _outer(to_y, joined)
            if parameters.get("out_bias") is not None:
                gradients["out_bias"] = to_y.sum((0, 1))
            to_heads = self._split(to_y @ parameters["out_weight"])
        *to_split, to_scores = self._core_back(core, to_heads, to_weights, lone)
        if self.zero_key:
            to_split[1:] = [each[:, :, :-1] for each in to_split[1:]]
        to_projected = [self._joined(each) for each in to_split]
        if parameters.get("bias_k") is not None:
            for place, name in ((1, "bias_k"), (2, "bias_v")):
                gradients[name] = to_projected[place][:, -1:].sum(0, keepdim=True)
                to_projected[place] = to_projected[place][:, :-1]
        weights, biases = _projections(parameters)
        products = [_outer(each, x) for each, x in zip(to_projected, given, strict=True)]
        if parameters.get("in_proj_weight") is not None:
            gradients["in_proj_weight"] = torch.cat(products)
        else:
            names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
            gradients |= dict(zip(names, products, strict=True))
        if biases[0] is not None:
            gradients["in_proj_bias"] = torch.cat([each.sum((0, 1)) for each in to_projected])
        to_given = [self._unbatched(each @ weight, lone) for each, weight in zip(to_projected, weights, strict=True)]
        to_masks = self._masks_back(to_scores, saved["extra"], *saved["mask_shapes"])
        return (*_of_the_given(to_given, saved["shared"]), *to_masks), gradients

    def _projected(self, given: list[Tensor], parameters: dict[str, Any]) -> list[Tensor]:
        """Q, K and V of every head, with the keys that belong to no input behind."""
        weights, biases = _projections(parameters)
        projected = [
            each @ weight.T if bias is None else each @ weight.T + bias
            for each, weight, bias in zip(given, weights, biases, strict=True)
        ]
        if parameters.get("bias_k") is not None:
            for place, name in ((1, "bias_k"), (2, "bias_v")):
                row = parameters[name].expand(len(projected[place]), 1, -1)
                projected[place] = torch.cat((projected[place], row), 1)
        split = [self._split(each) for each in projected]
        if self.zero_key:
            split[1:] = [torch.cat((each, torch.zeros_like(each[:, :, :1])), 2) for each in split[1:]]
        return split

    def _core_back(self, core: Saved, to_heads: Tensor, to_weights: Tensor | None, lone: bool) -> list[Tensor]:
        """δ of Q, K, V and S, the weights themselves being an output too."""
        q, k, v = core["q"], core["k"], core["v"]
        to_dropped = to_heads @ v.transpose(-1, -2)
        if to_weights is not None:
            each = to_weights.unsqueeze(0) if lone else to_weights
            to_dropped = to_dropped + (each.unsqueeze(1) / self.heads if self.averaged else each)
        to_scores = weights_back(core["weights"], _undropped(self.p, core["dropout"], to_dropped))
        scaled = to_scores / math.sqrt(q.shape[-1])
        return [scaled @ k, scaled.transpose(-1, -2) @ q, core["dropped"].transpose(-1, -2) @ to_heads, to_scores]

    def _masks_back(
        self, to_scores: Tensor, extra: int, padding_shape: Any, mask_shape: Any
    ) -> tuple[Tensor | None, Tensor | None]:
        own = to_scores[..., : to_scores.shape[-1] - extra] if extra else to_scores  # (n, heads, m, j)
        to_padding = None if padding_shape is None else own.sum((1, 2)).reshape(padding_shape)
        if mask_shape is None:
            return to_padding, None
        return to_padding, own.flatten(0, 1).reshape(mask_shape) if len(mask_shape) == 3 else own.sum((0, 1))

    def _mask(self, q: Tensor, keys: int, extra: int, padding: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """What is added to the scores (n, heads, m, j + extra); None for nothing."""
        total: Tensor | None = None
        if mask is not None:
            added = _added(mask, q)
            total = added.reshape(-1, self.heads, *added.shape[1:]) if added.ndim == 3 else added[None, None]
        elif self.causal:
            unseen = torch.ones(q.shape[2], keys, dtype=torch.bool, device=q.device).triu(1)
            total = _added(unseen, q)[None, None]
        if padding is not None:
            added = _added(padding, q)
            added = (added if added.ndim == 2 else added[None])[:, None, None]  # (n, 1, 1, j)
            total = added if total is None else total + added
        return F.pad(total, (0, extra)) if total is not None and extra else total

    def _batched(self, x: Tensor, lone: bool) -> Tensor:
        return x.unsqueeze(0) if lone else x if self.batch_first else x.transpose(0, 1)

    def _unbatched(self, x: Tensor, lone: bool) -> Tensor:
        return x.squeeze(0) if lone else x if self.batch_first else x.transpose(0, 1)

    def _split(self, x: Tensor) -> Tensor:
        """(n, m, size) → (n, heads, m, e)."""
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(1, 2)

    def _joined(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


def _of_the_given(deltas: list[Tensor], shared: tuple[bool, bool]) -> list[Tensor | None]:
    """δ of q, k and v, where v is k or k is q in one."""
    to_q, to_k, to_v = deltas
    to_k = to_k + to_v if shared[1] else to_k
    to_q = to_q + to_k if shared[0] else to_q
    return [to_q, None if shared[0] else to_k, None if shared[1] else to_v]


def _undropped(p: float, saved: Saved, delta: Tensor) -> Tensor:
    (found,), _ = Dropout(p, p > 0).backward(saved, delta)
    assert found is not None
    return found


def _projections(parameters: dict[str, Any]) -> tuple[list[Tensor], list[Tensor | None]]:
    """The weights and biases of q, k and v, which may lie one below the other."""
    whole, bias = parameters.get("in_proj_weight"), parameters.get("in_proj_bias")
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    weights = list(whole.chunk(3)) if whole is not None else [parameters[name] for name in names]
    return weights, list(bias.chunk(3)) if bias is not None else [None] * 3


def _added(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill_(mask, -math.inf)


def _outer(delta: Tensor, x: Tensor) -> Tensor:
    """Σ δ·xᵀ over all leading dimensions."""
    return delta.flatten(0, -2).T @ x.flatten(0, -2)


@rule_for_function(F.scaled_dot_product_attention)
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Applied | None:
    if enable_gqa:
        return None
    return Applied(DotProductAttention(dropout_p, is_causal, scale), (query, key, value, attn_mask))


@rule_for_module(nn.MultiheadAttention)
def _(
    module: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Applied:
    rule = MultiHeadAttention(
        heads=module.num_heads,
        p=module.dropout if module.training else 0.0,
        batch_first=module.batch_first,
        needs_weights=need_weights,
        averaged=average_attn_weights,
        zero_key=module.add_zero_attn,
    )
    names = ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight", "bias_k", "bias_v")
    given = {name: getattr(module, name) for name in names if getattr(module, name) is not None}
    given |= {"out_weight": module.out_proj.weight}
    if module.out_proj.bias is not None:
        given["out_bias"] = module.out_proj.bias
    return Applied(rule, (query, key, value, key_padding_mask, attn_mask), given)
