"""The receptive field of any unit, on the input and on every map in between, and the other way: what a pixel reaches.

Along each dimension of the picture every call reads a known set of positions (``convscope.inspect.dependence``), so a
field is carried as one set of positions a dimension, through branches, borders and padding, exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.explorer.arithmetic import FAMILIES
from convscope.explorer.network import INPUT, Network
from convscope.graph.calls import Step, TensorLike
from convscope.inspect.dependence import Dimension, along, single
from convscope.inspect.receptive_field import ReceptiveFields

Mask = npt.NDArray[np.bool_]


class Reach:
    """Of one network. The first use of a layer may run it a few times on zeros; what was found is kept."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._fields = ReceptiveFields(network.model, network.input_shape)
        self.dimensions = len(network.input_shape) - 1
        walk = self._fields.walk
        self._input_name = walk.input_name
        self._axes: dict[str, list[int | None]] = {walk.input_name: [2 + d for d in range(self.dimensions)]}
        self._reads: dict[tuple[str, str, int], Dimension] = {}
        self._steps: list[Step] = []
        for step in single(walk):
            sources = [source for source in step.inputs if source.source in self._axes]
            if not sources:
                continue
            self._steps.append(step)
            axes: list[int | None] = []
            for d in range(self.dimensions):
                found = [self._dimension(step, source, d) for source in sources]
                axes.append(next((item.axis for item in found if item is not None), None))
            self._axes[step.name] = axes

    def of_unit(self, layer: str, unit: tuple[int, ...]) -> dict[str, Any]:
        """{name: [[first, last + 1] for each dimension]} for the input and every call that the unit depends on."""
        start = self._step_name(layer)
        at = (0, *unit)
        marked: list[Mask | None] = [None] * self.dimensions
        for d, axis in enumerate(self._axes.get(start, [])):
            if axis is not None:
                here: Mask = np.zeros(self._size(start, axis), bool)
                here[at[axis]] = True
                marked[d] = here
        field = self._fields[start, None]
        return {
            "boxes": self._boxes_before(start, marked, unit[0] if len(unit) > 1 else None),
            "size": list(field.size),
            "jump": list(field.jump) if field.jump is not None else None,
            "padded": self._padded(start, at),
        }

    def of_part(self, layer: str, part: list[list[int]]) -> dict[str, Any]:
        """The same of all units in a part of a layer's maps, or of the input, [first, last + 1] a dimension."""
        start = self._step_name(layer)
        marked: list[Mask | None] = []
        for d, (first, end) in enumerate(part):
            axis = self._axes[start][d]
            assert axis is not None
            whole = self.network.input_shape[1 + d] if start == self._input_name else self._size(start, axis)
            here: Mask = np.zeros(whole, bool)
            here[first:end] = True
            marked.append(here)
        return {"boxes": self._boxes_before(start, marked, None)}

    def _boxes_before(self, start: str, marked: list[Mask | None], number: int | None) -> dict[str, Any]:
        """What the marked positions of a call, of its map ``number`` or of any, depend on."""
        masks = {start: marked}
        maps = {start: number}  # the one map that is meant, as long as it is one
        for step in reversed(self._steps):
            if step.name in masks:
                for source, own in self._sources(step, maps.get(step.name)):
                    known = maps.setdefault(source.source, own)
                    maps[source.source] = own if known == own else None
                    self._pull(step, source, masks)
        boxes = {self._shown(name): self._box(name, masks[name]) for name in masks}
        return {name: box for name, box in boxes.items() if box is not None}

    def of_pixel(self, pixel: tuple[int, ...]) -> dict[str, Any]:
        """{name: box} of the units that a change of the input position may move, for every call."""
        masks: dict[str, list[Mask | None]] = {self._input_name: []}
        for d in range(self.dimensions):
            here: Mask = np.zeros(self.network.input_shape[1 + d], bool)
            here[pixel[d]] = True
            masks[self._input_name].append(here)
        for step in self._steps:
            found: list[Mask | None] = [None] * self.dimensions
            reached = False
            for source in step.inputs:
                if source.source not in masks:
                    continue
                pushed = self._push(step, source, masks[source.source])
                if pushed is None:
                    continue
                reached = True
                for d, mask in enumerate(pushed):
                    before = found[d]
                    found[d] = mask if before is None or mask is None else before | mask
            if reached:
                masks[step.name] = found
        boxes = {self._shown(name): self._box(name, masks[name]) for name in masks}
        return {"boxes": {name: box for name, box in boxes.items() if box is not None}}

    def _sources(self, step: Step, number: int | None) -> list[tuple[TensorLike, int | None]]:
        """What map ``number`` of a step reads (None: any map), and which map of that; of joined maps only one."""
        sources = [source for source in step.inputs if source.source in self._axes]
        node = self.network.nodes.get(self._shown(step.name))
        family = node.family if node is not None else "other"
        if number is None or node is None:
            return [(source, None) for source in sources]
        if family == "concat" and len(sources) == len(step.inputs) and self._joins_maps(step):
            for source in step.inputs:
                if number < source.shape[1]:
                    return [(source, number)]
                number -= source.shape[1]
        same = FAMILIES[family].map_by_map and all(source.shape[1] == node.shape[0] for source in sources)
        return [(source, number if same else None) for source in sources]

    @staticmethod
    def _joins_maps(step: Step) -> bool:
        dim = step.keywords.get("dim", step.arguments[1] if len(step.arguments) > 1 else 0)
        return bool(dim == 1 or (step.output_shape and dim == 1 - len(step.output_shape)))

    def _pull(self, step: Step, source: TensorLike, masks: dict[str, list[Mask | None]]) -> None:
        """Positions of ``source`` that the marked positions of ``step`` read."""
        into = masks.setdefault(source.source, [self._nothing(source, d) for d in range(self.dimensions)])
        for d in range(self.dimensions):
            dimension, mine = self._dimension(step, source, d), masks[step.name][d]
            kept = into[d]
            if dimension is None or kept is None:
                continue
            rows = dimension.reads if dimension.axis is None or mine is None else dimension.reads[np.flatnonzero(mine)]
            kept[rows[rows >= 0]] = True

    def _push(self, step: Step, source: TensorLike, marked: list[Mask | None]) -> list[Mask | None] | None:
        """Positions of ``step`` that read a marked position; None when there are none."""
        pushed: list[Mask | None] = []
        for d in range(self.dimensions):
            dimension, mask = self._dimension(step, source, d), marked[d]
            if dimension is None or mask is None:
                pushed.append(None)
                continue
            hit: Mask = np.asarray(((dimension.reads >= 0) & mask[dimension.reads]).any(axis=1))
            if not hit.any():
                return None
            pushed.append(hit if dimension.axis is not None else None)
        return pushed

    def _dimension(self, step: Step, source: TensorLike, d: int) -> Dimension | None:
        axis = self._axes[source.source][d]
        if axis is None:
            return None
        key = (step.name, source.source, d)
        if key not in self._reads:
            self._reads[key] = along(step, source, axis)
        return self._reads[key]

    def _nothing(self, source: TensorLike, d: int) -> Mask | None:
        axis = self._axes[source.source][d]
        return None if axis is None else np.zeros(source.shape[axis], bool)

    def _size(self, name: str, axis: int) -> int:
        shape = next(step.output_shape for step in self._steps if step.name == name)
        assert shape is not None
        return shape[axis]

    def _box(self, name: str, masks: list[Mask | None]) -> list[list[int]] | None:
        """First and last + 1 for each dimension, [0, 0] where nothing is read; None for calls without places."""
        if any(
            mask is None or axis != 2 + d for d, (mask, axis) in enumerate(zip(masks, self._axes[name], strict=True))
        ):
            return None
        box = []
        for mask in masks:
            assert mask is not None
            at = np.flatnonzero(mask)
            box.append([int(at[0]), int(at[-1]) + 1] if len(at) else [0, 0])
        return box

    def _padded(self, start: str, at: tuple[int, ...]) -> list[list[int]] | None:
        """The field on the input with the padding around it counted in."""
        if self._axes.get(start) != [2 + d for d in range(self.dimensions)]:
            return None
        found = self._fields[start, at[2:]]
        return [list(side) for side in found.padded_box] if found.padded_box is not None else None

    def _step_name(self, layer: str) -> str:
        return self._input_name if layer == INPUT else layer

    def _shown(self, name: str) -> str:
        return INPUT if name == self._input_name else name
