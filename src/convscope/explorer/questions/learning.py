"""Training one step at a time: settings, what a step would change, the step, the way back."""

from __future__ import annotations

import time
from typing import Any

from convscope.errors import ArgumentError
from convscope.explorer.protocol import Arguments, Reply, finite
from convscope.explorer.questions.reading import frame
from convscope.explorer.session import Session, operation
from convscope.explorer.snapshot import Snapshot
from convscope.explorer.stepping import Settings


@operation(anew=True)
def training(session: Session, args: Arguments, payload: bytes) -> Reply:
    with session.lock:  # no fingerprint of weights that are just being changed
        return Reply(finite({"training": session.stepper.describe()}))


@operation(anew=True)
def configure(session: Session, args: Arguments, payload: bytes) -> Reply:
    now = session.stepper.settings
    names = ("rate", "momentum", "decay")
    session.stepper.settings = Settings(**{name: args.number(name, getattr(now, name)) for name in names})
    return training(session, args, payload)


@operation(job=True, latest=True)
def preview(session: Session, args: Arguments, payload: bytes) -> Reply:
    """The step of one weight in numbers, and what the step would do to the outputs; nothing is changed."""
    snapshot = _with_loss(session)
    values: dict[str, Any] = {}
    if "parameter" in args.values:
        values["weight"] = session.stepper.preview(snapshot.gradients, args.text("parameter"), args.index("index"))
    with session.lock:
        loss, after = snapshot.said_by(session.stepper.foreseen(snapshot.gradients))
    assert snapshot.probabilities is not None
    assert after is not None
    values |= {
        "loss_before": snapshot.loss,
        "loss_after": loss,
        "probabilities_before": snapshot.probabilities.tolist(),
        "probabilities_after": after.tolist(),
        "target": snapshot.question.target,
    }
    return Reply(finite(values))


@operation(job=True)
def step(session: Session, args: Arguments, payload: bytes) -> Reply:
    """One step of SGD on the picture shown; the beats of a chosen weight and how far every parameter moved."""
    session.settle()
    snapshot = _with_loss(session)
    weight = None
    if "parameter" in args.values:
        weight = session.stepper.preview(snapshot.gradients, args.text("parameter"), args.index("index"))
    with session.lock:
        moved = session.stepper.step(snapshot.gradients)
        session.surgeon.forget()
        after = session.make_snapshot(session.picture)
        session.snapshot = after
    values = {"weight": weight, "moved": moved, "loss_before": snapshot.loss, "loss_after": after.loss}
    return Reply(finite({**values, "training": session.stepper.describe()}))


@operation(job=True, anew=True)
def rewind(session: Session, args: Arguments, payload: bytes) -> Reply:
    with session.lock:
        session.learner.begin()
        session.stepper.rewind()
        session.surgeon.forget()
        session.snapshot = session.make_snapshot(session.picture)
    return training(session, args, payload)


@operation(anew=True)
def learning(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Where the learning from the data set stands; ``since``, ``run``: what the page has of it already; ``brief``: it
    wants pictures only."""
    since, run = args.integer("since", 0), args.integer("run", -1, -1)
    brief = bool(args.values.get("brief", False))
    told = {**session.learner.describe(since, run, brief), "total": session.stepper.steps}
    return Reply(finite({"learning": told, "version": session.snapshot.version}))


@operation(job=True, anew=True)
def learn(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Go on learning until ``pause``, in minibatches of ``batch``."""
    session.learner.start(args.integer("batch", 32, 1, 1024))
    return learning(session, args, payload)


@operation(anew=True)
def pause(session: Session, args: Arguments, payload: bytes) -> Reply:
    session.learner.pause()
    return learning(session, args, payload)


@operation(job=True, anew=True)
def learn_once(session: Session, args: Arguments, payload: bytes) -> Reply:
    """One step on a minibatch, and the page as it is after it."""
    with session.lock:
        session.learner.once(args.integer("batch", 32, 1, 1024))
        return _looked(session, args, payload)


@operation(job=True, waits=True, anew=True)
def look(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Show the newest weights that the learning has: a frame of them, or only where it stands if there are none;
    ``took`` milliseconds of the steps' time."""
    with session.lock, session.learner.beside():
        began = time.perf_counter()
        shown = (_looked if session.learner.take() else learning)(session, args, payload)
        took = (time.perf_counter() - began) * 1e3
    return Reply({**shown.values, "took": took}, shown.data)


def _looked(session: Session, args: Arguments, payload: bytes) -> Reply:
    session.surgeon.forget()
    session.snapshot = session.make_snapshot(session.picture, lazy=True)
    shown = frame(session, args, payload)
    return Reply({**shown.values, **learning(session, args, payload).values}, shown.data)


def _with_loss(session: Session) -> Snapshot:
    if session.snapshot.loss is None:
        raise ArgumentError("target", None, "a class, so that there is a loss to learn from")
    return session.snapshot
