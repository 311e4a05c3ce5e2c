"""The layered layout: edges go down, boxes keep apart, straight chains stay straight."""

from __future__ import annotations

import itertools

from convscope.inspect.pictures.layout import Layout, lay_out

WIDTH, GAP = 2.0, 0.2
ORDER = (["in", "a", "b", "c", "d", "add"] + [f"n{index}" for index in range(30)]).index


def laid_out(edges: list[tuple[str, str]]) -> Layout:
    nodes = sorted(dict.fromkeys(itertools.chain.from_iterable(edges)), key=ORDER)
    return lay_out(nodes, edges, dict.fromkeys(nodes, WIDTH), GAP)


def test_a_chain_is_one_straight_line() -> None:
    placed = laid_out([("a", "b"), ("b", "c"), ("c", "d")])
    assert {x for x, _ in placed.centre.values()} == {0.0}
    assert [placed.centre[node][1] for node in "abcd"] == [0, 1, 2, 3]
    assert placed.cuts == [0, 1, 2]


def test_branches_stand_apart_and_a_shortcut_goes_round_them() -> None:
    placed = laid_out([("in", "a"), ("a", "b"), ("b", "add"), ("in", "add"), ("in", "c"), ("c", "add")])
    assert placed.centre["add"][1] == 3
    assert abs(placed.centre["a"][0] - placed.centre["c"][0]) >= WIDTH + GAP - 1e-9
    route = placed.routes["in", "add"]
    assert [rank for _, rank in route] == [0, 1, 2, 3]
    assert all(abs(route[1][0] - placed.centre[node][0]) >= WIDTH / 2 for node in ("a", "c"))


def test_every_edge_goes_down_and_no_boxes_overlap() -> None:
    names = [f"n{index}" for index in range(30)]
    edges = [(names[i], names[j]) for i in range(30) for j in (i + 1, i + 2, i + 5) if j < 30]
    placed = laid_out(edges)
    for one, other in edges:
        assert placed.centre[one][1] < placed.centre[other][1]
    for (one, (x, rank)), (other, (y, row)) in itertools.combinations(placed.centre.items(), 2):
        assert rank != row or abs(x - y) >= WIDTH + GAP - 1e-9, (one, other)


def test_folding_is_offered_only_where_nothing_else_passes() -> None:
    placed = laid_out([("in", "a"), ("a", "b"), ("in", "b"), ("b", "c")])
    assert placed.cuts == [0, 2]  # between a and b the shortcut from in passes too
