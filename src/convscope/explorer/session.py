"""What one explorer holds: the model, the picture under study, its trace; and every question that the page may ask."""

from __future__ import annotations

import copy
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convscope.data import Dataset
from convscope.errors import ArgumentError, ConvscopeError, UnknownNameError
from convscope.explorer import evidence, pictures, replay, snippets
from convscope.explorer.arithmetic import Explanation
from convscope.explorer.elastic import take_apart, unflattened, unfolding
from convscope.explorer.elastic_backward import take_back
from convscope.explorer.fields import Fields
from convscope.explorer.inputs import Desk, Picture, as_npy
from convscope.explorer.layout import lay_out
from convscope.explorer.network import INPUT, Network
from convscope.explorer.protocol import Arguments, Reply, finite
from convscope.explorer.snapshot import Question, Snapshot, check_index
from convscope.explorer.stepping import Settings, Stepper
from convscope.layers.losses import LOSSES, loss_for
from convscope.models import MODELS
from convscope.spec import ModelSpec, spec_of
from convscope.training.checkpoints import save

LARGE = 3_000_000  # parameters; above, the backward pass waits until it is asked for
LOSS_NAMES = ("cross_entropy", "squared_error", "hinge", "rbf", "binary_cross_entropy")
NUDGE_DOUBLE_LIMIT = 30_000_000


