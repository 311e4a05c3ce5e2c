"""A model cut into segments: what the engine runs, and what is left to torch between.

Every node of the model's graph is lowered by itself, on stand-ins of the shapes that two small calls have shown. What
has no lowering is torch's. Nodes of one kind that need not wait for the other kind make one segment, so that a branch
that is torch's does not cut the branch beside it; a segment's results pass to the others as tensors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from convscope.errors import LoweringError
from convscope.graph import sizes
from convscope.graph.capture import find_module, source_model
from convscope.layers import AuxiliaryOutputs
from convscope.lowering.builder import MODULES, Builder
from convscope.lowering.lower import Walk, checked_shape, plan_of, recorded, refuse_effects, works_in_place
from convscope.lowering.observing import Observed, has_tensor, observe
from convscope.lowering.plan import Plan, Shape
from convscope.lowering.values import Sizes, Value, folded, row_major

# Records that are worth a segment: a sum or a rectifier alone saves less than the copies at its border cost.
_WORTHY = frozenset({
    "conv2d", "conv_transpose2d", "linear", "batch_norm", "layer_norm", "group_norm", "max_pool", "mean_pool",
    "sum_pool", "l2_pool", "max_windows", "rbf_units", "response_norm", "resample",
})  # fmt: skip
_FREE = frozenset({AuxiliaryOutputs})  # builds what the model returns, and computes nothing


@dataclasses.dataclass(frozen=True)
class NativeSegment:
    """``nodes`` that the engine runs by ``plan()``, on one tensor of ``shape`` an image: the numbers of all ``inputs``,
    one behind another. ``outputs``: the nodes that the plan's structure, a tuple, has the results of."""

    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]
    shape: Shape
    plan: Callable[[], Plan]


@dataclasses.dataclass(frozen=True)
class TorchSegment:
    """``nodes`` that torch runs in this order."""

    nodes: tuple[fx.Node, ...]


@dataclasses.dataclass(frozen=True)
class Segments:
    """A model's ``steps`` in the order in which they run, the last with the graph's output. ``graph`` has the modules
    that nodes call; those ``in_place`` change their first argument, whose old value nobody reads later. ``reasons``
    says why layers are torch's, by their names."""

    graph: fx.GraphModule
    steps: tuple[NativeSegment | TorchSegment, ...]
    in_place: frozenset[fx.Node]
    reasons: Mapping[str, str]


def cut(model: nn.Module, input_shape: Sequence[int]) -> Segments:
    """``model``, for images of ``input_shape`` (channels, height, width), in its modules' modes.

    Raises LoweringError where nothing in it is worth the engine, where it changes something of its own, and where it
    cannot be called on small batches of such images.
    """
    shape = checked_shape(input_shape)
    graph = recorded(model, shape)
    refuse_effects(graph)
    observed = observe(graph, shape)
    _refuse_counting(graph, observed)
    cutter = _Cutter(graph, observed)
    while True:
        steps = cutter.steps()
        unfit = cutter.unfit(steps)
        if not unfit:
            break
        cutter.refused |= unfit
    reasons = {each.layer: each.reason for each in cutter.refused.values() if each is not None}
    if not any(isinstance(each, NativeSegment) for each in steps):
        layer, reason = next(iter(reasons.items()), ("model", "does too little to be worth the engine"))
        raise LoweringError(layer, reason)
    return Segments(graph, tuple(steps), frozenset(cutter.in_place), reasons)


