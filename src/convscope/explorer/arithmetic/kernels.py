"""A convolution's kernels by output map and by input map, whatever the module keeps them as."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import nn

from convscope import layers as own
from convscope.explorer.arithmetic.layer import Floats, Index, Layer, doubles
from convscope.explorer.arithmetic.windows import Integers

Fan = tuple[Integers, Floats, Integers]
"""(maps (m,), weights (m, k), places of those weights in the parameter (m, k, …))"""


class KernelsByMap:
    """``feeding(j)``: the kernels into output map j; ``fed_by(i)``: those out of input map i. k runs over the window in
    the order in which it lies on the picture, so that a rotated kernel comes out rotated."""

    def __init__(self, layer: Layer) -> None:
        module = layer.module
        assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | own.TableConv2d)
        self.weight = module.weight
        self.flip = bool(getattr(module, "flip_kernel", False))
        self.size: Index = tuple(int(side) for side in self.weight.shape[-len(module.kernel_size) :])
        self.count = int(np.prod(self.size))
        if isinstance(module, own.TableConv2d):
            outputs, inputs = module.table.nonzero(as_tuple=True)
            self.connections: tuple[Integers, Integers] | None = (outputs.cpu().numpy(), inputs.cpu().numpy())
            self.per_group = self.outputs_per_group = 0
        else:
            self.connections = None
            self.per_group = int(self.weight.shape[1])
            self.outputs_per_group = module.out_channels // module.groups

    def feeding(self, output: int) -> Fan:
        if self.connections is not None:
            rows = np.flatnonzero(self.connections[0] == output)
            return self.connections[1][rows], self._order(doubles(self.weight[rows])), self._places(rows)
        first = output // self.outputs_per_group * self.per_group
        maps = np.arange(first, first + self.per_group)
        weights = self._order(doubles(self.weight[output]))
        return maps, weights, self._places(np.stack([np.full(self.per_group, output), np.arange(self.per_group)], 1))

    def fed_by(self, source: int) -> Fan:
        if self.connections is not None:
            rows = np.flatnonzero(self.connections[1] == source)
            return self.connections[0][rows], self._order(doubles(self.weight[rows])), self._places(rows)
        first = source // self.per_group * self.outputs_per_group
        maps = np.arange(first, first + self.outputs_per_group)
        within = source % self.per_group
        weights = self._order(doubles(self.weight[first : first + self.outputs_per_group, within]))
        return maps, weights, self._places(np.stack([maps, np.full(len(maps), within)], 1))

    def locate(self, index: Index) -> tuple[int, int, Index]:
        """(output map, input map, place in the window) of one weight."""
        place = index[-len(self.size) :]
        if self.flip:
            place = tuple(size - 1 - at for size, at in zip(self.size, place, strict=True))
        if self.connections is not None:
            return int(self.connections[0][index[0]]), int(self.connections[1][index[0]]), place
        return index[0], index[0] // self.outputs_per_group * self.per_group + index[1], place

    def _order(self, weights: Floats) -> Floats:
        flat = weights.reshape(len(weights), self.count)
        return flat[:, ::-1] if self.flip else flat

    def _places(self, rows: npt.NDArray[np.int64]) -> Integers:
        """Index of every weight in the parameter: (m, k, dimensions of the parameter)."""
        within = np.array(list(np.ndindex(self.size)), np.int64)  # (k, d)
        within = within[::-1] if self.flip else within
        leading = rows.reshape(len(rows), -1)  # (m, 1 or 2)
        shape = (len(rows), self.count)
        return np.concatenate(
            [
                np.broadcast_to(leading[:, None, :], (*shape, leading.shape[1])),
                np.broadcast_to(within[None], (*shape, len(self.size))),
            ],
            axis=2,
        )
