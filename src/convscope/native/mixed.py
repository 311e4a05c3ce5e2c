"""A model whose layers the engine has in part: segments on the engine, and torch between them."""

from __future__ import annotations

import collections
import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from convscope import spec
from convscope.errors import ArgumentError
from convscope.graph.capture import find_module
from convscope.layers import Loss
from convscope.layers.losses import loss_for
from convscope.lowering.folding import fold_batch_norms
from convscope.lowering.lower import checked_shape, restore, works_in_place
from convscope.lowering.plan import Plan
from convscope.lowering.segments import NativeSegment, Segments, TorchSegment, cut, pack
from convscope.native.calling import call
from convscope.native.memory import SharedMemory
from convscope.native.network import LowPrecision, NativeNetwork
from convscope.shapes import check_dense

_KEPT_MODES = 4  # constellations of train, eval and frozen parameters whose segments are kept


@dataclasses.dataclass(frozen=True)
class Mixed:
    """The segments for one constellation of modes. ``last`` names what no step after the one at its place reads."""

    segments: Segments
    networks: dict[NativeSegment, NativeNetwork]
    last: list[list[fx.Node]]


class MixedNetwork:
    """``model`` for images of ``input_shape`` (channels, height, width): what the engine has runs there, the rest in
    torch, in the order that the model's graph allows; gradients, running statistics and chance are those of the model.

    ``memory`` is that of ``model``; ``preprocessing`` turns uint8 images into its input. Modes of modules are those at
    each call. ``fold``: as in ``lower``, for calls without gradients alone; ``low``: as for a ``NativeNetwork``. Raises
    LoweringError where nothing is worth the engine (``segments.cut``).
    """

    def __init__(
        self,
        model: nn.Module,
        input_shape: Sequence[int],
        memory: SharedMemory,
        preprocessing: spec.Preprocessing | None = None,
        *,
        fold: bool = False,
        low: LowPrecision | None = None,
    ) -> None:
        self.model, self.memory, self.fold, self.low = model, memory, fold, low
        self.input_shape = checked_shape(input_shape)
        self.preprocessing = preprocessing
        self._kept: collections.OrderedDict[tuple[bool, ...], Mixed] = collections.OrderedDict()
        self._structure = memory.structure
        self.ready()

    def ready(self) -> Mixed:
        """The segments for the present modes."""
        self.memory.check()
        self.memory.check_model()
        if self._structure != self.memory.structure:
            self._kept.clear()
            self._structure = self.memory.structure
        modes = self.memory.modes()
        mixed = self._kept.get(modes)
        if mixed is None:
            mixed = self._kept[modes] = self._make()
            if len(self._kept) > _KEPT_MODES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(modes)
        return mixed

    def _make(self) -> Mixed:
        segments = cut(self.model, self.input_shape)
        networks = {
            step: NativeNetwork(self.model, step.shape, memory=self.memory, plan=self._plan_of(step), low=self.low)
            for step in segments.steps
            if isinstance(step, NativeSegment)
        }
        last: dict[fx.Node, int] = {}
        for place, step in enumerate(segments.steps):
            last |= dict.fromkeys(_reads(step), place)
        ended = [[node for node, at in last.items() if at == place] for place in range(len(segments.steps))]
        return Mixed(segments, networks, ended)

    def _plan_of(self, step: NativeSegment) -> Callable[[], Plan]:
        return (lambda: fold_batch_norms(step.plan(), self.model)) if self.fold else step.plan

    def without_chance(self) -> MixedNetwork:
        """The network in the present modes, with nothing dropped by the engine."""
        mixed = self.ready()
        quiet = {step: each.without_chance() for step, each in mixed.networks.items()}
        twin = copy.copy(self)
        twin._kept = collections.OrderedDict({self.memory.modes(): dataclasses.replace(mixed, networks=quiet)})
        return twin

    def __call__(
        self,
        images: Tensor,
        mixed: Mixed | None = None,
        seen: Callable[[NativeNetwork, Tensor], None] = lambda network, given: None,
    ) -> Any:
        """What the model returns for images, float32 (n, c, h, w), or uint8 where there is preprocessing. ``mixed``:
        what ``ready()`` has just said. ``seen`` is told what each segment's network is given."""
        mixed = self.ready() if mixed is None else mixed
        x = self._input(images)
        found: dict[fx.Node, Any] = {}
        given = [x]
        for node in mixed.segments.graph.graph.nodes:
            if node.op == "placeholder":
                found[node] = given.pop() if given else node.args[0]
        result: Any = None
        for step, ended in zip(mixed.segments.steps, mixed.last, strict=True):
            if isinstance(step, NativeSegment):
                tensors = [found[node] for node in step.inputs]
                given_to_step = pack(tensors, step.shape)
                seen(mixed.networks[step], given_to_step)
                compiled, outputs = call(mixed.networks[step], given_to_step)
                found |= zip(step.outputs, restore(compiled.plan.structure, outputs), strict=True)
            else:
                result = _by_torch(mixed.segments, step, found)
            for node in ended:
                found.pop(node, None)
        return result

    def accept(self, images: Tensor) -> None:
        """ArgumentError for images that the network does not take."""
        check_dense("images", self._input(images))

    def _input(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or tuple(images.shape[1:]) != self.input_shape:
            wanted = "(n, " + ", ".join(map(str, self.input_shape)) + ")"
            raise ArgumentError("images", tuple(images.shape), wanted)
        if images.device.type != "cpu":
            raise ArgumentError("images", f"on {images.device}", "images on the CPU")
        if images.dtype == torch.uint8 and self.preprocessing is not None:
            return self.preprocessing.normalise(images)
        if images.dtype != torch.float32:
            raise ArgumentError("images", images.dtype, "torch.float32, or torch.uint8 with preprocessing")
        return images

    def describe(self) -> str:
        """One line a segment: where it runs and which layers it has, and for torch's layers why."""
        segments = self.ready().segments
        lines = []
        for step in segments.steps:
            names = [layer_name(node) for node in step.nodes if node.op.startswith("call_")]
            if not names:
                continue
            where = "native" if isinstance(step, NativeSegment) else "torch"
            shown = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]} ({len(names)} steps)"
            lines.append(f"{where:>6}: {shown}")
            if where == "torch":
                lines += [f"        {name}: {segments.reasons[name]}" for name in names if name in segments.reasons]
        return "\n".join(lines)


