"""What a saved page needs to compute a model by itself: layers, options, weights, pictures, figures to check it by."""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convscope import layers as own
from convscope.errors import ArgumentError
from convscope.explorer.arithmetic import Layer
from convscope.explorer.arithmetic.forward import formula_of
from convscope.explorer.protocol import Arguments, finite
from convscope.explorer.questions.reading import hello
from convscope.explorer.session import Session
from convscope.graph.calls import walk
from convscope.inspect.attribution.subject import first_tensor
from convscope.layers.activations import activation_rule
from convscope.layers.losses import RBFLoss, SquaredError, loss_for
from convscope.rules.elementwise import ELEMENTWISE, Elementwise, row_of
from convscope.rules.softmax import Softmax

FUNCTIONS = (
    "linear", "relu", "relu6", "leaky_relu", "elu", "sigmoid", "scaled_sigmoid", "tanh", "scaled_tanh", "softsign",
    "hardtanh", "hardsigmoid", "hardswish", "silu", "softplus",
)  # fmt: skip
"""The element-wise functions that ``offline/functions.js`` has."""
LOSSES = ("cross_entropy", "squared_error", "mean_squared_error", "rbf")
_CLASSES: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv2d, own.Conv2d, own.TableConv2d),
    "linear": (nn.Linear,),
    "max_pool": (nn.MaxPool2d,),
    "min_pool": (own.MinPool2d,),
    "mean_pool": (nn.AvgPool2d,),
    "sum_pool": (own.SumPool2d,),
    "adaptive_mean_pool": (nn.AdaptiveAvgPool2d,),
    "subsample": (own.Subsample2d,),
    "rbf": (own.RBF,),
    "batch_norm": (nn.BatchNorm1d, nn.BatchNorm2d),
    "softmax": (nn.Softmax,),
}
_PLAIN = ("identity", "reshape", "add", "activation")
_WANTED = (
    "convolutions, pooling, fully connected layers, activations, batch normalisation, dropout, flattening, sums, "
    "softmax and RBF outputs of pictures"
)
_PICTURES = 24
_PICTURE_BYTES = 1_000_000


