"""How much one query of a layer of attention looks at one key, down to the numbers that both are made of."""

from __future__ import annotations

from typing import Any

from convscope.explorer.arithmetic import attention
from convscope.explorer.protocol import Arguments, Reply, finite
from convscope.explorer.session import Session, operation


@operation()
def weigh(session: Session, args: Arguments, payload: bytes) -> Reply:
    """The weight as a softmax over the keys and the score as q·k/√e; with ``channel`` also that number of ``which``,
    the query or the key, as a sum over its place."""
    layer = session.snapshot.layer(args.text("layer"))
    head, query, key = (args.integer(name) for name in ("head", "query", "key"))
    limit = args.integer("limit", 12, 1, 5000)
    found: dict[str, Any] = {
        "weight": attention.explain_weight(layer, head, query, key).page(0, limit),
        "score": attention.explain_score(layer, head, query, key).page(0, limit),
        "version": session.snapshot.version,
    }
    channel = args.optional_integer("channel")
    if channel is not None:
        which = args.text("which", "query", ("query", "key"))
        place = query if which == "query" else key
        found["number"] = attention.explain_projection(layer, which, head, place, channel).page(0, limit)
    return Reply(finite(found))
