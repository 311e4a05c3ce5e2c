"""What differs between what is shown and a pinned picture or another checkpoint; a film of many checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convscope.errors import ArgumentError, UnknownNameError
from convscope.explorer import beside as comparing
from convscope.explorer import pictures
from convscope.explorer.network import named_parameters
from convscope.explorer.protocol import Arguments, Reply, finite
from convscope.explorer.session import Session, operation
from convscope.inspect.attribution.subject import first_tensor

PINNED = "pinned"
MOST_MAPS = 64


@operation(job=True)
def pin(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Keep the picture shown, to compare others with it."""
    session.pinned = session.picture
    return besides(session, args, payload)


@operation()
def besides(session: Session, args: Arguments, payload: bytes) -> Reply:
    """What can be compared with."""
    pinned = session.pinned
    names = [each.name for each in session.besides]
    return Reply(finite({"checkpoints": names, "pinned": None if pinned is None else pinned.source}))


@operation(job=True, latest=True)
def beside(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Layer by layer how far another checkpoint, or the pinned picture, is from what is shown; with ``layer`` its maps
    as tiles: shown, other (about the same limit), and their difference."""
    snapshot, which = session.snapshot, args.text("which")
    names = list(snapshot.layers)
    shown = {name: layer.y for name, layer in snapshot.layers.items()}
    parameters: list[comparing.Apart] = []
    if which == PINNED:
        if session.pinned is None:
            raise ArgumentError("which", PINNED, "a picture that was pinned before")
        other, theirs = comparing.outputs_of(session.network.graph, session.desk.x(session.pinned)), {}
    else:
        chosen = _checkpoint(session, which)
        other = comparing.outputs_of(chosen.graph, snapshot.question.x)
        parameters = comparing.parameters_apart(session.model, chosen.model)
        theirs = dict(chosen.model.named_parameters())
    header: dict[str, Any] = {
        "which": which,
        "layers": comparing.as_values(comparing.apart(shown, other, names)),
        "parameters": comparing.as_values(parameters),
        "probabilities": _shares(snapshot.probabilities),
        "probabilities_other": _shares(snapshot.shares(other[session.network.output])),
        "version": snapshot.version,
    }
    data = b""
    if "layer" in args.values:
        layer = snapshot.layer(args.text("layer"))
        one, two = (pictures.as_maps(each[layer.name][0]) for each in (shown, other))
        apart = [comparing.differing("", one, two)]
        for name, parameter in named_parameters(layer.module):
            their = theirs.get(f"{layer.name.split(':')[0]}.{name}")
            if their is not None and parameter.ndim:
                apart.append(comparing.differing(name, parameter, their))
        one, two = one[:MOST_MAPS], two[:MOST_MAPS]
        both = pictures.tiles(torch.cat([one, two]), stop=2 * MOST_MAPS)
        difference = pictures.tiles(two - one, stop=MOST_MAPS)
        header |= {"layer": layer.name, "maps": len(one), "both": both.describe(), "difference": difference.describe()}
        header["apart"] = apart
        header["difference_offset"] = len(both.data)
        data = both.data + difference.data
    return Reply(finite(header), data)


@operation(job=True, latest=True)
def film(session: Session, args: Arguments, payload: bytes) -> Reply:
    """One layer's maps, or its kernels, and the answer, for every checkpoint in turn, all about the same limit."""
    snapshot = session.snapshot
    layer = snapshot.layer(args.text("layer"))
    quantity = args.text("quantity", "activation", ("activation", "weight"))
    frames, described = [], []
    for each in session.besides:
        with torch.no_grad():
            outputs = comparing.outputs_of(each.graph, snapshot.question.x)
            answer = first_tensor(each.model(snapshot.question.x.clone()))
        if quantity == "activation":
            maps = pictures.as_maps(outputs[layer.name][0])
        else:
            weight = dict(each.model.named_parameters()).get(f"{layer.name.split(':')[0]}.weight")
            if weight is None:
                raise ArgumentError("quantity", "weight", f"activation, as {layer.name} has no weight")
            maps = pictures.kernels(layer, weight.detach())
        frames.append(maps[:MOST_MAPS])
        described.append({"name": each.name, "probabilities": _shares(snapshot.shares(answer))})
    if not frames:
        raise ArgumentError("beside", 0, "checkpoints", "Start with --beside FILE, once for each.")
    found = pictures.tiles(torch.cat(frames), stop=len(frames) * MOST_MAPS)
    header = {"layer": layer.name, "quantity": quantity, "maps": len(frames[0]), "frames": described}
    return Reply(finite({**header, **found.describe(), "version": snapshot.version}), found.data)


def _checkpoint(session: Session, name: str) -> comparing.Beside:
    for each in session.besides:
        if each.name == name:
            return each
    raise UnknownNameError("which", name, [PINNED, *(each.name for each in session.besides)])


def _shares(found: Tensor | None) -> list[float] | None:
    return None if found is None else found.tolist()
