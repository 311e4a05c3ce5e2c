"""The engine's interface on plain torch operations: what a plan means, written independently of the engine.

It checks lowering where the engine is not built, and the engine itself where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tests.native import reference_tensors
from torch import Tensor
from torch.nn import functional as F

Array = np.ndarray[Any, Any]
Attributes = dict[str, Any]


class Network:
    """``convscope.native._engine.Network`` by torch's operators and autograd, in ``dtype``."""

    dtype = torch.float32

    def __init__(
        self,
        input_shape: Sequence[int],
        records: list[dict[str, Any]],
        outputs: list[int],
        parameter_count: int,
        state_count: int,
        layout: str = "",
    ) -> None:
        self.input_shape, self.records, self.outputs = tuple(input_shape), records, outputs
        self.parameter_count, self.state_count = parameter_count, state_count

    def forward(
        self, parameters: Array, state: Array, images: Array, outputs: list[Array], scale: Any = None,
        offset: Any = None, training: bool = False, seed: int = 0, step: int = 0, threads: int = 1,
    ) -> None:  # fmt: skip
        with torch.no_grad():
            flat = torch.from_numpy(parameters).to(self.dtype)
            values, _ = self._run(flat, state, _pixels(images, scale, offset), training, seed, step, None)
        _copy(values, self.outputs, outputs)

    def step(
        self, parameters: Array, gradients: Array, state: Array, images: Array, targets: Array, scale: Any = None,
        offset: Any = None, training: bool = True, seed: int = 0, step: int = 0, threads: int = 1,
        outputs: list[Array] | None = None, input_delta: Array | None = None,
    ) -> float:  # fmt: skip
        flat = torch.from_numpy(parameters).to(self.dtype).requires_grad_()
        x = _pixels(images, scale, offset).to(self.dtype).requires_grad_()
        with torch.enable_grad():
            values, loss = self._run(flat, state, x, training, seed, step, torch.from_numpy(targets))
        _copy(values, self.outputs, outputs or [])
        self._write(loss, flat, x, gradients, input_delta)
        return float(loss.detach())

    def backward(
        self, parameters: Array, gradients: Array, state: Array, images: Array, output_deltas: list[Array],
        scale: Any = None, offset: Any = None, training: bool = True, seed: int = 0, step: int = 0, threads: int = 1,
        input_delta: Array | None = None,
    ) -> None:  # fmt: skip
        flat = torch.from_numpy(parameters).to(self.dtype).requires_grad_()
        x = _pixels(images, scale, offset).to(self.dtype).requires_grad_()
        with torch.enable_grad():
            values, _ = self._run(flat, state.copy(), x, training, seed, step, None)
            deltas = [
                torch.from_numpy(each).reshape(values[n].shape)
                for n, each in zip(self.outputs, output_deltas, strict=True)
            ]
            total = sum(
                ((values[n] * each).sum() for n, each in zip(self.outputs, deltas, strict=True)), torch.zeros(())
            )
        self._write(total, flat, x, gradients, input_delta)

    def memory(self) -> int:
        return 0

    def describe(self, pictures: int = 1, threads: int = 1, training: bool = False) -> str:
        return "\n".join(record["name"] for record in self.records)

    def _write(self, total: Tensor, flat: Tensor, x: Tensor, gradients: Array, input_delta: Array | None) -> None:
        found = torch.autograd.grad(total, [flat, x], allow_unused=True) if total.requires_grad else (None, None)
        for record in self.records:
            if record["trainable"]:
                for name, start in record["parameters"].items():
                    stop = start + self._size(record, name)
                    gradients[start:stop] = 0 if found[0] is None else found[0][start:stop].numpy()
        if input_delta is not None:
            input_delta[...] = 0 if found[1] is None else found[1].numpy()

    def _size(self, record: dict[str, Any], name: str) -> int:
        return int(np.prod(self._shapes(record)[name]))

    def _shapes(self, record: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        a = record["attributes"]
        if record["kind"] == "parameter":
            return {"value": tuple(a["shape"])}
        c, h, w = self.value_shapes[record["inputs"][0]]
        if record["kind"] == "conv_transpose2d":
            return {"weight": (c, a["out_channels"] // a["groups"], *a["kernel_size"]), "bias": (a["out_channels"],)}
        if record["kind"] == "conv2d":
            maps = a["out_channels"]
            rows = (sum(map(len, a["table"])),) if "table" in a else (maps, c // a.get("groups", 1))
            return {"weight": (*rows, *a["kernel_size"]), "bias": (maps,)}
        if record["kind"] in ("linear", "rbf_units"):
            return {"weight": (a["out_features"], c * h * w), "bias": (a["out_features"],)}
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (c,))

    def _run(
        self, flat: Tensor, state: Array, x: Tensor, training: bool, seed: int, step: int, targets: Tensor | None
    ) -> tuple[dict[int, Tensor], Tensor]:
        values, loss = {0: x.to(self.dtype)}, torch.zeros(())
        self.value_shapes: dict[int, tuple[int, ...]] = {0: self.input_shape}
        for index, record in enumerate(self.records):
            kind, a = record["kind"], record["attributes"]
            inputs = [values[number] for number in record["inputs"]]
            shapes = self._shapes(record)
            p: dict[str, Tensor | None] = {"weight": None, "bias": None}
            for name, start in record["parameters"].items():
                p[name] = flat[start : start + self._size(record, name)].reshape(shapes[name])
                if not record["trainable"]:
                    p[name] = p[name].detach()  # type: ignore[union-attr]
            if kind in LOSSES:
                if targets is not None:
                    loss = loss + a.get("weight", 1) * LOSSES[kind](inputs[0].flatten(1), targets, a)
                continue
            if kind == "batch_norm":
                y = _batch_norm(inputs[0], p, record["state"], state, a, training)
            elif kind == "parameter":
                held = p.get("value")
                if held is None:
                    start = record["state"]["value"]
                    held = torch.from_numpy(state[start : start + self._size(record, "value")]).view(*a["shape"])
                y = held[None].expand(len(x), -1, -1, -1).to(self.dtype)
            elif kind == "dropout":
                alone = len(inputs[0].shape) - (0, 2, 3)[a.get("together", 0)]
                sides = [*inputs[0].shape[:alone], *(1,) * (4 - alone)]
                noise = torch.rand(sides, generator=torch.Generator().manual_seed(seed + 7919 * step + index))
                y = inputs[0] * (noise >= a["p"]) / (1 - a["p"]) if training else inputs[0]
            elif kind == "rbf_units":
                start = record["state"]["weight"]
                codes = torch.from_numpy(state[start : start + self._size(record, "weight")]).reshape(shapes["weight"])
                y = (inputs[0].flatten(1)[:, None] - codes).square().sum(-1)[:, :, None, None]
            else:
                y = LAYERS[kind](inputs, p, a)
            values[record["output"]] = y
            self.value_shapes[record["output"]] = tuple(y.shape[1:])
        return values, loss


def _pixels(images: Array, scale: Any, offset: Any) -> Tensor:
    x = torch.from_numpy(images)
    if x.dtype == torch.uint8:
        return x.float() * torch.tensor(scale).view(-1, 1, 1) + torch.tensor(offset).view(-1, 1, 1)
    return x


def _copy(values: dict[int, Tensor], numbers: list[int], outputs: list[Array]) -> None:
    for number, array in zip(numbers, outputs, strict=False):
        array[...] = values[number].detach().reshape(array.shape).numpy()


def _batch_norm(
    x: Tensor, p: dict[str, Any], places: dict[str, int], state: Array, a: Attributes, training: bool
) -> Tensor:
    c = x.shape[1]
    mean, variance = (torch.from_numpy(state[places[n] : places[n] + c]) for n in ("running_mean", "running_var"))
    return F.batch_norm(x, mean, variance, p["weight"], p["bias"], training, a.get("momentum", 0.1), a.get("eps", 1e-5))


def _convolution(inputs: list[Tensor], p: dict[str, Any], a: Attributes) -> Tensor:
    weight = p["weight"]
    if "table" in a:
        full = weight.new_zeros(a["out_channels"], inputs[0].shape[1], *a["kernel_size"])
        rows = [(out, maps) for out, table in enumerate(a["table"]) for maps in table]
        weight = full.index_put(tuple(torch.tensor(rows).T), weight)
    weight = weight.flip(2, 3) if a.get("flip_kernel") else weight
    places = (a.get("stride", 1), a.get("padding", 0), a.get("dilation", 1), a.get("groups", 1))
    return F.conv2d(inputs[0], weight, p["bias"], *places)


def _windows(a: Attributes) -> tuple[Any, Any, Any, bool]:
    return a["kernel_size"], a.get("stride", a["kernel_size"]), a.get("padding", 0), bool(a.get("ceil_mode", 0))


def _sum_pool(x: Tensor, a: Attributes) -> Tensor:
    return F.avg_pool2d(x, *_windows(a), divisor_override=1)


def _l2_pool(x: Tensor, a: Attributes) -> Tensor:
    squares = _sum_pool(x.square(), a)
    return torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)


Layer = Callable[[list[Tensor], dict[str, Any], Attributes], Tensor]
LAYERS: dict[str, Layer] = {
    "conv2d": _convolution,
    "linear": lambda i, p, a: F.linear(i[0].flatten(1), p["weight"], p["bias"])[:, :, None, None],
    "max_pool": lambda i, p, a: F.max_pool2d(i[0], _windows(a)[0], *_windows(a)[1:3], ceil_mode=_windows(a)[3]),
    "mean_pool": lambda i, p, a: F.avg_pool2d(i[0], *_windows(a), bool(a.get("count_include_pad", 1))),
    "sum_pool": lambda i, p, a: _sum_pool(i[0], a),
    "l2_pool": lambda i, p, a: _l2_pool(i[0], a),
    "global_mean": lambda i, p, a: i[0].mean((2, 3), keepdim=True),
    "subsample": lambda i, p, a: (
        p["weight"][:, None, None] * F.avg_pool2d(i[0], a["kernel_size"], a["stride"], divisor_override=1)
        + p["bias"][:, None, None]
    ),
    "relu": lambda i, p, a: F.relu(i[0]),
    "relu6": lambda i, p, a: F.relu6(i[0]),
    "tanh": lambda i, p, a: torch.tanh(i[0]),
    "identity": lambda i, p, a: i[0],
    "silu": lambda i, p, a: F.silu(i[0]),
    "softplus": lambda i, p, a: F.softplus(i[0]),
    "sigmoid": lambda i, p, a: torch.sigmoid(a.get("slope", 1) * i[0]),
    "scaled_tanh": lambda i, p, a: a.get("amplitude", 1.7159) * torch.tanh(a.get("slope", 2 / 3) * i[0]),
    "leaky_relu": lambda i, p, a: F.leaky_relu(i[0], a.get("negative_slope", 0.01)),
    "elu": lambda i, p, a: F.elu(i[0], a.get("alpha", 1.0)),
    "hard_tanh": lambda i, p, a: F.hardtanh(i[0], a.get("low", -1), a.get("high", 1)),
    "response_norm": lambda i, p, a: F.local_response_norm(
        i[0], a["size"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("k", 1.0)
    ),
    "concat": lambda i, p, a: torch.cat(i, 1),
    "flatten": lambda i, p, a: i[0].flatten(1)[:, :, None, None],
    **reference_tensors.LAYERS,
}

LOSSES: dict[str, Callable[[Tensor, Tensor, Attributes], Tensor]] = {
    "cross_entropy": lambda y, t, a: F.cross_entropy(y, t, label_smoothing=a.get("label_smoothing", 0.0)),
    "squared_error": lambda y, t, a: a.get("scale", 0.5) * (y - t).square().sum() / len(y),
    "binary_cross_entropy": lambda y, t, a: F.binary_cross_entropy_with_logits(y, t, reduction="sum") / len(y),
    "hinge": lambda y, t, a: F.multi_margin_loss(y, t, margin=a.get("margin", 1.0)),
    "rbf_loss": lambda y, t, a: (
        y.gather(1, t[:, None])[:, 0] + torch.cat((y.new_full((len(y), 1), -a.get("j", 0.1)), -y), 1).logsumexp(1)
    ).mean(),
}


def unchanged(held: list[Any], contents: list[list[Any]]) -> bool:
    """``convscope.native._engine.unchanged``, one comparison after another."""
    if len(held) != len(contents):
        raise ValueError("held and contents want the same length")
    for each, before in zip(held, contents, strict=True):
        if not isinstance(before, list):
            raise TypeError("contents wants lists")
        if not isinstance(each, dict | list):
            raise TypeError("held wants dicts and lists")
        now = [item for pair in each.items() for item in pair] if isinstance(each, dict) else each
        if len(now) != len(before) or any(one is not other for one, other in zip(now, before, strict=True)):
            return False
    return True
