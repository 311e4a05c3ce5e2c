"""Any traceable model as plain data, and back: so that a user's own network fits into a model file and opens again.

A description is made of dicts, lists, strings and numbers only (JSON). It holds the layers with their constructor
arguments, and the graph of calls between them, one for training and one for evaluation where they differ. Weights are
not part of it: the rebuilt model has the same state-dict keys. Only the layers, functions and tensor methods that
``portable_names`` lists are taken, so that opening a file never runs code from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from convscope import spec
from convscope.errors import ArgumentError
from convscope.graph.capture import FailedCallError, captured_already, facts, record
from convscope.graph.examples import example_inputs
from convscope.graph.training_modes import kept_modes
from convscope.layers import TableConv2d
from convscope.models.catalog import create_model
from convscope.models.compressing import factorise
from convscope.models.portable_check import check_rebuilt, given_shapes
from convscope.models.portable_model import VERSION, PortableModel, find, portable_model
from convscope.models.portable_names import ATTRIBUTES, CLASS_NAMES, FUNCTION_NAMES, METHODS
from convscope.models.portable_values import encode

Description = dict[str, Any]

_LARGEST_INLINE = 65_536  # elements of a tensor that no state dict holds and the description therefore must


def describe(model: nn.Module, inputs: Sequence[Any] | None = None) -> Description:
    """The architecture of ``model`` as JSON data; ``build`` makes a model with the same state-dict keys of it.

    ``inputs`` are what the model is called with to see what it does (one to four, None: made up from the model's own
    description); they and the model stay as they are. What is described is checked: it is built, and must give what the
    model gives, for these inputs and for another number of examples. Where it gives something else for other sizes, it
    will take inputs of these sizes only. Raises ArgumentError, naming the part and its class, for a module, function or
    argument that cannot be described, for inputs that the model does not take in one of its modes (an auxiliary
    classifier may need larger pictures than the rest), and for a model that is not what its graph says.
    """
    if isinstance(model, PortableModel):
        return model.description
    given = example_inputs(model) if inputs is None else tuple(inputs)
    traced = _traced_in_both_modes(model, given)
    nodes = {mode: [_describe_node(node) for node in each.graph.nodes] for mode, each in traced.items()}
    opaque = {
        str(node.target): facts(each).opaque.get(node.name, "")
        for each in traced.values()
        for node in each.graph.nodes
        if node.op == "call_module"
    }
    modules = _describe_modules(model, opaque)
    attributes = {
        str(node.target): each for each in traced.values() for node in each.graph.nodes if node.op == "get_attr"
    }
    description: Description = {
        "version": VERSION,
        "modules": modules,
        "tensors": _describe_tensors(model, modules, attributes),
        "tied": _tied(model),
        "tree": _tree(model, modules),
        "graph": nodes["eval"] if nodes["train"] == nodes["eval"] else nodes,
    }
    rebuilt = build(description)
    _check_same_state(model, rebuilt)
    if not check_rebuilt(model, rebuilt, given):
        description["shapes"] = given_shapes(given)
    return description


def build(description: Description) -> nn.Module:
    """The model that ``describe`` described, with fresh random weights.

    Raises ArgumentError for a damaged description and for one that names anything beyond the allowed layers, functions
    and methods.
    """
    if not isinstance(description, Mapping) or description.get("version") != VERSION:
        got = description.get("version") if isinstance(description, Mapping) else type(description).__name__
        raise ArgumentError("description", got, f"the description of a model, version {VERSION}")
    try:
        return portable_model(dict(description))
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise ArgumentError("description", str(error), "a complete description of a model") from error


def describe_spec(model: nn.Module, input_shape: tuple[Any, ...], classes: tuple[str, ...] = ()) -> spec.ModelSpec:
    """The ModelSpec of a user's own module (architecture "graph"); a model that has a spec keeps it. ``input_shape`` of
    a model of several inputs is a tuple of their shapes."""
    found = spec.spec_of(model)
    if found is not None:
        return found
    inputs = example_inputs(model, input_shape)
    first = input_shape[0] if input_shape and isinstance(input_shape[0], Sequence) else input_shape
    return spec.ModelSpec("graph", describe(model, inputs), tuple(first), classes)


def rebuild(found: spec.ModelSpec) -> nn.Module:
    """A model with fresh weights from its spec, whether from the catalogue or a user's own graph."""
    model = build(found.options) if found.architecture == "graph" else create_model(found.architecture, **found.options)
    return spec.attach(factorise(model, found.ranks), found)


