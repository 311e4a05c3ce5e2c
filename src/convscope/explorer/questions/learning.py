"""Training one step at a time: settings, what a step would change, the step, the way back."""

from __future__ import annotations

from typing import Any

import torch

from convscope.errors import ArgumentError
from convscope.explorer.protocol import Arguments, Reply, finite
from convscope.explorer.session import Session, operation
from convscope.explorer.snapshot import Snapshot
from convscope.explorer.stepping import Settings


@operation()
def training(session: Session, args: Arguments, payload: bytes) -> Reply:
    with session.lock:  # no fingerprint of weights that are just being changed
        return Reply(finite({"training": session.stepper.describe()}))


@operation()
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
        output = session.stepper.foresee(snapshot.gradients, snapshot.question.x)
    target = torch.tensor([snapshot.question.target])
    after = snapshot.shares(output)
    assert snapshot.probabilities is not None
    assert after is not None
    values |= {
        "loss_before": snapshot.loss,
        "loss_after": float(snapshot.objective.value(output, target)),
        "probabilities_before": snapshot.probabilities.tolist(),
        "probabilities_after": after.tolist(),
        "target": snapshot.question.target,
    }
    return Reply(finite(values))


@operation(job=True)
def step(session: Session, args: Arguments, payload: bytes) -> Reply:
    """One step of SGD on the picture shown; the beats of a chosen weight and how far every parameter moved."""
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


@operation(job=True)
def rewind(session: Session, args: Arguments, payload: bytes) -> Reply:
    with session.lock:
        session.stepper.rewind()
        session.learner.begin()
        session.surgeon.forget()
        session.snapshot = session.make_snapshot(session.picture)
    return training(session, args, payload)


@operation(job=True)
def learn(session: Session, args: Arguments, payload: bytes) -> Reply:
    """``steps`` steps on minibatches of the data set (0: only where it stands); the picture shown is traced anew after
    the last of them."""
    steps, batch = args.integer("steps", 1, 0, 50), args.integer("batch", 32, 1, 1024)
    if steps:
        with session.lock:
            for _ in range(steps):
                session.learner.step(session.loss, batch)
            session.surgeon.forget()
            session.snapshot = session.make_snapshot(session.picture)
    return Reply(
        finite({**session.learner.describe(), "steps": session.stepper.steps, "version": session.snapshot.version})
    )


def _with_loss(session: Session) -> Snapshot:
    if session.snapshot.loss is None:
        raise ArgumentError("target", None, "a class, so that there is a loss to learn from")
    return session.snapshot