class Session:
    """One model and one picture, shared by all windows of the page.

    ``x`` changes only in ``job`` operations, which run one after another; everything else reads the current snapshot.
    """

    def __init__(self, model: nn.Module, data: Dataset | None = None, name: str = "", start: int | None = None) -> None:
        self.model = model.eval()
        described = spec_of(model)
        shape = tuple(described.input_shape) if described is not None else None
        if shape is None:
            shape = _shape_from(model, data)
        self.name = name or (described.architecture if described is not None else type(model).__name__)
        self.network = Network(model, shape)
        self.large = sum(item.numel() for item in model.parameters()) > LARGE
        self.desk = Desk(model, shape, data)
        self.loss = self._default_loss(described)
        self.classes = self._classes(described, data)
        self.stepper = Stepper(model)
        self.target: int | None = None
        self.target_chosen = False
        self.lock = threading.RLock()
        self._version = 0
        self._fields: Fields | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._cancelled = threading.Event()
        self.unfolded: set[str] = set()
        first = self.desk.from_data("test", self._first_item(start)) if data is not None else self.desk.example()
        self.picture: Picture = first
        self.snapshot = self._trace(first)

    # ---- what the server calls -------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def answer(self, op: str, args: Arguments, payload: bytes) -> Reply:
        """Carry one request out. Raises ConvscopeError for whatever is wrong with it."""
        if op not in OPERATIONS:
            raise UnknownNameError("op", op, OPERATIONS)
        return OPERATIONS[op](self, args, payload)

    def cancel(self) -> None:
        """Long jobs stop at the next chance."""
        self._cancelled.set()

    def resume(self) -> None:
        self._cancelled.clear()

    def load_upload(self, content: bytes, kind: str) -> None:
        self._show(self.desk.from_file(content, kind))

    # ---- the picture ------------------------------------------------------------------------------------------------

    def _first_item(self, start: int | None) -> int:
        """The item asked for, else a "3" where there is one: the tour speaks of it."""
        assert self.desk.data is not None
        if start is not None:
            return start
        split = self.desk.data.test
        if "3" in split.classes:
            threes = torch.nonzero(split.labels == split.classes.index("3")).flatten()
            if len(threes):
                return int(threes[0])
        return 0

    def _show(self, picture: Picture) -> None:
        if not self.target_chosen or picture.label is not None:
            self.target_chosen = False
        snapshot = self._trace(picture)
        with self.lock:
            self.picture, self.snapshot = picture, snapshot

    def _trace(self, picture: Picture) -> Snapshot:
        self._version += 1
        x = self.desk.x(picture)
        target = self.target if self.target_chosen else picture.label
        if target is None or target >= max(1, self._outputs()):
            target = self._predicted(x)
        self.target = target
        return Snapshot(self.network, Question(x, target, self.loss), self._version, self.large)

    @torch.no_grad()
    def _predicted(self, x: Tensor) -> int | None:
        output = self.model(x.clone())
        output = output if isinstance(output, Tensor) else output[0]
        if not isinstance(output, Tensor) or output.ndim != 2:
            return None
        return int(loss_for(self.loss, self.model).predictions(output)[0].argmax())

    def _outputs(self) -> int:
        shape = self.network.nodes[self.network.output].shape
        return shape[0] if len(shape) == 1 else 0

    def _default_loss(self, described: ModelSpec | None) -> str:
        if described is not None and described.architecture in MODELS:
            return MODELS[described.architecture].card.loss
        return "cross_entropy"

    def _classes(self, described: ModelSpec | None, data: Dataset | None) -> list[str]:
        count = self._outputs()
        for names in (
            described.classes if described is not None else (),
            data.train.classes if data is not None else (),
        ):
            if len(names) == count:
                return list(names)
        return [str(number) for number in range(count)]

    # ---- operations -------------------------------------------------------------------------------------------------

    def hello(self, args: Arguments, payload: bytes) -> Reply:
        described = spec_of(self.model)
        data = self.desk.data
        parameters = sum(item.numel() for item in self.model.parameters())
        snapshot = self.snapshot
        nodes = self.network.describe(snapshot.layers)
        for node in nodes:
            layer = snapshot.layers[node["name"]]
            if len(layer.inputs[0].shape) == 2:
                node["unfold"] = unfolding(layer.inputs[0].shape[1], unflattened(snapshot, layer))
        return Reply(
            {
                "model": {
                    "name": self.name,
                    "architecture": described.architecture if described is not None else None,
                    "parameters": parameters,
                    "described": described is not None and described.preprocessing is not None,
                    "assumed": self.desk.assumed,
                },
                "input_shape": list(self.network.input_shape),
                "picture_shape": list(self.desk.picture_shape),
                "fit": self.desk.preprocessing.fit,
                "classes": self.classes,
                "losses": [name for name in LOSS_NAMES if name in LOSSES],
                "nodes": nodes,
                "output": self.network.output,
                "layout": lay_out(self.network, self.unfolded),
                "data": None
                if data is None
                else {
                    "name": data.name,
                    "train": len(data.train),
                    "test": len(data.test),
                    "classes": list(data.train.classes),
                },
            }
        )

    def layout(self, args: Arguments, payload: bytes) -> Reply:
        return Reply({"layout": lay_out(self.network, args.texts("unfolded"))})

    def frame(self, args: Arguments, payload: bytes) -> Reply:
        """State of the current picture, and the tiles of every layer asked for, of one quantity."""
        snapshot = self.snapshot
        kind = args.text("quantity", "activation", pictures.QUANTITIES)
        rule = args.text("rule", "plain")
        wanted = args.texts("layers") or tuple(snapshot.layers)
        deltas = snapshot.deltas(rule) if kind == "delta" else {}
        if kind == "gradient":
            snapshot.complete()
        described, data, offset = [], [], 0
        if args.values.get("picture", True):
            raw = self.picture.pixels.cpu().contiguous().numpy().tobytes()
            described.append(
                {"layer": INPUT, "pixels": True, "shape": list(self.picture.pixels.shape[1:]), "offset": 0}
            )
            data.append(raw)
            offset = len(raw)
        for name in wanted:
            if name == INPUT:
                continue
            layer = snapshot.layer(name)
            maps = pictures.quantity(layer, kind, deltas.get(name), unflattened(snapshot, layer))
            if maps is None or not maps.numel():
                described.append({"layer": name, "none": True})
                continue
            found = pictures.tiles(maps, stop=4096 if maps.shape[1] * maps.shape[2] == 1 else pictures.OVERVIEW_TILES)
            described.append({"layer": name, **found.describe(), "offset": offset})
            data.append(found.data)
            offset += len(found.data)
        header = {"quantity": kind, "rule": rule, "tiles": described, **self._state(snapshot)}
        return Reply(finite(header), b"".join(data))

    def _state(self, snapshot: Snapshot) -> dict[str, Any]:
        probabilities = snapshot.probabilities
        logits = snapshot.logits[0].detach().double().flatten() if snapshot.logits.ndim == 2 else None
        return {
            "version": snapshot.version,
            "predicted": snapshot.predicted,
            "target": snapshot.question.target,
            "target_chosen": self.target_chosen,
            "loss_name": self.loss,
            "loss": snapshot.loss,
            "label": self.picture.label,
            "source": self.picture.source,
            "probabilities": None if probabilities is None else probabilities.tolist(),
            "logits": None if logits is None else logits.tolist(),
            "steps": self.stepper.steps,
        }

    def grid(self, args: Arguments, payload: bytes) -> Reply:
        """Tiles ``start`` … ``stop`` of one layer, for the opened layer's grid; ``order`` sorts the maps."""
        snapshot = self.snapshot
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

    def values(self, args: Arguments, payload: bytes) -> Reply:
        """Exact numbers: one map of a layer (activation or δ), a parameter, its gradient, or the input."""
        snapshot = self.snapshot
        name = args.text("layer")
        kind = args.text("quantity", "activation", (*pictures.QUANTITIES, "u"))
        number = args.integer("map", 0)
        if kind in ("delta", "gradient"):
            snapshot.complete()
        if name == INPUT:
            maps = snapshot.question.x[0].reshape(self.desk.picture_shape)
            if kind == "delta" and snapshot.grad_x is not None:
                maps = snapshot.grad_x[0].reshape(self.desk.picture_shape)
        elif kind in ("weight", "gradient"):
            layer = snapshot.layer(name)
            parameter = args.text("parameter", "weight")
            known = dict(layer.module.named_parameters()) if layer.module is not None else {}
            source = known if kind == "weight" else layer.gradients
            if parameter not in source:
                raise UnknownNameError("parameter", parameter, source)
            found = source[parameter].detach()
            part = found[number : number + 1] if found.ndim else found
            return Reply(self._described_values(name, kind, number, part, snapshot), pictures.exact(part))
        else:
            layer = snapshot.layer(name)
            tensor = layer.y if kind == "activation" else layer.u if kind == "u" else snapshot.deltas().get(name)
            if tensor is None:
                raise ArgumentError("quantity", kind, "one that this layer has")
            maps = pictures.as_maps(tensor[0])
        if number >= len(maps):
            raise ArgumentError("map", number, f"0…{len(maps) - 1}")
        part = maps[number].detach()
        return Reply(self._described_values(name, kind, number, part, snapshot), pictures.exact(part))

    @staticmethod
    def _described_values(name: str, kind: str, number: int, part: Tensor, snapshot: Snapshot) -> dict[str, Any]:
        described = {"layer": name, "quantity": kind, "map": number, "shape": list(part.shape)}
        return {**described, "dtype": "f8" if part.dtype == torch.float64 else "f4", "version": snapshot.version}

    def elastic(self, args: Arguments, payload: bytes) -> Reply:
        layer = self.snapshot.layer(args.text("layer"))
        count = len(pictures.as_maps(layer.y[0]))
        number = args.integer("map", 0)
        if number >= count:
            raise ArgumentError("map", number, f"0…{count - 1}, one of the layer's maps")
        if args.text("direction", "forward", ("forward", "backward")) == "backward" and self.snapshot.loss is not None:
            header, data = take_back(self.snapshot, layer.name, number, args.text("rule", "plain"))
        else:
            header, data = take_apart(self.snapshot, layer.name, number)
        return Reply(finite(header), data)

    def explain(self, args: Arguments, payload: bytes) -> Reply:
        """The arithmetic of a unit's value, a unit's δ, or a weight's gradient."""
        snapshot, name = self.snapshot, args.text("layer")
        direction = args.text("direction", "forward", ("forward", "backward", "gradient"))
        index = args.index("index")
        with self.lock:
            if direction == "forward":
                found: Explanation = snapshot.forward(name, index)
            elif direction == "backward":
                found = snapshot.backward(name, index, args.text("rule", "plain"))
            else:
                found = snapshot.gradient(name, args.text("parameter", "weight"), index)
        page = found.page(args.integer("offset", 0), args.integer("limit", 24, 1, 5000))
        after = snapshot.network.activation_after(name) if direction == "forward" else None
        if after is not None:
            page["activation"] = {"layer": after, "kind": snapshot.layers[after].kind}
            page["activation"]["value"] = float(snapshot.layers[after].y[(0, *index)])
        page["shape"] = list(self.network.nodes[name].shape)
        page["version"] = snapshot.version
        return Reply(finite(page))

    def nudge(self, args: Arguments, payload: bytes) -> Reply:
        """The loss before and after a weight is moved by ε, beside the prediction g·ε; the weight is put back."""
        snapshot, name, parameter = self.snapshot, args.text("layer"), args.text("parameter", "weight")
        snapshot.complete()
        layer, index = snapshot.layer(name), args.index("index")
        epsilon = args.number("epsilon", 1e-3, -10, 10)
        if snapshot.loss is None or parameter not in layer.gradients:
            raise UnknownNameError("parameter", parameter, layer.gradients)
        check_index("index", index, tuple(layer.gradients[parameter].shape))
        g = float(layer.gradients[parameter][index])
        with self.lock:
            small = sum(item.numel() for item in self.model.parameters()) <= NUDGE_DOUBLE_LIMIT
            model = copy.deepcopy(self.model)
        model = model.double() if small else model
        x = snapshot.question.x.double() if small else snapshot.question.x
        loss, target = loss_for(self.loss, self.model), torch.tensor([snapshot.question.target])
        with torch.no_grad():
            before = float(loss.value(model(x.clone()), target))
            model.get_submodule(name.split(":")[0]).get_parameter(parameter)[index] += epsilon
            after = float(loss.value(model(x.clone()), target))
        values = {"before": before, "after": after, "change": after - before, "predicted": g * epsilon}
        return Reply(finite({**values, "gradient": g, "epsilon": epsilon}))

    def field(self, args: Arguments, payload: bytes) -> Reply:
        """The receptive field of a unit on every map before it; for the input, what a pixel reaches."""
        with self.lock:
            if self._fields is None:
                self._fields = Fields(self.network)
        name, index = args.text("layer"), args.index("index")
        if name == INPUT:
            check_index("index", index, self.network.input_shape[1:])
            return Reply(finite({"direction": "forward", "layer": name, **self._fields.of_pixel(index)}))
        layer, unit = self.snapshot.unit(name, index)
        return Reply(finite({"direction": "backward", "layer": layer.name, **self._fields.of_unit(name, unit)}))

    def effective(self, args: Arguments, payload: bytes) -> Reply:
        """|∂y_unit/∂x| summed over the input's channels: where the unit really looks."""
        snapshot = self.snapshot
        layer, unit = snapshot.unit(args.text("layer"), args.index("index"))
        gradient = replay.unit_gradient(self.model, snapshot.question.x, layer.name, unit)
        flat = gradient[0].reshape(self.desk.picture_shape)
        found = flat.abs().sum(0)
        hit = torch.nonzero(found)
        box = [[int(hit[:, d].min()), int(hit[:, d].max()) + 1] for d in (0, 1)] if len(hit) else None
        header = {"layer": layer.name, "index": list(unit), "shape": list(found.shape), "box": box}
        limit, low, high = pictures.robust_limit(found)
        return Reply(finite({**header, "limit": limit, "low": low, "high": high}), pictures.exact(found.float()))

    def stages(self, args: Arguments, payload: bytes) -> Reply:
        described, data, offset = [], [], 0
        for stage in self.picture.stages:
            raw = stage.picture.contiguous().numpy().tobytes()
            values = dict(stage.values)
            described.append(
                {"name": stage.name, "values": values, "shape": list(stage.picture.shape[1:]), "offset": offset}
            )
            data.append(raw)
            offset += len(raw)
        return Reply(finite({"stages": described, "source": self.picture.source}), b"".join(data))

    def show_data(self, args: Arguments, payload: bytes) -> Reply:
        split = args.text("split", "test", ("train", "test"))
        chosen = self.desk.split(split)
        index = args.integer("index", 0, 0, len(chosen) - 1) if "index" in args.values else 0
        if "class" in args.values:  # the next item of that class after ``index``
            cls = args.integer("class", 0, 0, len(chosen.classes) - 1)
            places = torch.nonzero(chosen.labels == cls).flatten()
            if not len(places):
                raise ArgumentError("class", cls, "a class that the split has items of")
            later = places[places > index]
            index = int(later[0] if len(later) else places[0])
        self._show(self.desk.from_data(split, index))
        return self.frame(args, payload)

    def show_pixels(self, args: Arguments, payload: bytes) -> Reply:
        self._show(self.desk.from_pixels(payload, args.text("kind", "drawn", ("drawn", "shared", "blank"))))
        return self.frame(args, payload)

    def poke(self, args: Arguments, payload: bytes) -> Reply:
        place = [args.integer(name, 0) for name in ("channel", "row", "column", "value")]
        self._show(self.desk.poke(self.picture, *place))
        return self.frame(args, payload)

    def ask(self, args: Arguments, payload: bytes) -> Reply:
        """Choose the class and the loss of the backward pass; no class: the label, or what the network says."""
        target = args.optional_integer("target")
        if target is not None and target >= self._outputs():
            raise ArgumentError("target", target, f"one of the {self._outputs()} classes")
        loss = args.text("loss", self.loss, tuple(name for name in LOSS_NAMES if name in LOSSES))
        before = (self.target, self.target_chosen, self.loss)
        self.target, self.target_chosen, self.loss = target, target is not None, loss
        try:
            self._show(self.picture) if target is None else self._replace_trace()
        except (ConvscopeError, RuntimeError):
            self.target, self.target_chosen, self.loss = before
            raise
        return self.frame(args, payload)

    def _replace_trace(self) -> None:
        snapshot = self._trace(self.picture)
        with self.lock:
            self.snapshot = snapshot

    def evidence(self, args: Arguments, payload: bytes) -> Reply:
        snapshot = self.snapshot
        method = args.text("method", "gradient_input", evidence.METHODS)
        cls = args.integer("class", snapshot.predicted, 0, max(0, self._outputs() - 1))
        loss, x = loss_for(self.loss, self.model), snapshot.question.x
        found: Tensor | None
        if method == "gradient_input":
            found = evidence.gradient_input(self.model, loss, x, cls)
        else:
            fill = self.desk.x(self.desk.blank())
            found = evidence.occlusion(self.model, loss, x, cls, fill, self._cancelled.is_set)
        if found is None:
            raise ConvscopeError("cancelled")
        limit, low, high = pictures.robust_limit(found)
        header = {"method": method, "class": cls, "shape": list(found.shape), "limit": limit, "low": low, "high": high}
        return Reply(finite({**header, "version": snapshot.version}), pictures.exact(found.float()))

    def training(self, args: Arguments, payload: bytes) -> Reply:
        return Reply(finite({"training": self.stepper.describe()}))

    def configure(self, args: Arguments, payload: bytes) -> Reply:
        now = self.stepper.settings
        names = ("rate", "momentum", "decay")
        self.stepper.settings = Settings(**{name: args.number(name, getattr(now, name)) for name in names})
        return self.training(args, payload)

    def preview(self, args: Arguments, payload: bytes) -> Reply:
        """The step of one weight in numbers, and what the step would do to the outputs; nothing is changed."""
        snapshot = self._with_loss()
        values: dict[str, Any] = {}
        if "parameter" in args.values:
            values["weight"] = self.stepper.preview(snapshot.gradients, args.text("parameter"), args.index("index"))
        with self.lock:
            output = self.stepper.foresee(snapshot.gradients, snapshot.question.x)
        loss = loss_for(self.loss, self.model)
        target = torch.tensor([snapshot.question.target])
        scores = loss.predictions(output)[0].double()
        assert snapshot.probabilities is not None
        values |= {
            "loss_before": snapshot.loss,
            "loss_after": float(loss.value(output, target)),
            "probabilities_before": snapshot.probabilities.tolist(),
            "probabilities_after": torch.softmax(scores, 0).tolist(),
            "target": snapshot.question.target,
        }
        return Reply(finite(values))

    def step(self, args: Arguments, payload: bytes) -> Reply:
        """One step of SGD on the picture shown; the beats of a chosen weight and how far every parameter moved."""
        snapshot = self._with_loss()
        weight = None
        if "parameter" in args.values:
            weight = self.stepper.preview(snapshot.gradients, args.text("parameter"), args.index("index"))
        with self.lock:
            moved = self.stepper.step(snapshot.gradients)
            after = self._trace(self.picture)
            self.snapshot = after
        values = {"weight": weight, "moved": moved, "loss_before": snapshot.loss, "loss_after": after.loss}
        return Reply(finite({**values, "training": self.stepper.describe()}))

    def rewind(self, args: Arguments, payload: bytes) -> Reply:
        with self.lock:
            self.stepper.rewind()
            self.snapshot = self._trace(self.picture)
        return self.training(args, payload)

    def _with_loss(self) -> Snapshot:
        if self.snapshot.loss is None:
            raise ArgumentError("target", None, "a class, so that there is a loss to learn from")
        return self.snapshot

    def snippet(self, args: Arguments, payload: bytes) -> Reply:
        """ "Copy as PyTorch": the model and, if large, the picture are written to the session's own folder."""
        snapshot = self.snapshot
        kinds = ("activation", "input", "delta", "weight", "gradient", "logit", "probability", "loss")
        asked: dict[str, Any] = {"kind": args.text("kind", None, kinds)}
        before = None
        if asked["kind"] in ("activation", "delta", "weight", "gradient"):
            layer = snapshot.layer(args.text("layer"))
            asked |= {"layer": layer.name, "index": list(args.index("index"))}
            if layer.delta_at_input:
                before = layer.sources[0]
            if asked["kind"] in ("weight", "gradient"):
                asked["parameter"] = args.text("parameter", "weight")
        elif asked["kind"] in ("logit", "probability", "input"):
            asked["index"] = list(args.index("index"))
        with self.lock:
            folder = self._scratch()
            model_path = folder / f"{self.stepper.weight_hash()}.safetensors"
            if not model_path.exists():
                save(self.model, model_path, self.network.input_shape)
            pixels_path = folder / "pixels.npy"
            pixels_path.write_bytes(as_npy(self.picture.pixels))
        code = snippets.snippet(
            model_path=model_path,
            pixels=self.picture.pixels,
            pixels_path=pixels_path,
            mean=self.desk.preprocessing.mean,
            std=self.desk.preprocessing.std,
            input_shape=self.network.input_shape,
            loss=self.loss,
            target=snapshot.question.target,
            asked=asked,
            before=before,
        )
        return Reply({"code": code})

    def _scratch(self) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="convscope-explorer-")
        return Path(self._folder.name)


