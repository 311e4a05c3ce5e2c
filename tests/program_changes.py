"""What is done to the models of ``tests.programs`` between their calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tests.program_oddities import SETTINGS
from tests.program_statements import CHANNELS
from torch import nn
from torch.nn.utils import parametrizations


def _swap(m: Any) -> None:
    m.conv.weight.data = m.conv.weight.data * 0.5


def _write(m: Any) -> None:
    with torch.no_grad():
        m.conv.weight.mul_(1.5)
        m.head.bias.add_(0.5)


def _reload(m: Any) -> None:
    m.load_state_dict({name: each * 0.9 for name, each in m.state_dict().items()})


def _another(m: Any) -> None:
    fresh = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(m.conv.weight.dtype)
    with torch.no_grad():
        fresh.weight.fill_(0.05)
        fresh.bias.zero_()  # type: ignore[union-attr]
    m.conv = fresh


def _patched(m: Any) -> None:
    m.gated.forward = lambda x, gain=1.0: x * gain * 0.5


def _average(m: Any) -> None:
    for parameter in m.parameters():
        kept = parameter.data
        parameter.data = kept * 0.5 + 0.1
        parameter.data = kept if parameter.ndim == 1 else parameter.data


CHANGES: dict[str, Callable[[Any], object]] = {
    "nothing": lambda m: None,
    "scale": lambda m: setattr(m, "scale", -0.5),
    "option": lambda m: m.options.update(gain=0.5),
    "setting": lambda m: setattr(m.settings, "shift", -0.7),
    "depth": lambda m: setattr(m, "depth", 1),
    "way": lambda m: setattr(m, "deep", False),
    "cast": lambda m: setattr(m, "cast", False),
    "gate": lambda m: setattr(m.gated, "gate", None),
    "bound": lambda m: setattr(m, "bound", -5.0),
    "offset": lambda m: m.offset.fill_(3.0),
    "evaluation": lambda m: m.eval(),
    "training": lambda m: m.train(),
    "one layer's mode": lambda m: m.norm.eval(),
    "frozen": lambda m: m.conv.requires_grad_(False),
    "thawed": lambda m: m.conv.requires_grad_(True),
    "epsilon": lambda m: setattr(m.norm, "eps", 0.3),
    "padding": lambda m: vars(m.conv).update(padding=(2, 2), dilation=(2, 2), _reversed_padding_repeated_twice=[2] * 4),
    "activation": lambda m: setattr(m, "act", nn.Sigmoid()),
    "hook": lambda m: m.act.register_forward_hook(lambda module, given, y: y * 0.5),
    "hook before": lambda m: m.conv.register_forward_pre_hook(lambda module, given: (given[0] + 1,)),
    "hook back": lambda m: m.norm.register_full_backward_hook(lambda module, dx, dy: (dx[0] * 2,)),
    "hook on a parameter": lambda m: m.head.weight.register_hook(lambda delta: delta * 3),
    "hook on the model": lambda m: m.register_forward_pre_hook(lambda module, given: (given[0] * 2, *given[1:])),
    "class": lambda m: setattr(type(m), "factor", -0.5),
    "global": lambda m: SETTINGS.update(shift=-0.4),
    "global list": lambda m: SETTINGS["gains"].__setitem__(0, 0.3),
    "array": lambda m: m.table.__setitem__(0, -1.0),
    "functions": lambda m: m.functions.append(torch.sigmoid),
    "to and fro": lambda m: m.double().float(),
    "weight norm": lambda m: None if hasattr(m.head, "parametrizations") else parametrizations.weight_norm(m.head),
    "copied": lambda m: None,  # the session does it
    "averaged": _average,
    "swap": _swap, "write": _write, "reload": _reload, "another layer": _another, "patched": _patched,
}  # fmt: skip
