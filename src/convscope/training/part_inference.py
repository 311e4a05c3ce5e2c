"""A model of several inputs whose pictures first go through one part by itself, as a detector's body is: that part on
the native engine, the rest in torch.

A model says so by the name of that part, in its ``picture_part``.
"""

from __future__ import annotations

import collections
import copy

from torch import Tensor, nn

from convscope.errors import ConvscopeError, LoweringError
from convscope.native import NativeNetwork
from convscope.native.accelerated import KEPT_SHAPES
from convscope.native.memory import SharedMemory
from convscope.native.trust import Trust
from convscope.spec import Input


class PartOnEngine(nn.Module):
    """A copy of ``part``, which takes float32 pictures (n, c, h, w), in evaluation mode and without gradients.

    A network on the engine for each of the latest sizes of pictures, batch normalisation folded, its first answers
    compared with torch's, which answers where they differ."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = copy.deepcopy(part).eval()
        self._wanted = Trust().wanted  # as ``native.checking`` says now, not where the answers are asked for
        self._memory = SharedMemory(self.part, take=True)
        self._kept: collections.OrderedDict[tuple[int, ...], tuple[NativeNetwork, Trust]] = collections.OrderedDict()

    def forward(self, x: Tensor) -> Tensor:
        network, trust = self.ready(tuple(x.shape[1:]))
        ready = trust.forward(network, network.ready(), x)
        y: Tensor = self.part(x) if ready is None else network.forward(x)
        return y

    def ready(self, shape: tuple[int, ...]) -> tuple[NativeNetwork, Trust]:
        """The network for pictures of this shape, and what is known of it beside torch; LoweringError where there can
        be none."""
        found = self._kept.get(shape)
        if found is None:
            found = NativeNetwork(self.part, shape, memory=self._memory, fold=True), Trust(self._wanted)
            self._kept[shape] = found
            if len(self._kept) > KEPT_SHAPES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(shape)
        return found


def with_part_on_engine(model: nn.Module, picture: Input) -> tuple[nn.Module, str] | str:
    """``model`` with a copy of its ``picture_part`` on the engine, all else being the model's own, and that part's
    name; or why that cannot be."""
    name: str = model.picture_part  # type: ignore[assignment]
    preprocessing = picture.preprocessing
    if preprocessing is None:
        return "the model does not say what pictures it takes"
    part = model.get_submodule(name)
    try:
        own = PartOnEngine(part)
        own.ready((preprocessing.channels, *preprocessing.size))
    except LoweringError as problem:
        return f"the native engine cannot run {problem} of {name}"
    except (ConvscopeError, RuntimeError, TypeError) as problem:
        return f"the native engine cannot run {name} ({problem})"
    twin = copy.copy(model)
    twin.__dict__["_modules"] = {**model._modules, name: own}
    return twin, name