class _Cutter:
    """``refused`` are the nodes that are torch's; None where the engine could, but it is not worth it."""

    def __init__(self, graph: fx.GraphModule, observed: Observed) -> None:
        self.graph, self.observed = graph, observed
        self.model = source_model(graph)
        self.refused: dict[fx.Node, LoweringError | None] = {}
        self.order = {node: place for place, node in enumerate(graph.graph.nodes)}
        self.output = next(node for node in self.order if node.op == "output")
        whole = _Lowering(self, Builder(self.model, observed.shape), self.stand_in)
        self.in_place = [node for node in self.order if works_in_place(graph, node)]
        self.needed = self._find_needed()
        self._needed = frozenset(self.needed)
        for node in self.needed:
            if self.computes(node):
                try:
                    whole.step(node)
                    self._check(node, whole)
                except LoweringError as problem:
                    self._refuse(node, problem, whole)

    def computes(self, node: fx.Node) -> bool:
        """Whether the node makes a tensor, of others."""
        called = node.op in ("call_module", "call_method", "call_function")
        return called and (node.op == "call_module" or has_tensor(self.observed.results[node]))

    def _find_needed(self) -> list[fx.Node]:
        """What the output depends on, and what does more than to compute its result."""
        needed: set[fx.Node] = set()
        effects = [node for node in self.order if not node.users and _has_effect(find_module(self.graph, node))]
        for node in effects:
            name = str(node.target)
            self.refused[node] = LoweringError(name, "its result is not used, but it may do something beside")
        open_nodes = [self.output, *effects]
        while open_nodes:
            node = open_nodes.pop()
            if node not in needed:
                needed.add(node)
                open_nodes += node.all_input_nodes
        return sorted(needed, key=self.order.__getitem__)

    def _refuse(self, node: fx.Node, problem: LoweringError, whole: _Lowering) -> None:
        """``node`` is torch's, and so is what makes several values of which it is to read one."""
        self.refused[node] = _bare(problem)
        whole.walk.forget(node)
        for source in node.all_input_nodes:
            several = self.computes(source) and not isinstance(whole.walk.found.get(source), Value)
            if several and source not in self.refused:
                self._refuse(source, problem, whole)

    def _check(self, node: fx.Node, whole: _Lowering) -> None:
        """The shapes must be torch's."""
        if node.op == "call_function" and node.target in _FREE:
            self.refused[node] = None
            return
        if node in self.refused:
            whole.walk.forget(node)
        elif not self.observed.is_like(node, whole.walk.found[node]):
            whole.walk.builder.refuse(f"makes {self.observed.shown(node)}, which the engine does not give")

    def stand_in(self, node: fx.Node, builder: Builder) -> Value:
        """For a tensor that torch makes, or that is the image."""
        sizes = self.observed.sizes(node)
        if sizes is None:
            builder.refuse(f"takes {self.observed.shown(node)} of {node.name!r}, the engine takes float32 images")
        return builder.outside(sizes)

    def steps(self) -> list[NativeSegment | TorchSegment]:
        """The segments as ``refused`` makes them."""
        levels: dict[fx.Node, int] = {}
        groups: dict[tuple[int, bool], list[fx.Node]] = {}
        for node in self.needed:
            if self.computes(node):
                native = node not in self.refused
                before = [(levels[each], each not in self.refused) for each in self._sources(node) if each in levels]
                level = max((at + (kind != native) for at, kind in before), default=0)
                levels[node] = level
                groups.setdefault((level, native), []).append(node)
        last = max((level for level, _ in groups), default=0) + 1
        groups[(last, False)] = [self.output]
        done: set[fx.Node] = {node for node in self.needed if node.op == "placeholder"}
        found: list[NativeSegment | TorchSegment] = []
        for (_, native), nodes in sorted(groups.items(), key=lambda each: each[0]):
            found.append(self._native(nodes) if native else self._torch(nodes, done))
        return found

    def _sources(self, node: fx.Node) -> list[fx.Node]:
        """The tensors that ``node`` depends on, be it by their shapes alone."""
        found: list[fx.Node] = []
        for each in node.all_input_nodes:
            found += [each] if self.is_tensor(each) else self._sources(each)
        return found

    def is_tensor(self, node: fx.Node) -> bool:
        return node.op == "placeholder" or self.computes(node)

    def _torch(self, nodes: list[fx.Node], done: set[fx.Node]) -> TorchSegment:
        """``nodes`` and the sizes and attributes that they read and nobody before them did."""
        wanted: set[fx.Node] = set()
        open_nodes = list(nodes)
        while open_nodes:
            node = open_nodes.pop()
            if node not in wanted and node not in done:
                wanted.add(node)
                open_nodes += [each for each in node.all_input_nodes if not self.is_tensor(each)]
        done |= wanted
        return TorchSegment(tuple(sorted(wanted, key=self.order.__getitem__)))

    def _native(self, nodes: list[fx.Node]) -> NativeSegment:
        own = set(nodes)
        read = [each for node in nodes for each in node.all_input_nodes if self.is_tensor(each) and each not in own]
        inputs = tuple(dict.fromkeys(read))
        outputs = tuple(node for node in nodes if any(self._reads(user, node, own) for user in node.users))
        sizes = [self.observed.sizes(each) or () for each in inputs]
        shape = packed(sizes)
        return NativeSegment(
            tuple(nodes), inputs, outputs, shape, lambda: self._plan(nodes, inputs, sizes, outputs, shape)
        )

    def _reads(self, user: fx.Node, node: fx.Node, own: set[fx.Node]) -> bool:
        """Whether somebody outside a segment needs ``node``; sizes are read from tensors by torch alone."""
        if user in own or user not in self._needed:
            return False
        if self.computes(user) or user.op == "output":
            return True
        return any(self._reads_size(each, own) for each in user.users)

    def _reads_size(self, user: fx.Node, own: set[fx.Node]) -> bool:
        if user.op == "output" or (self.computes(user) and user in self.refused):
            return True
        return not self.computes(user) and any(self._reads_size(each, own) for each in user.users)

    def _plan(
        self,
        nodes: Iterable[fx.Node],
        inputs: Sequence[fx.Node],
        sizes: Sequence[Sizes],
        outputs: Sequence[fx.Node],
        shape: Shape,
    ) -> Plan:
        """The engine's plan of a segment."""
        given = dict(zip(inputs, parts(shape, sizes), strict=True))

        def outside(node: fx.Node, builder: Builder) -> Value:
            return given[node] if node in given else self.stand_in(node, builder)  # the latter for its size alone

        for mixed in (False, True):
            builder = Builder(self.model, shape, mixed)
            lowering = _Lowering(self, builder, outside)
            for node in nodes:
                lowering.step(node)
            if not (builder.training and builder.evaluates):
                break
        return plan_of(builder, *lowering.walk.returned(outputs))

    def unfit(self, steps: Iterable[NativeSegment | TorchSegment]) -> dict[fx.Node, LoweringError | None]:
        """The nodes of segments that, as a whole, do not lower or are not worth it."""
        found: dict[fx.Node, LoweringError | None] = {}
        for step in steps:
            if isinstance(step, NativeSegment):
                try:
                    plan = step.plan()
                except LoweringError as problem:
                    found |= dict.fromkeys(step.nodes, _bare(problem))
                else:
                    if not any(record.kind in _WORTHY for record in plan.records):
                        found |= dict.fromkeys(step.nodes)
        return found


