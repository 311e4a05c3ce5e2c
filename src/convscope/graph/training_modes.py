"""A model's modules in other modes for a while: each comes back to its own, as a model need not be in one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Whatever is done meanwhile, afterwards every module is in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def looking(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and afterwards in the modes that it had."""
    with kept_modes(model):
        model.eval()
        yield