def _traced_in_both_modes(model: nn.Module, inputs: tuple[Any, ...]) -> dict[str, fx.GraphModule]:
    found = {}
    with kept_modes(model):
        for mode in ("train", "eval"):
            for module in model.modules():  # not model.train(), which may do more
                module.training = mode == "train"
            try:
                found[mode] = captured_already(model) or record(model, inputs)
            except FailedCallError as failed:
                when = "In training" if mode == "train" else "In evaluation"
                raise ArgumentError(
                    "input_shape",
                    ", ".join(map(str, given_shapes(inputs))),
                    "inputs that the model takes, in training and in evaluation",
                    f"{when} it stopped with: {type(failed.error).__name__}: {failed.error}",
                ) from failed.error
            changes = facts(found[mode]).changes
            if changes:
                wanted = "a forward that changes no attributes, lists or objects of the model"
                raise ArgumentError("model", f"a forward that changes {', '.join(changes)}", wanted)
    return found


def _describe_node(node: fx.Node) -> dict[str, Any]:
    described: dict[str, Any] = {"op": node.op, "name": node.name}
    if node.op == "call_function":
        described["target"] = _function_name(node)
    elif node.op in ("call_method", "call_module", "get_attr"):
        described["target"] = str(node.target)
    if node.op == "call_method" and node.target not in METHODS:
        raise ArgumentError("model", f"the tensor method {node.target}", "methods that a model file can name")
    if node.op == "placeholder" and node.args:
        encode(node.args[0], node.name)
    if node.op == "call_function" and described["target"] == "getattr" and node.args[1] not in ATTRIBUTES:
        raise ArgumentError("model", f"the attribute {node.args[1]}", f"one of {', '.join(sorted(ATTRIBUTES))}")
    if node.args:
        described["args"] = [encode(item, node.name) for item in node.args]
    if node.kwargs:
        described["kwargs"] = {key: encode(item, node.name) for key, item in node.kwargs.items()}
    return described


def _function_name(node: fx.Node) -> str:
    try:
        return FUNCTION_NAMES[node.target]
    except (KeyError, TypeError):
        name = getattr(node.target, "__module__", None) or "", getattr(node.target, "__name__", str(node.target))
        raise ArgumentError("model", f"the function {'.'.join(filter(None, name))}", "torch's own functions") from None


def _describe_modules(model: nn.Module, called: Mapping[str, str]) -> dict[str, Description]:
    """Every layer by its path: those in the graph, and unused ones that have weights. ``called``: the modules that the
    graph calls, each with the reason why nothing can be seen of it, or ""."""
    described: dict[str, Description] = {}
    first_path: dict[int, str] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if any(path.startswith(f"{parent}.") for parent in described):
            continue
        reason = called.get(path or "model")
        if reason or (reason is not None and type(module) not in CLASS_NAMES):
            raise ArgumentError(
                "model",
                f"module {path or 'model'!r} of class {type(module).__name__}",
                "layers of torch.nn and convscope.layers, joined by torch functions",
                f"Nothing can be seen of it: {reason}." if reason else "A model file cannot name its class.",
            )
        if type(module) not in CLASS_NAMES:
            continue
        if not path:
            raise ArgumentError("model", type(module).__name__, "a model of layers; wrap it into nn.Sequential")
        if id(module) in first_path:
            described[path] = {"same_as": first_path[id(module)]}
        else:
            first_path[id(module)] = path
            described[path] = {"class": CLASS_NAMES[type(module)], "arguments": _arguments(module, path)}
    return described