def value_of(loss: str | Loss | nn.Module, model: nn.Module) -> Callable[[Any, Tensor], Tensor]:
    """The loss in torch, of outputs and targets."""
    return loss if isinstance(loss, nn.Module) else loss_for(loss, model).value


def loss_and_grad(
    run: Callable[[Tensor], Any],
    memory: SharedMemory,
    images: Tensor,
    targets: Tensor,
    loss: str | Loss | nn.Module,
    seed: int | None = None,
) -> Tensor:
    """The loss of ``run(images)``, with ``.grad`` of every trained parameter of the memory's model overwritten.

    ``seed``: of torch's generator meanwhile."""
    with torch.random.fork_rng(devices=(), enabled=seed is not None), torch.enable_grad():
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        value: Tensor = value_of(loss, memory.model)(run(images), targets)
        trained = {name: each for name, each in memory.model.named_parameters() if each.requires_grad}
        found = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    reached = {name: delta for name, delta in zip(trained, found, strict=True) if delta is not None}
    memory.attach_gradients(reached)
    with torch.no_grad():
        for name, delta in reached.items():
            gradient = trained[name].grad
            assert gradient is not None
            gradient.copy_(delta)
    return value.detach()


def _reads(step: NativeSegment | TorchSegment) -> list[fx.Node]:
    """What a step needs, and what it makes."""
    if isinstance(step, NativeSegment):
        return [*step.inputs, *step.outputs]
    return [*step.nodes, *(each for node in step.nodes for each in node.all_input_nodes)]


def interpret(graph: fx.GraphModule, images: Tensor) -> dict[fx.Node, Any]:
    """What every node of a model's graph puts out in torch."""
    nodes = list(graph.graph.nodes)
    found: dict[fx.Node, Any] = {}
    given = [images]
    for node in nodes:
        if node.op == "placeholder":
            found[node] = given.pop() if given else node.args[0]
    in_place = frozenset(node for node in nodes if works_in_place(graph, node))
    rest = tuple(node for node in nodes if node.op != "placeholder")
    _by_torch(Segments(graph, (), in_place, {}), TorchSegment(rest), found)
    return found


def _by_torch(segments: Segments, step: TorchSegment, found: dict[fx.Node, Any]) -> Any:
    """Run the nodes of ``step``; the result of the last."""
    result: Any = None
    for node in step.nodes:
        args, keywords = _filled(node.args, found), _filled(node.kwargs, found)
        if node in segments.in_place and isinstance(args[0], Tensor):
            args = (args[0].clone(), *args[1:])  # the engine's networks may need the old one for their gradients
        if node.op == "output":
            return args[0]
        if node.op == "get_attr":
            result = segments.graph
            for part in str(node.target).split("."):
                result = getattr(result, part)
        elif node.op == "call_module":
            module = find_module(segments.graph, node)
            assert module is not None
            result = module(*args, **keywords)
        elif node.op == "call_method":
            result = getattr(args[0], str(node.target))(*args[1:], **keywords)
        else:
            result = node.target(*args, **keywords)  # type: ignore[operator]
        found[node] = result
    return result


def _filled(argument: Any, found: dict[fx.Node, Any]) -> Any:
    """An argument of a node with results in the place of nodes, in plain lists and dictionaries."""
    if isinstance(argument, fx.Node):
        return found[argument]
    if isinstance(argument, tuple):
        items = [_filled(each, found) for each in argument]
        return type(argument)(*items) if hasattr(argument, "_fields") else tuple(items)
    if isinstance(argument, list):
        return [_filled(each, found) for each in argument]
    if isinstance(argument, dict):
        return {key: _filled(each, found) for key, each in argument.items()}
    if isinstance(argument, slice):
        return slice(*(_filled(each, found) for each in (argument.start, argument.stop, argument.step)))
    return argument


def layer_name(node: fx.Node) -> str:
    """The name under which records and refusals are a node's."""
    return str(node.target) if node.op == "call_module" else node.name
