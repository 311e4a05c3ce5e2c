"""A tensor that is cut into parts, by ``chunk`` or ``split``, and one of these chosen: shown as one call, x → part."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from convscope.graph.calls import Step
from convscope.inspect.trace import LayerTrace
from convscope.rules.reshape import Select, Split
from convscope.rules.tape import Tape


@dataclasses.dataclass(frozen=True)
class Part:
    """``length`` places from ``start`` on along ``dim`` of what the call ``cut`` reads."""

    cut: str
    dim: int
    start: int
    length: int

    def __call__(self, x: Tensor) -> Tensor:
        return x.narrow(self.dim, self.start, self.length)

    def alone(self, step: Step, cut: Step) -> Step:
        """The choice as a call of its own, on what the cut reads."""
        return dataclasses.replace(step, kind=cut.kind, function=self, arguments=cut.inputs, keywords={})


def parts_of(ran: Tape) -> dict[str, Part]:
    """By the name of the call that chooses."""
    cuts = {step.node: step for step in ran.steps if isinstance(step.rule, Split)}
    found: dict[str, Part] = {}
    for step in ran.steps:
        slot = step.sources[0] if isinstance(step.rule, Select) else None
        if slot is not None and slot.node in cuts:
            cut = cuts[slot.node]
            assert isinstance(cut.rule, Split)
            lengths = cut.rule.lengths
            found[step.name] = Part(cut.name, cut.rule.dim, sum(lengths[: slot.leaf]), lengths[slot.leaf])
    return found


def joined(records: Iterable[LayerTrace], parts: Mapping[str, Part]) -> list[LayerTrace]:
    """The calls of a trace, each part with the whole tensor as its input."""
    found = {record.name: record for record in records}
    for name, part in parts.items():
        record, x = found[name], found[part.cut].x
        back = tuple(_within(part, x, delta) for delta in record.grad_x)
        found[name] = dataclasses.replace(record, type=found[part.cut].type, inputs=(x,), grad_x=back)
    return list(found.values())


def _within(part: Part, x: Tensor, delta: Tensor) -> Tensor:
    whole = torch.zeros_like(x)
    part(whole).copy_(delta)
    return whole