def _shape_from(model: nn.Module, data: Dataset | None) -> tuple[int, ...]:
    if data is not None:
        return tuple(data.train.images.shape[1:])
    raise ArgumentError(
        "model",
        type(model).__name__,
        "a model that says what its input is",
        "Give data as well, or attach a description: convscope.spec.attach(model, ModelSpec(…)).",
    )


Operation = Callable[[Session, Arguments, bytes], Reply]

JOBS: dict[str, Operation] = {
    "show_data": Session.show_data,
    "show_pixels": Session.show_pixels,
    "poke": Session.poke,
    "ask": Session.ask,
    "evidence": Session.evidence,
    "effective": Session.effective,
    "preview": Session.preview,
    "step": Session.step,
    "rewind": Session.rewind,
    "nudge": Session.nudge,
}
"""Operations that run the network; one at a time."""

LATEST = frozenset({"show_data", "show_pixels", "evidence", "effective", "preview"})
"""Of these only the newest waiting request of a window is carried out."""

OPERATIONS: dict[str, Operation] = {
    **JOBS,
    "hello": Session.hello,
    "layout": Session.layout,
    "frame": Session.frame,
    "grid": Session.grid,
    "values": Session.values,
    "elastic": Session.elastic,
    "explain": Session.explain,
    "field": Session.field,
    "stages": Session.stages,
    "training": Session.training,
    "configure": Session.configure,
    "snippet": Session.snippet,
}

__all__ = ["JOBS", "LATEST", "OPERATIONS", "Session"]