def _arguments(module: nn.Module, path: str) -> Description:
    """The constructor's arguments, read back from the attributes of the same names."""
    arguments: Description = {}
    for name in inspect.signature(type(module).__init__).parameters:
        if name in ("self", "args", "kwargs", "device", "dtype", "codes", "_weight", "_freeze"):
            continue
        if name == "table" and isinstance(module, TableConv2d):
            arguments[name] = [list(row) for row in module.input_maps()]
            continue
        if not hasattr(module, name):
            continue
        value = getattr(module, name)
        arguments[name] = encode(value is not None if isinstance(value, nn.Parameter) else value, path)
    if hasattr(module, "bias") and module.bias is None:
        arguments["bias"] = False
    if isinstance(module, nn.MultiheadAttention):
        arguments |= {"bias": module.in_proj_bias is not None, "add_bias_kv": module.bias_k is not None}
    if isinstance(module, nn.RNNBase):  # keeps its kind in ``mode`` and takes no such argument by name
        sizes = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
        arguments = {name: getattr(module, name) for name in sizes}
        if isinstance(module, nn.RNN):
            arguments["nonlinearity"] = module.nonlinearity
        if isinstance(module, nn.LSTM) and module.proj_size:
            arguments["proj_size"] = module.proj_size
    return arguments


def _describe_tensors(
    model: nn.Module, modules: Description, attributes: Mapping[str, fx.GraphModule]
) -> dict[str, Description]:
    """Parameters, buffers and constants that belong to no layer."""
    described: dict[str, Description] = {}

    def outside(path: str) -> bool:
        return not any(path.startswith(f"{parent}.") for parent in modules)

    for path, parameter in model.named_parameters(remove_duplicate=False):
        if outside(path):
            described[path] = {"kind": "parameter", "shape": list(parameter.shape)}
    kept = model.state_dict().keys()
    for path, buffer in model.named_buffers(remove_duplicate=False):
        if outside(path):
            described[path] = _tensor("buffer", buffer, path, inline=path not in kept)
    for path, each in attributes.items():
        if path not in described and outside(path):
            value = find(each, path)
            if not isinstance(value, torch.Tensor):
                raise ArgumentError("model", f"the attribute {path}", "parameters, buffers and tensors")
            described[path] = _tensor("constant", value, path, inline=True)
    return described


def _tensor(kind: str, tensor: torch.Tensor, path: str, inline: bool) -> Description:
    described: Description = {
        "kind": kind,
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
    }
    if inline:
        if tensor.numel() > _LARGEST_INLINE:
            raise ArgumentError(
                "model", f"the tensor {path} of {tensor.numel()} elements", "it registered as a persistent buffer"
            )
        described["values"] = [encode(value, path) for value in tensor.detach().cpu().flatten().tolist()]
    return described


def _tree(model: nn.Module, modules: Mapping[str, Any]) -> list[str]:
    """All modules that hold layers or tensors, in the model's order: that of its parameters follows from it."""
    inside = tuple(f"{path}." for path in modules)
    return [path for path, _ in model.named_modules(remove_duplicate=False) if path and not path.startswith(inside)]


def _tied(model: nn.Module) -> list[list[str]]:
    """Groups of paths that share one parameter."""
    paths: dict[int, list[str]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        paths.setdefault(id(parameter), []).append(path)
    return [group for group in paths.values() if len(group) > 1]


def _check_same_state(model: nn.Module, rebuilt: nn.Module) -> None:
    """A layer whose constructor arguments are not its attributes would come back changed; say so now."""
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in rebuilt.state_dict().items()}
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            raise ArgumentError("model", f"{key} {wanted.get(key)}, rebuilt as {found.get(key)}", "parts that rebuild")
    for path, module in model.named_modules():
        if type(module) in CLASS_NAMES and repr(module) != repr(rebuilt.get_submodule(path)):
            raise ArgumentError(
                "model", f"module {path!r}: {module}", "a layer that its constructor's arguments rebuild"
            )
