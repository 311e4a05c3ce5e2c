"""Faster ways to compute with boxes and regions, where something above this room has enrolled them.

The native engine enrols its kernels here (``native.regions``), as layers may not import it: it is looked for once, when
the first boxes come. Without it plain tensor algebra does the work, with the same results.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from convscope.registry import Discovery

#: "pool", "mix" and "suppress".
FAST: dict[str, Callable[..., Tensor]] = {}
_discover = Discovery("convscope.native.regions")


def fast_way(name: str, *tensors: Tensor) -> Callable[..., Tensor] | None:
    """The faster way for such tensors: float32, dense, on the CPU, and of torch's own kind (not traced, not fake)."""
    for each in tensors:
        if type(each) not in (Tensor, nn.Parameter) or each.device.type != "cpu" or each.dtype != torch.float32:
            return None
        if each.layout != torch.strided or torch._C._functorch.is_functorch_wrapped_tensor(each):
            return None
    _discover()
    return FAST.get(name)
