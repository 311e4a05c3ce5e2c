"""What mattered for an answer, how far to believe it, and what a unit likes; all of it gives way to other work."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from convscope.errors import ArgumentError
from convscope.explorer import pictures
from convscope.explorer.protocol import Arguments, Reply, finite
from convscope.explorer.session import Climb, Session, operation
from convscope.inspect.attribution import METHODS, Place, Target, attribute, honesty
from convscope.inspect.attribution import maximise as climb
from convscope.inspect.attribution import top_examples as search

MOST_STEPS = 512
MOST_SEARCHED = 20_000


@operation(job=True, latest=True, gives_way=True)
def evidence(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Which pixels speak for a class, a map or a unit, by any method of the registry."""
    snapshot = session.snapshot
    method = args.text("method", "gradient_x_input", tuple(METHODS))
    found = attribute(session.network.graph, snapshot.question.x, **_asked(session, args, method))
    flat = found[0].reshape(-1, *session.desk.picture_shape[1:]).sum(0)
    limit, low, high = pictures.robust_limit(flat)
    header = {"method": method, "shape": list(flat.shape), "limit": limit, "low": low, "high": high}
    return Reply(finite({**header, "version": snapshot.version}), pictures.exact(flat.float()))


@operation(job=True, latest=True, gives_way=True)
def checks(session: Session, args: Arguments, payload: bytes) -> Reply:
    """How far the map of the same arguments can be trusted."""
    snapshot = session.snapshot
    method = args.text("method", "gradient_x_input", tuple(METHODS))
    found = honesty(session.network.graph, snapshot.question.x, **_asked(session, args, method))
    values = {
        "method": method,
        "honest": METHODS[method].honest,
        "deletion": {**dataclasses.asdict(found.deletion), "area": found.deletion.area},
        "insertion": {**dataclasses.asdict(found.insertion), "area": found.insertion.area},
        "by_chance": list(found.by_chance),
        "randomised": [dataclasses.asdict(each) for each in found.randomised],
        "gap": found.gap,
        "version": snapshot.version,
    }
    return Reply(finite(values))


def _asked(session: Session, args: Arguments, method: str) -> dict[str, Any]:
    """Target, loss and options: a class, or a place where a layer is named; covered pixels become an empty picture."""
    snapshot = session.snapshot
    target: Target
    if "layer" in args.values:
        target = Place(snapshot.layer(args.text("layer")).name, *args.index("index"))
    else:
        said = snapshot.predicted if session.detector is None else snapshot.question.target  # a detector's: the box's
        target = args.integer("class", said, 0, max(0, session.output_count() - 1))
    options: dict[str, Any] = {"baseline": session.desk.x(session.desk.blank())} if method == "occlusion" else {}
    return {"target": target, "method": method, "loss": session.loss, "stopped": session.cancelled.is_set, **options}


@operation(job=True, latest=True, gives_way=True)
def likes(session: Session, args: Arguments, payload: bytes) -> Reply:
    """The data set's pictures in which a map is largest, and the part of each that the unit saw, as bytes."""
    data = session.desk.data
    if data is None:
        raise ArgumentError("data", None, "a data set", "Start with --data, for example --data mnist.")
    split = args.text("split", "test", ("train", "test"))
    chosen = session.desk.split(split)
    most = args.integer("most", 2000, 1, MOST_SEARCHED)
    found = search(
        session.network.graph, chosen.images[:most], args.text("layer"), args.integer("map"),
        args.integer("count", 9, 1, 64), takes=session.desk.takes, stopped=session.cancelled.is_set,
    )  # fmt: skip
    described, data_bytes, offset = [], [], 0
    for each in found:
        raw = each.crop.contiguous().numpy().tobytes()
        described.append(
            {
                "index": each.index, "value": each.value, "position": list(each.position),
                "box": [list(side) for side in each.box], "shape": list(each.crop.shape), "offset": offset,
                "class": chosen.classes[int(chosen.labels[each.index])],
            }
        )  # fmt: skip
        data_bytes.append(raw)
        offset += len(raw)
    header = {"split": split, "searched": min(most, len(chosen)), "examples": described}
    return Reply(finite(header), b"".join(data_bytes))


@operation(job=True, latest=True, gives_way=True)
def maximise(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Climb towards the picture that a map or unit likes; ``growing`` tells of it meanwhile."""
    layer, index = session.snapshot.layer(args.text("layer")).name, args.index("index")

    def seen(pixels: Tensor, history: tuple[float, ...]) -> None:
        session.growing = Climb(layer, index, pixels, history)

    found = climb(
        session.network.graph, layer, index, steps=args.integer("steps", 128, 1, MOST_STEPS),
        takes=session.desk.takes, stopped=session.cancelled.is_set, seen=seen,
    )  # fmt: skip
    seen(found.pixels, found.history)
    return growing(session, args, payload)


@operation(anew=True)
def growing(session: Session, args: Arguments, payload: bytes) -> Reply:
    """The climb that runs or ran last: whose it is, its picture, and the unit's value at every step."""
    now = session.growing
    if now is None:
        return Reply({"history": []})
    header = {"layer": now.layer, "index": list(now.index), "history": list(now.history)}
    data = now.pixels.contiguous().numpy().tobytes()
    return Reply(finite({**header, "shape": list(now.pixels.shape)}), data)
