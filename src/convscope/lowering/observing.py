"""Two small calls of a captured model, to see which shape each of its results has and which side is the batch."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, fx

from convscope.errors import LoweringError
from convscope.lowering.operators.reductions import Extremum
from convscope.lowering.plan import Shape
from convscope.lowering.values import Sizes, Value

BATCHES = (2, 3)  # images of the two calls: a side that is 2 and then 3 is the batch


@dataclasses.dataclass(frozen=True)
class Observed:
    """What each node of a graph put out in calls of 2 and of 3 images of ``shape``; tensors as on the meta device."""

    shape: Shape
    results: dict[fx.Node, tuple[Any, Any]]

    def sizes(self, node: fx.Node) -> Sizes | None:
        """Of the tensor (n, …) that a node puts out, without the batch; None where the engine does not know such."""
        return _sizes(*self.results[node])

    def is_like(self, node: fx.Node, found: Any) -> bool:
        """Whether the stand-ins that lowering found have the shapes of what the node puts out."""
        return _is_like(found, *self.results[node])

    def shown(self, node: fx.Node) -> str:
        result = self.results[node][0]
        if isinstance(result, Tensor):
            return f"a tensor {tuple(result.shape)} of {result.dtype}"
        return f"a {type(result).__name__}"


def observe(graph: fx.GraphModule, shape: Shape) -> Observed:
    """Calls of a copy, so that neither the model nor torch's generator is changed; parameters are shared.

    Raises LoweringError where the model cannot be copied or does not take such images.
    """
    shared = {id(each): each for each in graph.parameters()}
    before = torch.get_rng_state()
    found = []
    try:
        with torch.inference_mode(False):  # else the copy's buffers could never be changed
            for images in BATCHES:
                twin = copy.deepcopy(graph, dict(shared))
                found.append(_call(twin, torch.randn(images, *shape, dtype=torch.float32, device="cpu")))
    except Exception as problem:  # whatever the model's own code raises
        raise LoweringError("model", f"cannot be called on {BATCHES} images of {shape}: {problem}") from problem
    finally:
        torch.set_rng_state(before)
    return Observed(shape, {node: (found[0][node.name], found[1][node.name]) for node in graph.graph.nodes})


def _call(graph: fx.GraphModule, images: Tensor) -> dict[str, Any]:
    """What the nodes put out, by their names, with as little kept as can be."""
    runner = fx.Interpreter(graph)
    found: dict[str, Any] = {}
    given = [images]
    with torch.inference_mode(False), torch.no_grad():
        for node in graph.graph.nodes:
            absent = node.op == "placeholder" and not given
            result = node.args[0] if absent else given.pop() if node.op == "placeholder" else runner.run_node(node)
            runner.env[node] = result
            found[node.name] = _shapes_alone(result)
            for each in runner.user_to_last_uses.get(node, ()):
                del runner.env[each]
    return found


def _shapes_alone(result: Any) -> Any:
    """``result`` with tensors on the meta device, which hold no numbers."""
    if isinstance(result, Tensor):
        return result.detach().to("meta")
    if isinstance(result, tuple | list):
        return [_shapes_alone(each) for each in result]
    if isinstance(result, dict):
        return {key: _shapes_alone(each) for key, each in result.items()}
    return result


def has_tensor(result: Any) -> bool:
    """Whether there is a tensor in what a node puts out."""
    if isinstance(result, dict):
        return any(map(has_tensor, result.values()))
    return isinstance(result, Tensor) or (isinstance(result, tuple | list) and any(map(has_tensor, result)))


def _sizes(one: Any, other: Any) -> Sizes | None:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.dtype is not torch.float32:
        return None
    fits = one.ndim > 0 and (len(one), len(other)) == BATCHES and one.shape[1:] == other.shape[1:] and one.numel()
    return tuple(one.shape[1:]) if fits and one.layout is torch.strided else None


def _is_like(found: Any, one: Any, other: Any) -> bool:
    if isinstance(found, Value):
        return _sizes(one, other) == found.sizes
    if isinstance(found, Extremum):  # who reads the places finds none, and is refused
        return isinstance(one, list) and _is_like(found.values, one[0], other[0])
    if isinstance(found, tuple | list):
        fits = isinstance(one, list) and len(found) == len(one)
        return fits and all(_is_like(*each) for each in zip(found, one, other, strict=True))
    if isinstance(found, dict):
        fits = isinstance(one, dict) and found.keys() == one.keys()
        return fits and all(_is_like(each, one[key], other[key]) for key, each in found.items())
    return found is None and not isinstance(one, Tensor)
