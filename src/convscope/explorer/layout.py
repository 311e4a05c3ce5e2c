"""Where each call stands on the page: columns by depth, lanes within a column, long networks folded into blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from convscope.explorer.network import INPUT, Network

UNFOLDED_LIMIT = 48  # a network of more calls opens folded: so many columns still fit into three screens


@dataclasses.dataclass(frozen=True)
class Item:
    """A column's entry: one call, or a block of calls shown as the last of them. ``rank`` is the column."""

    name: str
    members: tuple[str, ...]
    shows: str
    rank: int
    lane: int


def lay_out(network: Network, unfolded: Collection[str] = (), limit: int = UNFOLDED_LIMIT) -> dict[str, Any]:
    """Items, and the edges between them, for the page. ``unfolded`` names blocks to show call by call."""
    block_of = {name: block for name, block in _blocks(network, limit).items() if block not in unfolded}
    members: dict[str, list[str]] = {INPUT: [INPUT]}
    for name in network.nodes:
        members.setdefault(block_of.get(name, name), []).append(name)
    owner = {name: item for item, names in members.items() for name in names}
    edges: dict[tuple[str, str], None] = {}
    for node in network.nodes.values():
        for source in node.sources:
            if owner[source] != owner[node.name]:
                edges[owner[source], owner[node.name]] = None
    ranks = _ranks(list(members), edges)
    lanes = _lanes(ranks, edges)
    items = [Item(name, tuple(names), names[-1], ranks[name], lanes[name]) for name, names in members.items()]
    return {
        "items": [dataclasses.asdict(item) for item in items],
        "edges": [list(edge) for edge in edges],
        "folded": sorted(set(block_of.values())),
        "unfolded": sorted(unfolded),
    }


def _blocks(network: Network, limit: int) -> dict[str, str]:
    """Call → block, above ``limit`` calls: the deepest module prefix that leaves at most ``limit`` items."""
    if len(network.nodes) <= limit:
        return {}
    paths = {name: _path(network, name) for name in network.nodes}
    for depth in range(4, 0, -1):
        prefixes = {name: ".".join(path[:depth]) for name, path in paths.items() if len(path) > depth}
        blocks = _adopt(network, prefixes)
        if len(network.nodes) - len(blocks) + len(set(blocks.values())) <= limit:
            return blocks
    return _adopt(network, {name: path[0] for name, path in paths.items() if len(path) > 1})


def _path(network: Network, name: str) -> list[str]:
    return name.split(":")[0].split(".") if network.nodes[name].module is not None else []


def _adopt(network: Network, blocks: Mapping[str, str]) -> dict[str, str]:
    """Functions belong to the block of their first source when what reads them, or another source, is of it too."""
    found = dict(blocks)
    for node in network.nodes.values():
        if node.module is not None or node.name in found:
            continue
        around = [found.get(source) for source in node.sources]
        around += [found.get(reader) for reader, _ in network.readers[node.name]]
        first = found.get(node.sources[0]) if node.sources else None
        if first is not None and around.count(first) >= 2:
            found[node.name] = first
    return found


def _ranks(items: list[str], edges: Mapping[tuple[str, str], None]) -> dict[str, int]:
    """Longest path from the input; a cycle, which a badly chosen block could make, is cut where it closes."""
    sources: dict[str, list[str]] = {item: [] for item in items}
    for before, after in edges:
        sources[after].append(before)
    ranks: dict[str, int] = {INPUT: 0}
    for item in items[1:]:
        ranks[item] = 1 + max((ranks[source] for source in sources[item] if source in ranks), default=0)
    return ranks


def _lanes(ranks: Mapping[str, int], edges: Mapping[tuple[str, str], None]) -> dict[str, int]:
    """Order within a column: by the mean lane of what an item reads, so that branches stay apart."""
    columns: dict[int, list[str]] = {}
    for item, rank in ranks.items():
        columns.setdefault(rank, []).append(item)
    lanes: dict[str, int] = {}
    for rank in sorted(columns):

        def key(item: str) -> float:
            above = [lanes[before] for before, after in edges if after == item and before in lanes]
            return sum(above) / len(above) if above else 0.0

        for lane, item in enumerate(sorted(columns[rank], key=key)):
            lanes[item] = lane
    return lanes
