"""Answers that are read from the snapshot: pictures, exact numbers, sums, receptive fields, code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ArgumentError, UnknownNameError
from convscope.explorer import pictures, snippets
from convscope.explorer.apart import take_apart, unflattened, unfolding
from convscope.explorer.apart_backward import take_back
from convscope.explorer.arithmetic import BACKWARD_RULES, Explanation
from convscope.explorer.arithmetic.families import facts
from convscope.explorer.layout import lay_out
from convscope.explorer.network import INPUT
from convscope.explorer.protocol import Arguments, Reply, finite
from convscope.explorer.sentences import ANSWERS
from convscope.explorer.session import LOSS_NAMES, Session, operation
from convscope.explorer.snapshot import Snapshot, check_index
from convscope.inspect.attribution import METHODS
from convscope.layers.losses import LOSSES
from convscope.spec import spec_of


@operation(anew=True)
def hello(session: Session, args: Arguments, payload: bytes) -> Reply:
    described = spec_of(session.model)
    data = session.desk.data
    parameters = sum(item.numel() for item in session.model.parameters())
    snapshot = session.snapshot
    network = snapshot.network
    nodes = network.describe(snapshot.layers)
    for node in nodes:
        layer = snapshot.layers[node["name"]]
        if len(layer.inputs[0].shape) == 2:
            node["unfold"] = unfolding(layer.inputs[0].shape[1], unflattened(snapshot, layer))
    return Reply(
        {
            "model": {
                "name": session.name,
                "architecture": described.architecture if described is not None else None,
                "parameters": parameters,
                "described": described is not None and described.preprocessing is not None,
                "known_from": session.desk.known_from,
            },
            "input_shape": list(network.input_shape),
            "picture_shape": list(session.desk.picture_shape),
            "fit": session.desk.preprocessing.fit,
            "classes": session.classes,
            "losses": [name for name in LOSS_NAMES if name in LOSSES],
            "families": facts(),
            "attributions": list(METHODS),
            "nodes": nodes,
            "output": network.output,
            "layout": lay_out(network, session.unfolded),
            "data": None
            if data is None
            else {
                "name": data.name,
                "train": len(data.train),
                "test": len(data.test),
                "classes": list(data.train.classes),
            },
            **({} if session.detector is None else {"detector": session.detector.describe()}),
            **(
                {}
                if session.reader is None
                else {"sentences": True, "translates": session.reader.translates, "answers": list(ANSWERS)}
            ),
            **({} if session.lesson is None else {"lesson": dict(session.lesson)}),
        }
    )


@operation(anew=True)
def newest(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Which version of picture and model stands by now."""
    return Reply({"version": session.snapshot.version})


@operation(anew=True)
def fingerprint(session: Session, args: Arguments, payload: bytes) -> Reply:
    """What tells the model apart from others: its name and the hash of its weights."""
    return Reply({"name": session.name, "hash": session.stepper.weight_hash()})


@operation(anew=True)
def layout(session: Session, args: Arguments, payload: bytes) -> Reply:
    return Reply({"layout": lay_out(session.network, args.texts("unfolded"))})


@operation(anew=True)
def frame(session: Session, args: Arguments, payload: bytes) -> Reply:
    """State of the current picture, and the tiles of every layer asked for, of one quantity."""
    snapshot = session.snapshot
    kind = args.text("quantity", "activation", pictures.QUANTITIES)
    rule = args.text("rule", "plain")
    wanted = args.texts("layers") or tuple(snapshot.layers)
    deltas = snapshot.deltas(rule) if kind == "delta" else {}
    if kind == "gradient":
        snapshot.complete()
    described, data, offset = [], [], 0
    if args.values.get("picture", True):
        raw = session.picture.pixels.cpu().contiguous().numpy().tobytes()
        described.append({"layer": INPUT, "pixels": True, "shape": list(session.picture.pixels.shape[1:]), "offset": 0})
        data.append(raw)
        offset = len(raw)
    came_back = _input_delta(session, snapshot, rule) if kind == "delta" else None
    if came_back is not None:
        found = pictures.tiles(came_back, stop=1)
        described.append({"layer": INPUT, **found.describe(), "offset": offset})
        data.append(found.data)
        offset += len(found.data)
    for name in wanted:
        if name == INPUT:
            continue
        seen = _tiles(snapshot, name, kind, rule, deltas)
        if seen is None:
            described.append({"layer": name, "none": True})
            continue
        described.append({"layer": name, **seen.describe(), "offset": offset})
        data.append(seen.data)
        offset += len(seen.data)
    header = {"quantity": kind, "rule": rule, "tiles": described, **_state(session, snapshot)}
    last = deltas.get(session.network.output)
    header["output_delta"] = None if last is None or last.ndim != 2 else last[0].double().tolist()
    return Reply(finite(header), b"".join(data))


