"""Surgery: a weight, a kernel or a map changed, what it does to the answer, and the way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convscope.explorer.protocol import Arguments, Reply, finite
from convscope.explorer.session import Session, operation
from convscope.explorer.snapshot import Snapshot
from convscope.explorer.stepping import with_tensors
from convscope.inspect.attribution.subject import first_tensor

_LIMIT = 1e6


@operation(job=True)
def edit(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Set or scale numbers of a parameter, or silence a whole output map; the answer before any edit, and now."""
    session.settle()
    module = args.text("layer").split(":")[0]
    session.snapshot.layer(args.text("layer"))
    if session.reader is not None:
        session.reader.check_own(module, args.text("parameter", "weight"))
    action = args.text("action", "set", ("set", "scale", "silence"))
    if action == "silence":
        session.surgeon.silence(module, args.integer("map"))
    else:
        value = args.number("value", 0.0, -_LIMIT, _LIMIT)
        session.surgeon.change(module, args.text("parameter", "weight"), args.index("index"), value, action == "scale")
    return _again(session)


@operation(job=True)
def undo(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Take the newest edit back, or with ``all`` every one."""
    session.settle()
    session.surgeon.undo()
    while args.values.get("all") and session.surgeon.edits:
        session.surgeon.undo()
    return _again(session)


@operation(job=True, latest=True)
def edits(session: Session, args: Arguments, payload: bytes) -> Reply:
    return Reply(finite(_state(session)))


def _again(session: Session) -> Reply:
    with session.lock:
        session.stepper.forget_hash()
        session.snapshot = session.make_snapshot(session.picture)
    return Reply(finite(_state(session)))


def _state(session: Session) -> dict[str, Any]:
    """The answer for the picture shown, as it is and as it was before the first edit."""
    snapshot = session.snapshot
    found: dict[str, Any] = {
        "edits": [each.text for each in session.surgeon.edits],
        "hash": session.stepper.weight_hash(),
        "after": _answer(snapshot, snapshot.logits),
    }
    if session.surgeon.edits:
        with torch.no_grad():
            x = snapshot.question.x.clone()
            output = with_tensors(session.model, session.surgeon.originals())(x)
        found["before"] = _answer(snapshot, first_tensor(output))
    return found


def _answer(snapshot: Snapshot, logits: Tensor) -> dict[str, Any] | None:
    if logits.ndim != 2:
        return None
    shares = snapshot.shares(logits)
    return {"logits": logits[0].double().tolist(), "probabilities": None if shares is None else shares.tolist()}
