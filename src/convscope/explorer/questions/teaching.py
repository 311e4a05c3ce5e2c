"""For teaching: a number's sum as a sheet to fill in by hand."""

from __future__ import annotations

from convscope.explorer.protocol import Arguments, Reply
from convscope.explorer.session import Session, operation

_OF = {"forward": "value", "backward": "delta", "gradient": "gradient"}


@operation(job=True)
def sheet(session: Session, args: Arguments, payload: bytes) -> Reply:
    """The sheet and its key as one HTML document, of a unit's value or δ, or a weight's gradient."""
    from convscope.explorer.lessons.sheet import sheet_of  # imports sessions itself

    direction = args.text("direction", "forward", tuple(_OF))
    layer = args.text("layer")
    name = f"{layer}.{args.text('parameter', 'weight')}" if direction == "gradient" else layer
    place = "/".join([name, *map(str, args.index("index"))])
    terms, lang = args.integer("terms", 12, 1, 60), args.text("lang", "en", ("en", "zh"))
    return Reply({"html": sheet_of(session, place, _OF[direction], terms, lang, args.text("rule", "plain"))})