def _tiles(snapshot: Snapshot, name: str, kind: str, rule: str, deltas: Mapping[str, Tensor]) -> pictures.Tiles | None:
    """A layer's pictures in the overview; None where it has none of this kind."""
    layer = snapshot.layer(name)

    def make() -> pictures.Tiles | None:
        maps = pictures.quantity(layer, kind, deltas.get(name), unflattened(snapshot, layer))
        if maps is None or not maps.numel():
            return None
        return pictures.tiles(maps, stop=4096 if maps.shape[1] * maps.shape[2] == 1 else pictures.OVERVIEW_TILES)

    if kind not in ("activation", "delta"):  # weights are the model's own, which change under a snapshot
        return make()
    return snapshot.tiles(kind, name, rule if kind == "delta" else "", make)


def _input_delta(session: Session, snapshot: Snapshot, rule: str) -> Tensor | None:
    """What comes back to every pixel as one picture (1, rows, columns): its channels moved together."""
    found = snapshot.at_input(rule)
    return None if found is None else found[0].reshape(session.desk.picture_shape).sum(0, keepdim=True)


def _state(session: Session, snapshot: Snapshot) -> dict[str, Any]:
    probabilities = snapshot.probabilities
    logits = snapshot.logits[0].detach().double().flatten() if snapshot.logits.ndim == 2 else None
    return {
        "version": snapshot.version,
        "input_shape": list(snapshot.network.input_shape),
        "predicted": snapshot.predicted,
        "target": snapshot.question.target,
        "target_chosen": session.target_chosen,
        "loss_name": session.loss,
        "loss": snapshot.loss,
        "label": session.picture.label,
        "source": session.picture.source,
        "probabilities": None if probabilities is None else probabilities.tolist(),
        "logits": None if logits is None else logits.tolist(),
        "steps": session.stepper.steps,
    }


