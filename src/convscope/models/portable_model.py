"""The module that runs a portable description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.models.portable_names import ATTRIBUTES, FUNCTIONS, LAYERS, METHODS
from convscope.models.portable_values import decode

VERSION = 1
_OPS = ("placeholder", "call_module", "call_function", "call_method", "get_attr", "output")


class PortableModel(nn.Module):
    """A model that runs a description's graph; torch.fx traces it into the same graph again.

    Input and output are those of the model that was described.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        self.description = description
        for path in description.get("tree", ()):  # all places first, in the order of the model that was described
            owner, name = _owner(self, path)
            owner.add_module(name, nn.Module())
        for path, layer in description["modules"].items():
            owner, name = _owner(self, path)
            owner.add_module(name, find(self, layer["same_as"]) if "same_as" in layer else _layer(layer))
        for path, tensor in description["tensors"].items():
            _add_tensor(*_owner(self, path), tensor)
        for first, *others in description["tied"]:
            for path in others:
                owner, name = _owner(self, path)
                owner.register_parameter(name, find(self, first))
        found = description["graph"]
        self.graphs = {"train": found, "eval": found} if isinstance(found, list) else found
        for nodes in self.graphs.values():
            _check_nodes(nodes)

    def forward(self, x: Any) -> Any:
        return self._run((x,))

    def _run(self, inputs: tuple[Any, ...]) -> Any:
        self._check_shapes(inputs)
        values: dict[str, Any] = {}
        given = iter(inputs)
        for node in self.graphs["train" if self.training else "eval"]:
            args, kwargs = decode(node.get("args", []), values), decode({"dict": node.get("kwargs", {})}, values)
            target = node.get("target", "")
            if node["op"] == "output":
                return args[0]
            if node["op"] == "placeholder":
                values[node["name"]] = args[0] if args else next(given)
            elif node["op"] == "call_module":
                values[node["name"]] = self.get_submodule(target)(*args, **kwargs)
            elif node["op"] == "call_function":
                values[node["name"]] = FUNCTIONS[target](*args, **kwargs)
            elif node["op"] == "call_method":
                values[node["name"]] = getattr(args[0], target)(*args[1:], **kwargs)
            else:
                values[node["name"]] = find(self, target)
        raise AssertionError("checked when built: a graph ends in its output")

    def _check_shapes(self, inputs: tuple[Any, ...]) -> None:
        """Of a model with sizes in it that do not follow the input's: only the sizes that it was described with."""
        for x, shape in zip(inputs, self.description.get("shapes", ()), strict=False):
            if isinstance(x, torch.Tensor) and tuple(x.shape[1:]) != tuple(shape[1:]):
                wanted = "the shape that it was saved with: (n, " + ", ".join(map(str, shape[1:])) + ")"
                raise ArgumentError("x", tuple(x.shape), wanted, "Its forward has these sizes in it.")


# The number of inputs is read off the forward's own parameters, so that each number has a class of its own.
class _TwoInputs(PortableModel):
    def forward(self, x: Any, second: Any) -> Any:  # type: ignore[override]
        return self._run((x, second))


class _ThreeInputs(PortableModel):
    def forward(self, x: Any, second: Any, third: Any) -> Any:  # type: ignore[override]
        return self._run((x, second, third))


class _FourInputs(PortableModel):
    def forward(self, x: Any, second: Any, third: Any, fourth: Any) -> Any:  # type: ignore[override]
        return self._run((x, second, third, fourth))


_BY_INPUTS = (PortableModel, _TwoInputs, _ThreeInputs, _FourInputs)


def portable_model(description: dict[str, Any]) -> PortableModel:
    """The model of a description; ArgumentError for one that takes no input or more than four."""
    graph = description["graph"]
    count = len(_inputs(graph if isinstance(graph, list) else graph["eval"]))
    if not 1 <= count <= len(_BY_INPUTS):
        raise ArgumentError("model", f"{count} inputs", f"one to {len(_BY_INPUTS)} inputs")
    return _BY_INPUTS[count - 1](description)


def _inputs(nodes: Any) -> list[str]:
    """The names of the inputs that have no usual value."""
    return [node["name"] for node in nodes if node["op"] == "placeholder" and not node.get("args")]


def find(root: nn.Module, path: str) -> Any:
    """The submodule, parameter, buffer or constant at ``path``."""
    found: Any = root
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _owner(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The module that holds ``path``'s last part, made where it is missing, and that last part."""
    owner = root
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in owner._modules:
            owner.add_module(parent, nn.Module())
        owner = owner.get_submodule(parent)
    return owner, name


def _layer(described: Mapping[str, Any]) -> nn.Module:
    if described["class"] not in LAYERS:
        raise UnknownNameError("layer class", described["class"], LAYERS)
    return LAYERS[described["class"]](**decode({"dict": described["arguments"]}, {}))


def _add_tensor(owner: nn.Module, name: str, described: Mapping[str, Any]) -> None:
    shape = described["shape"]
    if described["kind"] == "parameter":
        owner.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        return
    dtype = decode({"dtype": described["dtype"]}, {})
    if "values" in described:
        value = torch.tensor(decode(described["values"], {}), dtype=dtype).reshape(shape)
    else:
        value = torch.zeros(shape, dtype=dtype)
    owner.register_buffer(name, value, persistent="values" not in described)


def _check_nodes(nodes: Any) -> None:
    """Refuse everything that the lists of allowed names do not hold, before anything runs."""
    if not isinstance(nodes, list) or not nodes or nodes[-1]["op"] != "output":
        raise ArgumentError("description", "a graph without output", "a graph that ends in its output")
    for node in nodes:
        op, target = node["op"], node.get("target", "")
        if op not in _OPS:
            raise UnknownNameError("graph operation", op, _OPS)
        if op == "call_function" and target not in FUNCTIONS:
            raise UnknownNameError("function", target, FUNCTIONS)
        if op == "call_method" and target not in METHODS:
            raise UnknownNameError("tensor method", target, METHODS)
        if op == "call_function" and target == "getattr" and node["args"][1] not in ATTRIBUTES:
            raise UnknownNameError("tensor attribute", node["args"][1], ATTRIBUTES)
        if op in ("call_module", "get_attr") and any(part.startswith("__") for part in target.split(".")):
            raise ArgumentError("description", target, "the path of a layer or tensor")