def _bare(problem: LoweringError) -> LoweringError:
    """Without its traceback, whose frames hold whatever called this module."""
    return LoweringError(problem.layer, problem.reason)


def _has_effect(module: nn.Module | None) -> bool:
    """Whether a call may do more than to compute a result."""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.training
    return module is not None and type(module) not in MODULES and not type(module).__module__.startswith("torch.nn.")


def _refuse_counting(graph: fx.GraphModule, observed: Observed) -> None:
    """LoweringError where the model decides by the number of images: the segments are for any number."""
    for node in graph.graph.nodes:
        if node.target is sizes.expect:
            found = [observed.results[each] for each in node.all_input_nodes]
            moving = [each for each in found if each[0] != each[1]]
            if moving and not (len(found) == 2 and found[0] == found[1]):
                raise LoweringError(node.name, "goes another way for another number of images")


class _Lowering:
    """A walk over some nodes of a graph. ``outside(node, builder)`` stands for a tensor that others make."""

    def __init__(self, cutter: _Cutter, builder: Builder, outside: Callable[[fx.Node, Builder], Value]) -> None:
        self.cutter, self.outside = cutter, outside
        self.walk = Walk(cutter.graph, builder)

    def step(self, node: fx.Node) -> None:
        self._find_inputs(node)
        self.walk.step(node)

    def _find_inputs(self, node: fx.Node) -> None:
        for each in node.all_input_nodes:
            if each not in self.walk.found:
                if self.cutter.is_tensor(each):
                    self.walk.name(node)
                    self.walk.stand_for(each, self.outside(each, self.walk.builder))
                else:
                    self.step(each)


def packed(sizes: Sequence[Sizes]) -> Shape:
    """The maps that hold tensors of ``sizes`` one behind another: as further channels, where all are maps of one
    size."""
    if len(sizes) == 1:
        return folded(sizes[0])
    if all(len(each) == 3 and each[1:] == sizes[0][1:] for each in sizes):
        return (sum(each[0] for each in sizes), *sizes[0][1:])  # type: ignore[return-value]
    return (sum(map(math.prod, sizes)), 1, 1)


def parts(shape: Shape, sizes: Sequence[Sizes]) -> list[Value]:
    """The tensors in maps of ``shape``, as ``packed`` lays them."""
    if len(sizes) == 1:
        return [Value.plain(0, shape, sizes[0])]
    found, at = [], 0
    for each in sizes:
        found.append(Value(0, shape, each, row_major(each), at))
        at += math.prod(each)
    return found


def pack(tensors: Sequence[Tensor], shape: Shape) -> Tensor:
    """(n, channels, height, width) of tensors (n, …)."""
    if len(tensors) == 1:
        return tensors[0].reshape(len(tensors[0]), *shape)
    return torch.cat([each.flatten(1) for each in tensors], 1).view(len(tensors[0]), *shape)