def plan_of(session: Session, lang: str | None = None, lesson: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The model, the picture shown and some pictures of the data, as JSON values; the ``lesson``'s among them.

    Raises ArgumentError for a layer, a loss or an output that the page cannot compute, by its name.
    """
    session.check_pictures("save")
    _check_graph(session)
    weights = _Weights()
    described = finite(dict(hello(session, Arguments({}), b"").values))
    ops = {name: _op(layer, weights) for name, layer in session.snapshot.layers.items()}
    lesson = lesson if lesson is not None else session.lesson
    items, source = _pictures(session, items_of(lesson) if lesson is not None else [])
    data = session.desk.data
    described |= {
        "losses": list(LOSSES),
        "attributions": [],
        **({} if lesson is None else {"lesson": dict(lesson)}),
        "data": {"name": data.name, "train": 0, "test": len(items), "classes": list(data.train.classes)}
        if data is not None and items
        else None,
    }
    logits = _exact_logits(session)
    return {
        "hello": described,
        "ops": ops,
        "output": session.network.output,
        "weights": weights.packed(),
        "mean": list(session.desk.preprocessing.mean),
        "std": list(session.desk.preprocessing.std),
        "ending": _ending(session),
        "losses": {name: _loss_options(name, session.model) for name in LOSSES},
        "loss": session.loss,
        "target": session.target,
        "target_chosen": session.target_chosen,
        "label": session.picture.label,
        "pixels": _base64(session.picture.pixels),
        "source": source,
        "items": items,
        "check": {"logits": logits, "tolerance": 1e-8 * (1 + max(abs(value) for value in logits))},
        "lang": lang,
    }


class _Weights:
    """All tensors of the layers one behind another, float32."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0

    def add(self, name: str, tensor: Tensor) -> dict[str, Any]:
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ArgumentError("model", f"{name} of {tensor.dtype}", "weights that float32 holds exactly")
        values = tensor.detach().cpu().float()
        placed = {"shape": list(values.shape), "offset": self._count}
        self._parts.append(values.contiguous().numpy().astype("<f4").tobytes())
        self._count += values.numel()
        return placed

    def packed(self) -> str:
        return base64.b64encode(b"".join(self._parts)).decode()


def _check_graph(session: Session) -> None:
    """Every call of the model must be one that is shown and that the page has a kind for."""
    network = session.network
    for step in walk(session.model, network.input_shape):
        if step.name not in network.nodes and step.output_shape is not None:
            raise _refused(step.name, step.kind)
    for source in network.hidden:
        raise _refused(source, "read by a call that is not shown")
    shape = network.nodes[network.output].shape
    if len(shape) != 1 or shape[0] < 2 or network.readers[network.output]:
        raise ArgumentError("model", f"outputs {shape}", "one number for each of at least two classes")
    if session.loss not in LOSSES:
        raise ArgumentError("loss", session.loss, f"one that a saved page computes: {', '.join(LOSSES)}")


def _refused(name: str, kind: str) -> ArgumentError:
    return ArgumentError(
        "model", f"layer {name!r} ({kind})", f"only layers that a saved page computes by itself: {_WANTED}",
        "Without --save the explorer shows it.",
    )  # fmt: skip


def _op(layer: Layer, weights: _Weights) -> dict[str, Any]:
    """The options and tensors of one layer; ArgumentError where the page has no such layer."""
    module: Any = layer.module
    if not _computed(layer):
        raise _refused(layer.name, layer.kind)
    known = dict(module.named_parameters()) if module is not None else {}
    if ":" in layer.name and known:
        raise _refused(layer.name, f"{layer.kind}, whose weights are used twice")
    tensors = {name: weights.add(f"{layer.name}.{name}", value) for name, value in known.items()}
    op: dict[str, Any] = {"tensors": tensors, "frozen": [name for name in known if not known[name].requires_grad]}
    match layer.family:
        case "conv":
            table = getattr(module, "table", None)
            op |= {
                "groups": int(getattr(module, "groups", 1)),
                "flip": bool(getattr(module, "flip_kernel", False)),
                "in_channels": int(module.in_channels),
                "table": table.nonzero().tolist() if isinstance(table, Tensor) else None,
            }
        case "mean_pool":
            op |= {"count_include_pad": bool(module.count_include_pad), "divisor": module.divisor_override}
        case "subsample":
            op |= {"activation": _function(layer, activation_rule(module.activation)), "label": module.activation}
        case "activation":
            op |= {"activation": _function(layer, layer.rule), "formula": formula_of(layer)}
        case "batch_norm":
            op["eps"] = float(module.eps)
            op["tensors"] |= {
                "mean": weights.add(f"{layer.name}.running_mean", module.running_mean),
                "variance": weights.add(f"{layer.name}.running_var", module.running_var),
            }
        case "rbf":
            op["tensors"]["codes"] = weights.add(f"{layer.name}.weight", module.weight)
    return op


def _computed(layer: Layer) -> bool:
    """Whether the page's arithmetic of the layer is torch's, by exact class, shape and options."""
    shapes = [tuple(value.shape) for value in layer.inputs]
    if layer.family in _CLASSES:
        if type(layer.module) not in _CLASSES[layer.family]:
            return False
    elif layer.family not in _PLAIN:
        return False
    match layer.family:
        case "linear" | "rbf":
            return len(shapes[0]) == 2
        case "softmax":
            module: Any = layer.module
            return len(shapes[0]) == 2 and module.dim in (1, -1)
        case "add":
            plain = not any(isinstance(item, int | float) for item in (*layer.arguments, *layer.keywords.values()))
            return plain and all(shape == tuple(layer.y.shape) for shape in shapes)
        case "activation":
            row = row_of(layer.module, layer.function)
            return row is not None and row.name in FUNCTIONS
        case "identity" | "reshape":
            return len(shapes) == 1 and layer.inputs[0].numel() == layer.y.numel()
        case _:
            return len(layer.y.shape) == 4 or (layer.family == "batch_norm" and len(layer.y.shape) == 2)


def _function(layer: Layer, rule: Any) -> dict[str, Any]:
    names = [name for name in ELEMENTWISE if ELEMENTWISE[name].rule is type(rule)]
    if not isinstance(rule, Elementwise) or not names or names[0] not in FUNCTIONS:
        raise _refused(layer.name, f"{layer.kind} with {type(rule).__name__}")
    return {"name": names[0], "options": {name: getattr(rule, name) for name in ELEMENTWISE[names[0]].options}}


def _ending(session: Session) -> dict[str, Any] | None:
    end = session.snapshot.end
    if isinstance(end, Softmax):
        return {"kind": "softmax"}
    limits = end.limits() if isinstance(end, Elementwise) else None
    return None if limits is None else {"kind": "limits", "low": limits[0], "high": limits[1]}


def _loss_options(name: str, model: nn.Module) -> dict[str, float]:
    loss = loss_for(name, model)
    if isinstance(loss, SquaredError):
        return {"low": loss.low, "high": loss.high}
    return {"j": loss.j} if isinstance(loss, RBFLoss) else {}


def exact_model(session: Session) -> nn.Module:
    """The model in float64, a copy."""
    return copy.deepcopy(session.model).double().eval()


def exact_input(session: Session, pixels: Tensor | None = None) -> Tensor:
    """The picture shown as the model's input, normalised in float64, (1, …)."""
    wanted = session.desk.preprocessing
    mean, std = (torch.tensor(each, dtype=torch.float64).reshape(1, -1, 1, 1) for each in (wanted.mean, wanted.std))
    shown = (session.picture.pixels if pixels is None else pixels).double()
    return ((shown - mean * 255) / (std * 255)).reshape(1, *session.network.input_shape)


def _exact_logits(session: Session) -> list[float]:
    with torch.no_grad():
        output = first_tensor(exact_model(session)(exact_input(session)))
    found: list[float] = output[0].tolist()
    if not all(np.isfinite(found)):
        raise ArgumentError("model", "outputs that are not finite", "finite numbers for the picture shown")
    return found


def items_of(lesson: Mapping[str, Any]) -> list[int]:
    """The test pictures that a lesson shows, by their numbers in the data set."""
    states = [state for stop in lesson["steps"] for state in (stop["state"], stop["then"]) if state]
    states += [state["train"] for state in states if "train" in state]
    return list(dict.fromkeys(state["item"] for state in states if "item" in state))


def _pictures(session: Session, needed: Sequence[int]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The test pictures needed and some more of every class, the one that is shown first; where that one comes from."""
    shown, data = session.picture, session.desk.data
    source = dict(shown.source)
    if data is None:
        return [], source
    indices: list[int] = []
    if source.get("kind") == "data" and source.get("split") == "test" and not source.get("edited"):
        indices.append(int(source["index"]))
        source["index"] = 0
    indices += needed
    labels = data.test.labels
    each = max(1, _PICTURES // max(1, len(data.test.classes)))
    for label in range(len(data.test.classes)):
        indices += torch.nonzero(labels == label).flatten()[:each].tolist()
    most = max(1 + len(needed), min(_PICTURES, _PICTURE_BYTES // shown.pixels.numel()))
    items = []
    for index in list(dict.fromkeys(indices))[:most]:
        picture = session.desk.from_data("test", index)
        items.append(
            {
                "pixels": _base64(picture.pixels),
                "label": picture.label,
                "class": str(picture.source["class"]),
                "index": index,
            }
        )
    if source.get("kind") == "data" and not (indices and source["index"] == 0):
        source = {"kind": "shared"}  # a picture of the training split, which the page has no list of
    return items, source


def _base64(pixels: Tensor) -> str:
    return base64.b64encode(pixels.cpu().contiguous().numpy().tobytes()).decode()
