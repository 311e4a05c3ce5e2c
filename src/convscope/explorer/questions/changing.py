"""What runs the network anew: another picture, target or loss; effective fields, a nudged weight."""

from __future__ import annotations

import copy

import torch

from convscope.errors import ArgumentError, ConvscopeError, UnknownNameError
from convscope.explorer import pictures
from convscope.explorer.protocol import Arguments, Reply, finite
from convscope.explorer.questions.reading import frame
from convscope.explorer.sentences import Sentence, SentenceDesk, TranslationReader
from convscope.explorer.session import LOSS_NAMES, NUDGE_DOUBLE_LIMIT, Session, operation
from convscope.explorer.snapshot import check_index
from convscope.graph import replay
from convscope.layers.losses import LOSSES


@operation(job=True, latest=True, anew=True)
def show_data(session: Session, args: Arguments, payload: bytes) -> Reply:
    split = args.text("split", "test", ("train", "test"))
    chosen = session.desk.split(split)
    index = args.integer("index", 0, 0, len(chosen) - 1) if "index" in args.values else 0
    if "class" in args.values:  # the next item of that class after ``index``
        cls = args.integer("class", 0, 0, len(chosen.classes) - 1)
        places = torch.nonzero(chosen.labels == cls).flatten()
        if not len(places):
            raise ArgumentError("class", cls, "a class that the split has items of")
        later = places[places > index]
        index = int(later[0] if len(later) else places[0])
    session.show(session.desk.from_data(split, index))
    return frame(session, args, payload)


@operation(job=True, latest=True, anew=True)
def show_pixels(session: Session, args: Arguments, payload: bytes) -> Reply:
    session.show(session.desk.from_pixels(payload, args.text("kind", "drawn", ("drawn", "shared", "blank", "lesson"))))
    return frame(session, args, payload)


@operation(job=True, latest=True, anew=True)
def show_sentence(session: Session, args: Arguments, payload: bytes) -> Reply:
    """A sentence typed on the page."""
    if not isinstance(session.desk, SentenceDesk):
        raise ArgumentError("model", session.name, "a model that reads sentences")
    kind, begun = args.text("kind", "typed", ("typed", "shared")), args.text("begun", "")
    session.show(session.desk.from_text(args.text("text"), kind, begun))
    return frame(session, args, payload)


@operation(job=True)
def next_token(session: Session, args: Arguments, payload: bytes) -> Reply:
    """The translation so far with the token that the network says comes next."""
    if not isinstance(session.reader, TranslationReader):
        raise ArgumentError("model", session.name, "a model that translates")
    assert isinstance(session.picture, Sentence)
    assert session.snapshot.predicted is not None
    session.show(session.reader.next(session.picture, session.snapshot.predicted))
    return frame(session, args, payload)


@operation(job=True)
def poke(session: Session, args: Arguments, payload: bytes) -> Reply:
    place = [args.integer(name, 0) for name in ("channel", "row", "column", "value")]
    session.show(session.desk.poke(session.picture, *place))
    return frame(session, args, payload)


@operation(job=True)
def ask(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Choose the class and the loss of the backward pass; no class: the label, or what the network says."""
    target = args.optional_integer("target")
    if target is not None and target >= session.output_count():
        raise ArgumentError("target", target, f"one of the {session.output_count()} classes")
    loss = args.text("loss", session.loss, tuple(name for name in LOSS_NAMES if name in LOSSES))
    before = (session.target, session.target_chosen, session.loss)
    session.target, session.target_chosen, session.loss = target, target is not None, loss
    try:
        session.retrace()
    except (ConvscopeError, RuntimeError):
        session.target, session.target_chosen, session.loss = before
        raise
    return frame(session, args, payload)


@operation(job=True, latest=True)
def effective(session: Session, args: Arguments, payload: bytes) -> Reply:
    """|∂y_unit/∂x| summed over the input's channels: where the unit really looks."""
    snapshot = session.snapshot
    layer, unit = snapshot.unit(args.text("layer"), args.index("index"))
    gradient = replay.unit_gradient(session.network.graph, snapshot.question.x, layer.name, unit)
    flat = gradient[0].reshape(session.desk.picture_shape)
    found = flat.abs().sum(0)
    hit = torch.nonzero(found)
    box = [[int(hit[:, d].min()), int(hit[:, d].max()) + 1] for d in (0, 1)] if len(hit) else None
    header = {"layer": layer.name, "index": list(unit), "shape": list(found.shape), "box": box}
    limit, low, high = pictures.robust_limit(found)
    return Reply(finite({**header, "limit": limit, "low": low, "high": high}), pictures.exact(found.float()))


@operation(job=True)
def nudge(session: Session, args: Arguments, payload: bytes) -> Reply:
    """The loss before and after a weight is moved by ε, beside the prediction g·ε; the weight is put back."""
    snapshot, name, parameter = session.snapshot, args.text("layer"), args.text("parameter", "weight")
    snapshot.complete()
    layer, index = snapshot.layer(name), args.index("index")
    epsilon = args.number("epsilon", 1e-3, -10, 10)
    if snapshot.loss is None or parameter not in layer.gradients:
        raise UnknownNameError("parameter", parameter, layer.gradients)
    check_index("index", index, tuple(layer.gradients[parameter].shape))
    g = float(layer.gradients[parameter][index])
    with session.lock:
        small = sum(item.numel() for item in session.model.parameters()) <= NUDGE_DOUBLE_LIMIT
        model = copy.deepcopy(session.model)
    model = model.double() if small else model
    x = snapshot.question.x.double() if small else snapshot.question.x
    loss, target = snapshot.objective, torch.tensor([snapshot.question.target])
    with torch.no_grad():
        before = float(loss.value(model(x.clone()), target))
        model.get_submodule(name.split(":")[0]).get_parameter(parameter)[index] += epsilon
        after = float(loss.value(model(x.clone()), target))
    values = {"before": before, "after": after, "change": after - before, "predicted": g * epsilon}
    return Reply(finite({**values, "gradient": g, "epsilon": epsilon}))
