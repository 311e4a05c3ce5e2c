"""Layers that look at other places: attention of several heads, and additive attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.layers.conv import whole_number
from convscope.rules import attention as rules
from convscope.rules.base import Applied, rule_for_module


class MultiHeadAttention(nn.Module):
    """Every query looks at all keys through ``heads`` pairs of eyes (Vaswani et al. 2017, 3.2).

    query (n, m, size), keys (n, j, size), left out: the queries themselves; answer (n, m, size). ``seen``, truth values
    (n, j), is False for keys that are padding; with ``causal`` query i sees keys up to i. A query that sees no key
    answers the last bias. ``dropout`` on the attention's weights.
    """

    def __init__(self, size: int, heads: int, dropout: float = 0.0, causal: bool = False) -> None:
        super().__init__()
        self.size, self.heads = whole_number(size, "size"), whole_number(heads, "heads")
        if size % heads:
            raise ArgumentError("heads", heads, f"a divisor of the size, {size}")
        self.dropout, self.causal = dropout, causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * size, size))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * size))
        self.out_weight = nn.Parameter(torch.empty(size, size))
        self.out_bias = nn.Parameter(torch.zeros(size))
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_weight)

    def forward(self, query: Tensor, keys: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        if keys is None:
            q, k, v = map(self._apart, F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1))
        else:
            q, (k, v) = self._queries(query), self.remember(keys)
        mask = None if seen is None else seen[:, None, None]
        if mask is not None and self.causal:
            mask = mask & torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        return self._answer(q, k, v, mask, self.causal and mask is None)

    def remember(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """What ``look`` needs of ``keys`` (n, j, size), each (n, heads, j, size/heads): so that they are computed once
        however often one looks."""
        weight, bias = self.in_proj_weight[self.size :], self.in_proj_bias[self.size :]
        k, v = map(self._apart, F.linear(keys, weight, bias).chunk(2, -1))
        return k, v

    def look(self, query: Tensor, remembered: tuple[Tensor, Tensor], seen: Tensor | None = None) -> Tensor:
        """The answer to ``query`` (n, m, size), all of whose places see all keys but those that are padding."""
        return self._answer(self._queries(query), *remembered, None if seen is None else seen[:, None, None])

    def weights(self, query: Tensor, keys: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        """How much each query looks at each key, by head: (n, heads, m, j), rows that add up to 1 (0 where a query sees
        no key)."""
        q, (k, _) = self._queries(query), self.remember(query if keys is None else keys)
        scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
        mask = torch.ones_like(scores, dtype=torch.bool)
        if seen is not None:
            mask = mask & seen[:, None, None]
        if self.causal:
            mask = mask.tril()
        return torch.softmax(scores.masked_fill(~mask, -torch.inf), -1).nan_to_num(0.0)

    def _queries(self, query: Tensor) -> Tensor:
        return self._apart(F.linear(query, self.in_proj_weight[: self.size], self.in_proj_bias[: self.size]))

    def _apart(self, x: Tensor) -> Tensor:
        """(n, j, size) → (n, heads, j, size/heads)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _answer(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, p, is_causal=causal)
        return F.linear(y.transpose(1, 2).flatten(2), self.out_weight, self.out_bias)

    def extra_repr(self) -> str:
        return f"{self.size}, heads={self.heads}, dropout={self.dropout}, causal={self.causal}"


@rule_for_module(MultiHeadAttention)
def _(module: MultiHeadAttention, query: Tensor, keys: Tensor | None = None, seen: Tensor | None = None) -> Applied:
    p = module.dropout if module.training else 0.0
    rule = rules.MultiHeadAttention(heads=module.heads, p=p, batch_first=True, causal=module.causal, alone=True)
    parameters = {name: getattr(module, name) for name in rules.MultiHeadAttention.parameters}
    return Applied(rule, (query, keys, None, None if seen is None else ~seen, None), parameters)


class AdditiveAttention(nn.Module):
    """Every query looks at all keys, each pair scored by a small network (Bahdanau et al. 2015).

    query (n, m, query_size), keys (n, j, key_size), left out: the queries themselves; the answer, (n, m, key_size), is
    a mean of the keys. ``seen``, truth values (n, j), is False for keys that are padding.
    """

    def __init__(self, query_size: int, key_size: int, hidden_size: int) -> None:
        super().__init__()
        self.query_size, self.key_size = whole_number(query_size, "query_size"), whole_number(key_size, "key_size")
        self.hidden_size = whole_number(hidden_size, "hidden_size")
        self.query_weight = nn.Parameter(torch.empty(hidden_size, query_size))
        self.key_weight = nn.Parameter(torch.empty(hidden_size, key_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))
        self.score_weight = nn.Parameter(torch.empty(hidden_size))
        for weight in (self.query_weight, self.key_weight):
            nn.init.xavier_uniform_(weight)
        nn.init.uniform_(self.score_weight, -(hidden_size**-0.5), hidden_size**-0.5)

    def forward(self, query: Tensor, keys: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        keys = query if keys is None else keys
        u = F.linear(query, self.query_weight).unsqueeze(2) + F.linear(keys, self.key_weight).unsqueeze(1) + self.bias
        scores = torch.tanh(u) @ self.score_weight  # (n, m, j)
        if seen is None:
            return torch.softmax(scores, -1) @ keys
        blind = ~seen.any(1)[:, None, None]  # their softmax would be 0/0
        weights = torch.softmax(scores.masked_fill(~seen[:, None], -torch.inf).masked_fill(blind, 0.0), -1)
        return weights.masked_fill(blind, 0.0) @ keys

    def extra_repr(self) -> str:
        return f"{self.query_size}, {self.key_size}, hidden_size={self.hidden_size}"


@rule_for_module(AdditiveAttention)
def _(module: AdditiveAttention, query: Tensor, keys: Tensor | None = None, seen: Tensor | None = None) -> Applied:
    parameters = {name: getattr(module, name) for name in rules.AdditiveAttention.parameters}
    return Applied(rules.AdditiveAttention(), (query, keys, None, seen), parameters)