@operation()
def grid(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Tiles ``start`` … ``stop`` of one layer, for the opened layer's grid; ``order`` sorts the maps."""
    snapshot = session.snapshot
    kind = args.text("quantity", "activation", pictures.QUANTITIES)
    if kind in ("delta", "gradient"):
        snapshot.complete()
    layer = snapshot.layer(args.text("layer"))
    delta = snapshot.deltas(args.text("rule", "plain")).get(layer.name) if kind == "delta" else None
    maps = pictures.quantity(layer, kind, delta, unflattened(snapshot, layer))
    if maps is None:
        raise ArgumentError("quantity", kind, "one that this layer has")
    order = args.text("order", "index", ("index", "largest", "mean"))
    ranked = list(range(len(maps)))
    if order != "index":
        flat = maps.detach().flatten(1).abs()
        ranked = (flat.amax(1) if order == "largest" else flat.mean(1)).argsort(descending=True).tolist()
    start, stop = args.integer("start", 0), args.integer("stop", 512)
    picked = maps[ranked] if order != "index" else maps
    found = pictures.tiles(picked, start, min(stop, start + 4096), args.integer("side", 28, 1, 256))
    dead = int((maps.detach().flatten(1) == 0).all(1).sum())
    header = {"layer": layer.name, "quantity": kind, "start": start, "ranked": ranked[start:stop], "dead": dead}
    return Reply(finite({**header, **found.describe(), "version": snapshot.version}), found.data)


@operation()
def values(session: Session, args: Arguments, payload: bytes) -> Reply:
    """Exact numbers: one map of a layer (activation or δ), a parameter, its gradient, or the input."""
    snapshot = session.snapshot
    name = args.text("layer")
    kind = args.text("quantity", "activation", (*pictures.QUANTITIES, "u"))
    number = args.integer("map", 0)
    if kind in ("delta", "gradient"):
        snapshot.complete()
    if name == INPUT:
        maps = snapshot.question.x[0].reshape(session.desk.picture_shape)
        came_back = _input_delta(session, snapshot, args.text("rule", "plain")) if kind == "delta" else None
        if came_back is not None:
            maps = came_back
    elif kind in ("weight", "gradient"):
        layer = snapshot.layer(name)
        parameter = args.text("parameter", "weight")
        known = dict(layer.module.named_parameters()) if layer.module is not None else {}
        source = known if kind == "weight" else layer.gradients
        if parameter not in source:
            raise UnknownNameError("parameter", parameter, source)
        found = source[parameter].detach()
        part = found[number : number + 1] if found.ndim else found
        return Reply(_described(name, kind, number, part, snapshot), pictures.exact(part))
    else:
        layer = snapshot.layer(name)
        deltas = snapshot.deltas(args.text("rule", "plain")) if kind == "delta" else {}
        tensor = layer.y if kind == "activation" else layer.u if kind == "u" else deltas.get(name)
        if tensor is None:
            raise ArgumentError("quantity", kind, "one that this layer has")
        maps = pictures.as_maps(tensor[0])
    if number >= len(maps):
        raise ArgumentError("map", number, f"0…{len(maps) - 1}")
    part = maps[number].detach()
    return Reply(_described(name, kind, number, part, snapshot), pictures.exact(part))


def _described(name: str, kind: str, number: int, part: Tensor, snapshot: Snapshot) -> dict[str, Any]:
    described = {"layer": name, "quantity": kind, "map": number, "shape": list(part.shape)}
    return {**described, "dtype": "f8" if part.dtype == torch.float64 else "f4", "version": snapshot.version}


@operation()
def elastic(session: Session, args: Arguments, payload: bytes) -> Reply:
    layer = session.snapshot.layer(args.text("layer"))
    count = len(pictures.as_maps(layer.y[0]))
    number = args.integer("map", 0)
    if number >= count:
        raise ArgumentError("map", number, f"0…{count - 1}, one of the layer's maps")
    start = args.integer("start", 0, 0)
    if args.text("direction", "forward", ("forward", "backward")) == "backward" and session.snapshot.loss is not None:
        header, data = take_back(session.snapshot, layer.name, number, args.text("rule", "plain"), start)
    else:
        kernel = args.index("kernel") if "kernel" in args.values else None
        header, data = take_apart(session.snapshot, layer.name, number, start, kernel)
    return Reply(finite(header), data)


@operation()
def explain(session: Session, args: Arguments, payload: bytes) -> Reply:
    """The arithmetic of a unit's value, a unit's δ, a weight's gradient, or ∂J/∂x of the input."""
    snapshot, name = session.snapshot, args.text("layer")
    direction = args.text("direction", "forward", ("forward", "backward", "gradient"))
    index = args.index("index")
    with session.lock:
        if direction == "forward":
            found: Explanation = snapshot.forward(name, index)
        elif direction == "backward" and name == INPUT:
            found = snapshot.input_delta(index, args.text("rule", "plain"))
        elif direction == "backward":
            found = snapshot.backward(name, index, args.text("rule", "plain"))
        else:
            if session.reader is not None:
                session.reader.check_own(name, args.text("parameter", "weight"))
            found = snapshot.gradient(name, args.text("parameter", "weight"), index)
    page = found.page(args.integer("offset", 0), args.integer("limit", 24, 1, 5000))
    after = snapshot.network.activation_after(name) if direction == "forward" else None
    if after is not None:
        page["activation"] = {"layer": after, "kind": snapshot.layers[after].kind}
        page["activation"]["value"] = float(snapshot.layers[after].y[(0, *index)])
    page["shape"] = list(session.network.input_shape if name == INPUT else session.network.nodes[name].shape)
    page["version"] = snapshot.version
    return Reply(finite(page))


@operation(job=True)
def field(session: Session, args: Arguments, payload: bytes) -> Reply:
    """The receptive field of a unit on every map before it; for the input, what a pixel reaches."""
    name, index = args.text("layer"), args.index("index")
    if session.detector is not None:
        session.detector.check_field(list(session.network.nodes), name)
    reach = session.reach()
    if name == INPUT:
        check_index("index", index, session.network.input_shape[1:])
        return Reply(finite({"direction": "forward", "layer": name, **reach.of_pixel(index)}))
    layer, unit = session.snapshot.unit(name, index)
    return Reply(finite({"direction": "backward", "layer": layer.name, **reach.of_unit(name, unit)}))


@operation()
def stages(session: Session, args: Arguments, payload: bytes) -> Reply:
    described, data, offset = [], [], 0
    for stage in session.picture.stages:
        raw = stage.picture.contiguous().numpy().tobytes()
        values = dict(stage.values)
        described.append(
            {"name": stage.name, "values": values, "shape": list(stage.picture.shape[1:]), "offset": offset}
        )
        data.append(raw)
        offset += len(raw)
    return Reply(finite({"stages": described, "source": session.picture.source}), b"".join(data))


@operation(job=True)
def snippet(session: Session, args: Arguments, payload: bytes) -> Reply:
    """ "Copy as PyTorch"; ``needs_file`` where the model is too large to stand in the code."""
    snapshot = session.snapshot
    kinds = ("activation", "input", "delta", "weight", "gradient", "logit", "probability", "loss")
    asked: dict[str, Any] = {"kind": args.text("kind", None, kinds)}
    before = None
    if asked["kind"] in ("activation", "delta", "weight", "gradient"):
        if asked["kind"] == "delta" and args.text("layer") == INPUT:  # ∂J/∂x
            name, before = INPUT, INPUT
        else:
            layer = snapshot.layer(args.text("layer"))
            name, before = layer.name, layer.sources[0] if layer.delta_at_input else None
        asked |= {"layer": name, "index": list(args.index("index"))}
        if asked["kind"] == "delta":
            asked["rule"] = args.text("rule", "plain", BACKWARD_RULES)
        if asked["kind"] in ("weight", "gradient"):
            asked["parameter"] = args.text("parameter", "weight")
    elif asked["kind"] in ("logit", "probability", "input"):
        asked["index"] = list(args.index("index"))
    file = session.saved_model()
    code = snippets.snippet(
        model_file=file,
        pixels=session.picture.pixels,
        mean=session.desk.preprocessing.mean,
        std=session.desk.preprocessing.std,
        input_shape=session.network.input_shape,
        loss=session.loss,
        target=snapshot.question.target,
        asked=asked,
        before=before,
        end=snapshot.end,
        rectifiers=snapshot.rectifiers,
    )
    return Reply({"code": code, "needs_file": file.stat().st_size > snippets.EMBEDDED_BYTES})
