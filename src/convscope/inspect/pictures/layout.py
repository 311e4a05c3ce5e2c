"""Where to put the boxes of a graph: the layered layout of Sugiyama, Tagawa and Toda (1981).

Ranks by longest path, places in between for long edges, barycentre sweeps against crossings, and positions along a
rank as the least-squares solution that keeps the boxes apart (isotonic regression).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
    """``centre[node]`` is (x, rank); ``routes[(a, b)]`` are the points an edge passes from ``a`` to ``b``; ``cuts`` are
    ranks after which edges of a single node go on, so that the drawing may be folded there."""

    centre: dict[str, tuple[float, int]]
    routes: dict[tuple[str, str], list[tuple[float, int]]]
    ranks: int
    cuts: list[int]


def lay_out(nodes: Sequence[str], edges: Sequence[tuple[str, str]], width: Mapping[str, float], gap: float) -> Layout:
    """``nodes`` in an order in which every edge goes forward; ``width`` and ``gap`` in the unit of the result's x."""
    rank = _ranks(nodes, edges)
    chains = {edge: _chain(edge, rank) for edge in dict.fromkeys(edges)}
    rows: list[list[str]] = [[] for _ in range(max(rank.values(), default=0) + 1)]
    for node in nodes:
        rows[rank[node]].append(node)
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    links: set[tuple[str, str]] = set()
    for (first, _), chain in chains.items():
        for offset, (one, other) in enumerate(itertools.pairwise(chain), start=1):
            if (one, other) in links:
                continue
            links.add((one, other))
            if other != chain[-1]:
                rows[rank[first] + offset].append(other)
            below.setdefault(one, []).append(other)
            above.setdefault(other, []).append(one)
    _untangle(rows, above, below)
    x = _place(rows, above, below, width, gap)
    crossing: list[set[str]] = [set() for _ in rows]
    for first, last in chains:
        for row in range(rank[first], rank[last]):
            crossing[row].add(first)
    return Layout(
        centre={node: (x[node], rank[node]) for node in nodes},
        routes={
            edge: [(x[link], rank[edge[0]] + offset) for offset, link in enumerate(chain)]
            for edge, chain in chains.items()
        },
        ranks=len(rows),
        cuts=[row for row, sources in enumerate(crossing) if len(sources) == 1],
    )


def _ranks(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    before: dict[str, list[str]] = {}
    for first, last in edges:
        before.setdefault(last, []).append(first)
    rank: dict[str, int] = {}
    for node in nodes:
        rank[node] = max((rank[item] + 1 for item in before.get(node, ())), default=0)
    return rank


def _chain(edge: tuple[str, str], rank: Mapping[str, int]) -> list[str]:
    """What the edge passes: a place in every rank between, which all edges of one source share, as one lane."""
    first, last = edge
    places = [f"{first} →{row}" for row in range(rank[first] + 1, rank[last])]
    return [first, *places, last]


def _untangle(rows: list[list[str]], above: Mapping[str, list[str]], below: Mapping[str, list[str]]) -> None:
    """Order every row by the mean place of its neighbours, downwards and upwards in turn."""
    for sweep in range(12):
        neighbours, order = (above, rows) if sweep % 2 == 0 else (below, rows[::-1])
        place: dict[str, float] = {}
        for row in order:
            own = {node: index for index, node in enumerate(row)}

            wanted: dict[str, float] = {}
            for node in row:
                known = [place[item] for item in neighbours.get(node, ()) if item in place]
                wanted[node] = sum(known) / len(known) if known else own[node] / max(len(own) - 1, 1)
            row.sort(key=wanted.__getitem__)
            place.update({node: (index + 0.5) / len(row) for index, node in enumerate(row)})


def _place(
    rows: list[list[str]],
    above: Mapping[str, list[str]],
    below: Mapping[str, list[str]],
    width: Mapping[str, float],
    gap: float,
) -> dict[str, float]:
    x: dict[str, float] = {}
    for row in rows:
        sizes = [width.get(node, 0.0) + gap for node in row]
        ends = np.cumsum(sizes)
        x.update({node: end - size / 2 - ends[-1] / 2 for node, size, end in zip(row, sizes, ends, strict=True)})
    for sweep in range(24):
        downwards = sweep % 2 == 0
        for row in rows if downwards else rows[::-1]:
            if len(row) == 1:  # the spine of the network stays one straight line
                x[row[0]] = 0.0
                continue
            wanted, weights = [], []
            for node in row:
                near = [x[item] for item in (above if downwards else below).get(node, ())]
                far = [x[item] for item in (below if downwards else above).get(node, ())]
                pulled = near * 3 + far
                wanted.append(sum(pulled) / len(pulled) if pulled else x[node])
                weights.append(1.0 if node in width else 3.0)  # long edges should run straight
            sizes = [width.get(node, 0.0) + gap for node in row]
            apart = np.cumsum([0.0] + [(a + b) / 2 for a, b in itertools.pairwise(sizes)])
            for node, value in zip(row, _isotonic(np.array(wanted) - apart, np.array(weights)) + apart, strict=True):
                x[node] = float(value)
    return x


def _isotonic(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The nearest non-decreasing sequence (pool adjacent violators)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, total, count = float(value), float(weight), 1
        while blocks and blocks[-1][0] > mean:
            before, heavy, many = blocks.pop()
            mean = (before * heavy + mean * total) / (heavy + total)
            total, count = total + heavy, count + many
        blocks.append((mean, total, count))
    return np.concatenate([np.full(count, mean) for mean, _, count in blocks]) if blocks else values
